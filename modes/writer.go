// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/continuity"
	"github.com/weir-mesh/weir/rules"
)

// writer builds a table for some families.
type writer struct {
	table    *rules.Table
	families []rules.Family
	parts    map[string][]part // of the sets of prefixes, by their name
}

func newWriter(table string, families []rules.Family) *writer {
	return &writer{table: &rules.Table{Name: table}, families: families, parts: map[string][]part{}}
}

// chainWriter appends to one chain.
type chainWriter struct {
	*writer
	*rules.Chain
}

// has reports whether a chain of that name was begun.
func (w *writer) has(name string) bool { return w.table.Chain(name) != nil }

func (w *writer) chain(name string) *chainWriter {
	c := &rules.Chain{Name: name}
	w.table.Chains = append(w.table.Chains, c)
	return &chainWriter{w, c}
}

// base starts a base chain. A table of family inet sees IPv6 whether or not
// anyone thought of it, so where it is off it is left alone explicitly.
func (w *writer) base(name string, typ rules.ChainType, hook rules.Hook, priority int32) *chainWriter {
	c := w.chain(name)
	c.Base = &rules.Base{Type: typ, Hook: hook, Priority: priority}
	if !slices.Contains(w.families, rules.IPv6) {
		c.add("IPv6 is off in this configuration: left alone", rules.NFProto.Is(rules.IPv6), rules.Return())
	}
	if typ == rules.NATType && (hook == rules.Prerouting || hook == rules.Output) {
		c.keepOpenConnections()
	}
	return c
}

// keepOpenConnections has to come before whatever captures. Nat chains see first
// packets only: no other packet pays for it.
func (c *chainWriter) keepOpenConnections() {
	for _, f := range c.families {
		if s := continuity.OpenSet(f); c.table.Set(s.Name) == nil {
			c.table.Sets = append(c.table.Sets, s)
		}
		c.Rules = append(c.Rules, continuity.OpenRule(f))
	}
}

// add appends a rule, once for each family where it matches addresses and for each part
// of a set of prefixes, with a counter before its first statement.
func (c *chainWriter) add(reason string, nodes ...rules.Node) {
	at := slices.IndexFunc(nodes, func(n rules.Node) bool { _, isMatch := n.(rules.Match); return !isMatch })
	nodes = slices.Insert(slices.Clone(nodes), at, rules.Node(rules.Counter{}))
	c.lead(reason, nodes...)
}

// lead appends a rule that decides nothing, but leads to those that do. It has no counter:
// without conntrack every packet meets it, and what decides about the packet counts it.
func (c *chainWriter) lead(reason string, nodes ...rules.Node) {
	for _, nodes := range c.eachPart(nodes) {
		c.Rules = append(c.Rules, c.table.Expand(rules.Rule{Reason: reason, Nodes: nodes}, c.families...)...)
	}
}

// set declares a set of numbers and ranges of them, once.
func set[T interface {
	rules.UID | rules.GID | rules.CgroupID
}](w *writer, name string, key rules.Key[T], values []rules.Range) rules.SetOf[T] {
	if w.table.Set(name) != nil {
		return rules.SetOf[T]{Name: name}
	}
	return key.AddSet(w.table, name, sorted(values)...)
}

func portSet(w *writer, name string, ports []rules.Range) rules.SetOf[rules.Port] {
	if w.table.Set(name) != nil {
		return rules.SetOf[rules.Port]{Name: name}
	}
	return rules.TCPDport.AddSet(w.table, name, ports...)
}

// ports adds a rule for a set of ports, unless there are none.
func (c *chainWriter) ports(name string, key rules.Key[rules.Port], ports []rules.Range, reason string, then rules.Node) {
	if len(ports) > 0 {
		c.add(reason, key.InSet(portSet(c.writer, name, ports)), then)
	}
}

// interfaceSet is a match for the names and one for the wildcards of a list,
// which do not go into one set, where there are any. All interfaces take no match.
func (w *writer) interfaceSet(name string, key rules.Key[rules.IfName], list []rules.IfName) [][]rules.Node {
	if slices.ContainsFunc(list, everyInterface) {
		return [][]rules.Node{nil}
	}
	var matches [][]rules.Node
	for i, part := range splitNames(list) {
		if len(part) > 0 {
			matches = append(matches, []rules.Node{w.nameSet(name, key, part, i == wildcards)})
		}
	}
	return matches
}

// everyInterfaceSet is interfaceSet with both sets, empty or not.
func (w *writer) everyInterfaceSet(name string, key rules.Key[rules.IfName], list []rules.IfName) [][]rules.Node {
	if slices.ContainsFunc(list, everyInterface) {
		return [][]rules.Node{nil}
	}
	var matches [][]rules.Node
	for i, part := range splitNames(list) {
		matches = append(matches, []rules.Node{w.nameSet(name, key, part, i == wildcards)})
	}
	return matches
}

const wildcards = 1 // the second of what splitNames makes

// splitNames are the names and the wildcards of a list.
func splitNames(list []rules.IfName) (parts [2][]rules.Range) {
	for _, n := range list {
		part := 0
		if strings.HasSuffix(string(n), "*") {
			part = wildcards
		}
		parts[part] = append(parts[part], rules.RangeOf(n))
	}
	return parts
}

func (w *writer) nameSet(name string, key rules.Key[rules.IfName], ranges []rules.Range, wild bool) rules.Match {
	if wild {
		name += "_wild"
	}
	if w.table.Set(name) == nil {
		key.AddSet(w.table, name, ranges...)
		w.table.Set(name).Interval = wild
	}
	return key.InSet(rules.SetOf[rules.IfName]{Name: name})
}

// interfaces returns traffic of the listed interfaces.
func (c *chainWriter) interfaces(name string, key rules.Key[rules.IfName], list []rules.IfName, reason string) {
	for _, m := range c.interfaceSet(name, key, list) {
		c.add(reason, append(m, rules.Return())...)
	}
}

// loopbackIndex is that of the loopback interface in every network namespace
// (LOOPBACK_IFINDEX in the kernel): cheaper to compare than its name.
const loopbackIndex = rules.IfIndex(1)
