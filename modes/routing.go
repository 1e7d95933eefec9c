package modes

import (
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// routing delivers packets with a mark to this host, whatever their destination.
type routing struct {
	families   []rules.Family
	mark, mask rules.Mark
	table      uint32
	priority   uint32
}

// mainPriority is that of the rule for the main table, whose default route would take
// every packet first (FIB rules of net/ipv4/fib_rules.c).
const mainPriority = 32766

const everyBit = ^rules.Mark(0)

// routing reads all but the mark, which has a mask in some modes alone.
func (r *reader) routing(g Routing, families []rules.Family) routing {
	out := routing{
		families: families,
		table:    r.number("routing.table", g.Table, 1, 1<<32-1),
		priority: r.number("routing.priority", g.Priority, 1, mainPriority-1),
	}
	if out.table >= 253 && out.table <= 255 {
		r.problem("routing.table", g.Table, "is one of the system's own tables")
	}
	return out
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
	for _, f := range g.families {
		state.PolicyRules = append(state.PolicyRules, rules.PolicyRule{Family: f, Priority: g.priority, Mark: g.mark, Mask: g.mask, Table: g.table})
		state.Routes = append(state.Routes, rules.Route{Family: f, Table: g.table, Dst: everywhere[f]})
	}
}
