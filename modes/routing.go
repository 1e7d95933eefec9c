// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"

	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/rules"
)

// routing delivers packets with a mark to this host, whatever their destination.
type routing struct {
	families   []rules.Family
	mark, mask rules.Mark
	table      uint32 // 0: nothing is routed
	priority   uint32
}

// marked matches packets with the mark; the bits outside the mask are others'.
func (g routing) marked() rules.Match { return rules.MetaMark.Masked(g.mark, g.mask) }

// setMark gives a packet the mark, and leaves others' bits as they are. A mark is
// set as a constant, never copied: an expression that reads the packet's mark and
// the connection's takes Linux 6.13.
func (g routing) setMark() rules.Assign { return rules.MetaMark.SetMasked(g.mark, g.mask) }

const everyBit = ^rules.Mark(0)

// alike reports whether packets with one of two marks match the other. A mark
// without a mask was not read.
func alike(a, aMask, b, bMask rules.Mark) bool {
	return aMask != 0 && bMask != 0 && (a&bMask == b || b&aMask == a)
}

// routing reads how packets with a mark are delivered. A mark without a mask is under
// that one.
func (r *reader) routing(g Routing, families []rules.Family, mask rules.Mark) routing {
	out := routing{families: families, table: r.routingTable(g.Table)}
	out.mark, out.mask = r.mark("routing.mark", g.Mark, mask)
	out.priority = r.priority(g.Priority, out)
	return out
}

// routingTable reads a table, 0 for none. The main and the local table are no
// place for a default route; the reference takes the local one all the same, and istio-init
// says so by its name.
func (r *reader) routingTable(word string) uint32 {
	const key = "routing.table"
	switch {
	case parse.IsNone(word):
		r.note(key, "none: marked packets are routed as others are")
		return 0
	case word == "local":
		r.note(key, "local: every packet is delivered to this pod, whatever its destination")
		return rules.LocalTable
	}
	table := r.number(key, word, 1, 1<<32-1)
	if table == rules.MainTable || table == rules.LocalTable {
		r.problem(key, word, "is one of the system's own tables")
	}
	return table
}

// noteUnreachable notes that what redirect sends to ::1 does not arrive.
func (r *reader) noteUnreachable(via string, families []rules.Family) {
	if via != viaNone && len(families) > 1 && !r.env.LoopbackIPv6 {
		r.note("outbound.via", "IPv6 connections that are captured cannot reach the proxy: IPv6 is disabled on lo")
	}
}

// routed are those of the families whose packets a route over lo can deliver.
func (r *reader) routed(families []rules.Family, table string) []rules.Family {
	if len(families) == 1 || r.env.LoopbackIPv6 {
		return families
	}
	r.note("routing", "table %s gets no IPv6 route: IPv6 is disabled on lo", table)
	return []rules.Family{rules.IPv4}
}

// deliver adds the policy rules and routes.
func (g routing) deliver(state *rules.State) {
	everywhere := map[rules.Family]netip.Prefix{
		rules.IPv4: netip.PrefixFrom(netip.IPv4Unspecified(), 0),
		rules.IPv6: netip.PrefixFrom(netip.IPv6Unspecified(), 0),
	}
	if g.table == 0 {
		return
	}
	mask := g.mask
	if g.mark == 0 { // the reference's rule for it has no condition
		mask = 0
	}
	for _, f := range g.families {
		state.PolicyRules = append(state.PolicyRules, rules.PolicyRule{Family: f, Priority: g.priority, Mark: g.mark, Mask: mask, Table: g.table})
		state.Routes = append(state.Routes, rules.Route{Family: f, Table: g.table, Dst: everywhere[f]})
	}
}
