// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/rules"
)

// maxPrefixSet is how many prefixes a set holds before it is divided. The kernel dumps a
// set in messages of 32 KiB and walks it from its start for each: the time to read it back
// grows with the square of its size.
const maxPrefixSet = 16384

var (
	daddrKeys = map[rules.Family]rules.Key[netip.Prefix]{rules.IPv4: rules.IPDaddr, rules.IPv6: rules.IP6Daddr}
	networks  = map[rules.Family]netip.Prefix{rules.IPv4: netip.MustParsePrefix("0.0.0.0/0"), rules.IPv6: netip.MustParsePrefix("::/0")}
)

// ofFamily are the prefixes of a family.
func ofFamily(list []netip.Prefix, f rules.Family) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(list), func(p netip.Prefix) bool { return rules.AddressFamily(p.Addr()) != f })
}

// prefixes declares the sets of a list of prefixes, once, for the families that it has some
// of. The rules that look up a divided list are written for each part of it.
func (w *writer) prefixes(name string, list []netip.Prefix) rules.SetOf[netip.Prefix] {
	return w.prefixSets(name, list, maxPrefixSet, false)
}

// everyPrefixSet is prefixes for each family, whether or not the list has some of it.
func (w *writer) everyPrefixSet(name string, list []netip.Prefix) rules.SetOf[netip.Prefix] {
	return w.prefixSets(name, list, maxPrefixSet, true)
}

// wholeSets is prefixes of a list that is not divided, however long.
func (w *writer) wholeSets(name string, list []netip.Prefix) rules.SetOf[netip.Prefix] {
	return w.prefixSets(name, list, len(list), false)
}

func (w *writer) prefixSets(name string, list []netip.Prefix, largest int, every bool) rules.SetOf[netip.Prefix] {
	if _, declared := w.parts[name]; declared {
		return rules.SetOf[netip.Prefix]{Name: name}
	}
	w.parts[name] = []part{}
	for _, f := range w.families {
		own := ofFamily(list, f)
		if len(own) == 0 && !every {
			continue
		}
		for _, p := range divided(networks[f], own, largest) {
			ranges := make([]rules.Range, len(p.list))
			for i, prefix := range p.list {
				ranges[i] = rules.RangeOf(prefix)
			}
			daddrKeys[f].AddSet(w.table, f.SetName(p.set(name)), ranges...)
			w.parts[name] = append(w.parts[name], p)
		}
	}
	return rules.SetOf[netip.Prefix]{Name: name}
}

// eachPart is a rule's nodes for each part of a list that they look up.
func (w *writer) eachPart(nodes []rules.Node) [][]rules.Node {
	at := slices.IndexFunc(nodes, func(n rules.Node) bool {
		m, ok := n.(rules.Match)
		return ok && slices.ContainsFunc(w.parts[m.Set], func(p part) bool { return p.network.Bits() > 0 })
	})
	if at < 0 {
		return [][]rules.Node{nodes}
	}
	var out [][]rules.Node
	lookup := nodes[at].(rules.Match)
	for _, p := range w.parts[lookup.Set] {
		match := lookup
		match.Set = p.set(lookup.Set)
		matches := []rules.Node{match}
		if p.network.Bits() > 0 { // cheaper than the lookup: most parts are passed by it
			within := rules.Match{Key: lookup.Key, Elements: []rules.Element{{Key: []rules.Range{rules.RangeOf(p.network)}}}}
			matches = []rules.Node{within, match}
		}
		out = append(out, slices.Replace(slices.Clone(nodes), at, at+1, matches...))
	}
	return out
}

// part is what a list has within a network.
type part struct {
	network netip.Prefix
	list    []netip.Prefix
}

// set is the name of the part's set: the list's own where it was not divided.
func (p part) set(name string) string {
	if p.network.Bits() == 0 {
		return name
	}
	return name + "_" + strings.NewReplacer(":", "-", "/", "_").Replace(p.network.String())
}

// divided halves a network until each part of the list fits a set. What is added to the
// list later changes the part that it belongs to alone.
func divided(network netip.Prefix, list []netip.Prefix, largest int) []part {
	if len(list) > largest {
		return halved(network, disjoint(list), largest)
	}
	slices.SortFunc(list, netip.Prefix.Compare) // here, for what is kept with the elements is larger
	return []part{{network, list}}
}

func halved(network netip.Prefix, sorted []netip.Prefix, largest int) []part {
	switch {
	case len(sorted) == 0:
		return nil
	case len(sorted) <= largest:
		return []part{{network, sorted}}
	}
	lower, upper := halves(network)
	at, _ := slices.BinarySearchFunc(sorted, upper, netip.Prefix.Compare)
	return slices.Concat(halved(lower, sorted[:at], largest), halved(upper, sorted[at:], largest))
}

// halves are the two networks that make up one.
func halves(p netip.Prefix) (lower, upper netip.Prefix) {
	bytes := p.Addr().AsSlice()
	bytes[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	second, _ := netip.AddrFromSlice(bytes)
	return netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(second, p.Bits()+1)
}

// disjoint are the prefixes that no other of the list contains, sorted.
func disjoint(list []netip.Prefix) []netip.Prefix {
	slices.SortFunc(list, netip.Prefix.Compare)
	kept := list[:0]
	for _, p := range list {
		if len(kept) == 0 || !kept[len(kept)-1].Contains(p.Addr()) {
			kept = append(kept, p)
		}
	}
	return kept
}
