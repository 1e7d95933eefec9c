// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// policyRules judges each policy rule of others by what it alone changes.
func (j *judge) policyRules() (out []Conflict) {
	own := map[rules.Family]uint32{} // the priority of the state's rules that were met
	for _, r := range j.seen.PolicyRules {
		if j.owns(r) {
			own[r.Family] = max(own[r.Family], r.Priority)
		}
		if r.FromKernel() || j.owns(r) || own[r.Family] == r.Priority && own[r.Family] > 0 {
			continue // of equal rules the kernel asks those first that it lists first
		}
		h := j.host
		h.PolicyRules = append(slices.Clip(slices.Clone(h.PolicyRules)), r)
		if c, found := j.routed(h); found {
			c.Kind, c.Subject = PolicyRuleFirst, "policy rule "+policyRuleText(r)
			c.Does = fmt.Sprintf("comes before weir's and catches %s (such as %s)", list(c.Traffic), packetText(*c.Example))
			if c.May {
				c.Does = fmt.Sprintf("says what weir cannot evaluate, and may catch %s first", list(c.Traffic))
			}
			c.Remedy = fmt.Sprintf("weir apply with routing.priority: auto takes a place before it; or give it a priority number above weir's (ip %srule shows them)", ip6(r.Family))
			if r.Priority == 0 {
				c.Remedy = fmt.Sprintf("give it a priority number above weir's (ip %srule shows them): there is no place before priority 0, which auto could take", ip6(r.Family))
			}
			out = append(out, c)
		}
	}
	return out
}

// owns reports whether the state itself has the policy rule.
func (j *judge) owns(r sim.PolicyRule) bool {
	return slices.ContainsFunc(j.want.PolicyRules, func(w rules.PolicyRule) bool {
		return r == sim.PolicyRule{Family: w.Family, Priority: w.Priority, Mark: w.Mark, Mask: w.Mask, In: w.In, Table: w.Table, Goto: w.Goto}
	})
}

// routed says which traffic comes out differently where the state is on another host.
// The state's routing comes after an equal priority's, as what is added later does.
func (j *judge) routed(h sim.Host) (c Conflict, found bool) { return j.routedUnless(h, nil) }

// routedUnless leaves out the traffic that does not arrive without the state either.
func (j *judge) routedUnless(h sim.Host, without *sim.Evaluator) (c Conflict, found bool) {
	e := sim.NewEvaluator(h.With(j.want), sim.Table{Table: j.want.Table})
	var touched traffic
	c.May = true
	for _, k := range j.classes() {
		after := e.Connect(k.packet, nil)
		lost := func() bool {
			return without != nil && k.packet.In != "" && without.Evaluate(k.packet, nil).Fate.Kind == sim.LostInRouting
		}
		if same(j.exchange(k.packet), after) || lost() {
			continue
		}
		touched.add(k)
		c.May = c.May && unknown(after)
		if c.Example == nil {
			p := k.packet
			c.Example = &p
		}
	}
	c.Traffic = touched.words()
	return c, len(c.Traffic) > 0
}

func unknown(x sim.Exchange) bool {
	return x.First.Fate.Kind == sim.Unknown || x.Answer.Fate.Kind == sim.Unknown || x.Next.Fate.Kind == sim.Unknown
}

func ip6(f rules.Family) string {
	if f == rules.IPv6 {
		return "-6 "
	}
	return ""
}

// policyRuleText is a policy rule as ip-rule(8) lists it.
func policyRuleText(r sim.PolicyRule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", r.Priority)
	if r.Not {
		b.WriteString(" not")
	}
	from := "all"
	if r.From.IsValid() {
		from = prefixText(r.From)
	}
	b.WriteString(" from " + from)
	if r.To.IsValid() {
		b.WriteString(" to " + prefixText(r.To))
	}
	if r.Mask != 0 {
		fmt.Fprintf(&b, " fwmark 0x%x", uint32(r.Mark))
		if r.Mask != ^rules.Mark(0) {
			fmt.Fprintf(&b, "/0x%x", uint32(r.Mask))
		}
	}
	if r.In != "" {
		b.WriteString(" iif " + escape.Text(r.In))
	}
	fmt.Fprintf(&b, " lookup %d", r.Table)
	if r.Family == rules.IPv6 {
		b.WriteString(" (IPv6)")
	}
	return b.String()
}

func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// routes judges the routes of others in tables of the state's.
func (j *judge) routes() (out []Conflict) {
	for _, r := range j.seen.Routes {
		if !j.ownTable(r.Table) || j.ownRoute(r) {
			continue
		}
		h := j.host
		h.Routes = append(slices.Clip(slices.Clone(h.Routes)), r)
		if c, found := j.routed(h); found {
			c.Kind, c.Subject = RouteInPlace, fmt.Sprintf("route to %s by %s in table %d", r.Dst, escape.Text(r.Out), r.Table)
			c.Does = fmt.Sprintf("stands in a routing table of weir's and takes %s elsewhere", list(c.Traffic))
			c.Remedy = fmt.Sprintf("ip %sroute delete %s dev %s table %d, or another table for weir (key routing.table)", ip6(rules.AddressFamily(r.Dst.Addr())), r.Dst, escape.Text(r.Out), r.Table)
			out = append(out, c)
		}
	}
	return out
}

func (j *judge) ownRoute(r sim.Route) bool {
	return slices.ContainsFunc(j.want.Routes, func(w rules.Route) bool {
		return r.Table == w.Table && r.Dst == w.Dst && r.Type == rules.Local && r.Out == cmp.Or(string(w.Device), loopback)
	})
}

// addresses finds the state's addresses where they stand on an interface that is not lo.
func (j *judge) addresses() (out []Conflict) {
	for _, l := range j.seen.Links {
		for _, p := range l.Addresses {
			if l.Name != loopback && slices.ContainsFunc(j.want.Addresses, func(a netip.Prefix) bool { return a.Addr() == p.Addr() }) {
				out = append(out, Conflict{Kind: AddressElsewhere, Subject: fmt.Sprintf("address %s of %s", p, escape.Text(l.Name)),
					Does:   "is one that weir wants on lo: the proxy's passthrough calls would come from it",
					Remedy: fmt.Sprintf("ip address delete %s dev %s", p, escape.Text(l.Name))})
			}
		}
	}
	return out
}
