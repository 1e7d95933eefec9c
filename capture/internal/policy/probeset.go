// SPDX-License-Identifier: Apache-2.0

//go:build linux

package policy

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
)

// ProbeSet is the pods that a table exempts now, by their addresses, and what is to
// change of them.
type ProbeSet struct {
	Now     map[netip.Addr]string
	changes map[rules.Family]*rules.SetChange
}

// NewProbeSet reads a table's probe set. The error is ErrNoProbeSet.
func NewProbeSet(t *rules.Table) (*ProbeSet, error) {
	p := &ProbeSet{Now: map[netip.Addr]string{}, changes: map[rules.Family]*rules.SetChange{}}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if t == nil {
			return nil, ErrNoProbeSet
		}
		s := t.Set(modes.ProbeSet(f))
		if s == nil || !s.Live {
			return nil, ErrNoProbeSet
		}
		p.changes[f] = &rules.SetChange{Set: s}
		for _, e := range s.Elements {
			if a, ok := netip.AddrFromSlice([]byte(e.Key[0].Lo)); ok {
				p.Now[a] = e.Comment
			}
		}
	}
	return p, nil
}

// Add gives addresses to pods, whichever has them now.
func (p *ProbeSet) Add(pods map[netip.Addr]string) {
	for a, uid := range pods {
		change := p.changes[rules.AddressFamily(a)]
		now, there := p.Now[a]
		switch {
		case there && now == uid:
			continue
		case there:
			change.Delete = append(change.Delete, probeElement(a, now))
		}
		change.Add = append(change.Add, probeElement(a, uid))
	}
}

// Delete takes addresses that are still those pods'.
func (p *ProbeSet) Delete(pods map[netip.Addr]string) {
	for a, uid := range pods {
		if p.Now[a] == uid {
			p.drop(a)
		}
	}
}

// Set leaves exactly these.
func (p *ProbeSet) Set(pods map[netip.Addr]string) {
	for a := range p.Now {
		if _, stays := pods[a]; !stays {
			p.drop(a)
		}
	}
	p.Add(pods)
}

func (p *ProbeSet) drop(a netip.Addr) {
	change := p.changes[rules.AddressFamily(a)]
	change.Delete = append(change.Delete, probeElement(a, p.Now[a]))
}

// Changes are what makes it so.
func (p *ProbeSet) Changes() []rules.SetChange {
	var out []rules.SetChange
	for _, f := range slices.Sorted(maps.Keys(p.changes)) {
		if change := p.changes[f]; len(change.Add)+len(change.Delete) > 0 {
			out = append(out, *change)
		}
	}
	return out
}

func probeElement(a netip.Addr, uid string) rules.Element {
	return rules.Element{Key: []rules.Range{rules.RangeOf(netip.PrefixFrom(a, a.BitLen()))}, Comment: uid}
}
