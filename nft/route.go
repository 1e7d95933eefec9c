package nft

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/rtnl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// routing is what a namespace holds of the kinds that a State lists.
type routing struct {
	policyRules []liveRule
	routes      []liveRoute
	addresses   []liveAddress // all of the loopback interface's
	odd         []oddity
}

type liveRule struct {
	rules.PolicyRule
	ours bool
}

type liveRoute struct {
	rules.Route
	ours bool
}

type liveAddress struct {
	netip.Prefix
	ours bool // known by its protocol, since Linux 5.18; else the tag knows
}

// oddity is a policy rule or a route that is marked as ours and says what no
// State can: somebody changed it.
type oddity struct {
	where, text string
	newType     uint16
	raw         []byte // as the kernel lists it, and wants it to take it out or in
}

// routingChange is what to do to the routing: oddities go, then additions come
// before the rules that need them, deletions after.
type routingChange struct {
	odd         []oddity
	add, remove rules.State
}

func (r routingChange) empty() bool {
	return len(r.odd)+len(r.add.Routing())+len(r.remove.Routing()) == 0
}

// ours is the part of a State that the namespace holds: what is marked as ours,
// what of wanted is there by anyone's hand, and which of the tag's addresses
// are left.
func (r routing) ours(wanted rules.State, tag *Tag) rules.State {
	var s rules.State
	for _, l := range r.policyRules {
		if l.ours || slices.Contains(wanted.PolicyRules, l.PolicyRule) {
			s.PolicyRules = append(s.PolicyRules, l.PolicyRule)
		}
	}
	for _, l := range r.routes {
		if l.ours || slices.Contains(wanted.Routes, l.Route) {
			s.Routes = append(s.Routes, l.Route)
		}
	}
	for _, a := range r.addresses {
		if slices.Contains(wanted.Addresses, a.Prefix) || a.addedBy(tag) {
			s.Addresses = append(s.Addresses, a.Prefix)
		}
	}
	return s
}

// addedBy reports whether the address was not there before an apply.
func (a liveAddress) addedBy(tag *Tag) bool {
	return a.ours || tag != nil && slices.Contains(tag.Added, a.Prefix)
}

// withoutForeign is the wanted state less what of its routing stands there by
// another's hand: what remains is known as ours without the wanted state.
func (r routing) withoutForeign(wanted rules.State) rules.State {
	own := r.ours(rules.State{}, nil)
	others := r.ours(wanted, nil)
	wanted.PolicyRules = without(wanted.PolicyRules, without(others.PolicyRules, own.PolicyRules))
	wanted.Routes = without(wanted.Routes, without(others.Routes, own.Routes))
	return wanted
}

// change is what turns the live routing into the wanted one.
func (r routing) change(wanted rules.State, tag *Tag) routingChange {
	have := r.ours(wanted, tag)
	return routingChange{
		odd: r.odd,
		add: rules.State{
			PolicyRules: without(wanted.PolicyRules, have.PolicyRules),
			Routes:      without(wanted.Routes, have.Routes),
			Addresses:   without(wanted.Addresses, have.Addresses),
		},
		remove: rules.State{
			PolicyRules: append(without(have.PolicyRules, wanted.PolicyRules), r.twins()...),
			Routes:      without(have.Routes, wanted.Routes),
			Addresses:   without(have.Addresses, wanted.Addresses),
		},
	}
}

// differences are what no State can say.
func (r routing) differences() []rules.Difference {
	var d []rules.Difference
	for _, o := range r.odd {
		d = append(d, rules.Difference{Where: o.where, Have: o.text})
	}
	for _, t := range r.twins() {
		d = append(d, rules.Difference{Where: "policy rule", Have: t.String() + ", once more"})
	}
	return d
}

// twins are rules of ours that stand there more than once: the kernel accepts
// them, and takes out one at a time.
func (r routing) twins() []rules.PolicyRule {
	var seen, again []rules.PolicyRule
	for _, l := range r.policyRules {
		if !l.ours {
			continue
		}
		if slices.Contains(seen, l.PolicyRule) {
			again = append(again, l.PolicyRule)
		}
		seen = append(seen, l.PolicyRule)
	}
	return again
}

func without[T comparable](list, minus []T) []T {
	var out []T
	for _, v := range list {
		if !slices.Contains(minus, v) {
			out = append(out, v)
		}
	}
	return out
}

// readRouting dumps the policy rules, our routes and those of the wanted
// tables, and the addresses of the loopback interface. What the tags of tables
// beside ours tell of is theirs.
func (c *Conn) readRouting(ctx context.Context, wanted rules.State, beside []*Tag) (routing, error) {
	var r routing
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if err := c.policyRules(ctx, f, &r); err != nil {
			return r, err
		}
		if err := c.routes(ctx, f, routeFilter{protocol: rules.RouteProtocol}, &r); err != nil {
			return r, err
		}
	}
	for _, w := range wanted.Routes {
		if err := c.routes(ctx, w.Family, routeFilter{table: w.Table}, &r); err != nil {
			return r, err
		}
	}
	var err error
	r.addresses, err = c.loopbackAddresses(ctx)
	for _, tag := range beside {
		r.leave(tag)
	}
	return r, err
}

// leave takes what another table's tag tells of for another's.
func (r *routing) leave(tag *Tag) {
	for i, l := range r.policyRules {
		r.policyRules[i].ours = l.ours && !slices.Contains(tag.Routing, l.PolicyRule.String())
	}
	for i, l := range r.routes {
		r.routes[i].ours = l.ours && !slices.Contains(tag.Routing, l.Route.String())
	}
	for i, a := range r.addresses {
		r.addresses[i].ours = a.ours && !slices.Contains(tag.Added, a.Prefix)
	}
}

// ForeignPolicyRules are the policy rules of others that look up a table by mark
// alone.
func (c *Conn) ForeignPolicyRules(ctx context.Context) ([]rules.PolicyRule, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var r routing
	err := again(ctx, func() error {
		r = routing{}
		return each([]rules.Family{rules.IPv4, rules.IPv6}, func(f rules.Family) error { return c.policyRules(ctx, f, &r) })
	})
	if err != nil {
		return nil, err
	}
	var out []rules.PolicyRule
	for _, l := range r.policyRules {
		if !l.ours {
			out = append(out, l.PolicyRule)
		}
	}
	return out, nil
}

// policyRules dumps the rules of one family that look up a table by mark. The
// rtnetlink library refuses rules with attributes that it does not know, which
// others may have: they are decoded here.
func (c *Conn) policyRules(ctx context.Context, f rules.Family, into *routing) error {
	return rtnl.Each(ctx, c.route, unix.RTM_GETRULE, byte(f), rtnl.RuleHeader, "policy rules", func(data []byte) error {
		a, err := nl.Decode(data[rtnl.RuleHeader:])
		r, plain := liftPolicyRule(f, data[:rtnl.RuleHeader], a)
		switch {
		case err != nil:
			return err
		case plain:
			into.policyRules = append(into.policyRules, r)
		case r.ours:
			into.odd = append(into.odd, oddity{"policy rule", r.String() + ", with more to it", unix.RTM_NEWRULE, data})
		}
		return nil
	})
}

// liftPolicyRule lifts a rule; plain is false for one that does not say a mark
// and a table alone.
func liftPolicyRule(f rules.Family, header []byte, a nl.Attributes) (r liveRule, plain bool) {
	r = liveRule{PolicyRule: rules.PolicyRule{
		Family:   f,
		Priority: a.Native32(unix.FRA_PRIORITY),
		Mark:     rules.Mark(a.Native32(unix.FRA_FWMARK)),
		Mask:     rules.Mark(a.Native32(unix.FRA_FWMASK)),
		Table:    a.Native32(unix.FRA_TABLE),
	}}
	protocol := a.Take(unix.FRA_PROTOCOL)
	r.ours = len(protocol) == 1 && protocol[0] == rules.RouteProtocol
	suppress := a.Take(unix.FRA_SUPPRESS_PREFIXLEN) // told always, -1 for none
	const action, flags = 7, 8
	return r, a.AllTaken() && (suppress == nil || ^nl.Native32(suppress) == 0) && r.Mask != 0 && nl.Native32(header[flags:]) == 0 &&
		header[1] == 0 && header[2] == 0 && header[3] == 0 && header[action] == unix.FR_ACT_TO_TBL
}

type routeFilter struct {
	protocol uint8
	table    uint32
}

// routes dumps the routes that the filter names: those that deliver locally,
// and what else is marked as ours.
func (c *Conn) routes(ctx context.Context, f rules.Family, filter routeFilter, into *routing) error {
	request := rtnetlink.RouteMessage{Family: uint8(f), Protocol: filter.protocol, Attributes: rtnetlink.RouteAttributes{Table: filter.table}}
	payload, err := request.MarshalBinary()
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	msgs, err := dump(ctx, c.route, unix.RTM_GETROUTE, payload)
	if rtnl.Absent(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, m := range msgs {
		var r rtnetlink.RouteMessage
		if err := r.UnmarshalBinary(m.Data); err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		ours := r.Protocol == rules.RouteProtocol
		if r.Family != uint8(f) || ours != (filter.protocol == rules.RouteProtocol) {
			continue
		}
		route := rules.Route{Family: f, Table: routeTable(r), Dst: routeDst(r)}
		switch {
		case deliversLocally(r):
			into.routes = append(into.routes, liveRoute{route, ours})
		case ours:
			text := fmt.Sprintf("another route of %s to %s in table %d", f, route.Dst, route.Table)
			into.odd = append(into.odd, oddity{"route", text, unix.RTM_NEWROUTE, m.Data})
		}
	}
	return nil
}

// deliversLocally reports whether the route is `local ... dev lo` and no more.
func deliversLocally(r rtnetlink.RouteMessage) bool {
	usual := uint32(0)
	if r.Family == unix.AF_INET6 {
		usual = 1024 // IP6_RT_PRIO_USER of linux/ipv6_route.h
	}
	a := r.Attributes
	return r.Type == unix.RTN_LOCAL && a.OutIface == rtnl.Loopback && a.Priority == usual && r.Tos == 0 && r.SrcLength == 0 &&
		a.Gateway == nil && a.Src == nil && a.Multipath == nil
}

func routeTable(r rtnetlink.RouteMessage) uint32 {
	if r.Attributes.Table != 0 {
		return r.Attributes.Table
	}
	return uint32(r.Table)
}

func routeDst(r rtnetlink.RouteMessage) netip.Prefix {
	addr, ok := netip.AddrFromSlice(r.Attributes.Dst)
	if !ok {
		addr = netip.IPv4Unspecified()
		if r.Family == unix.AF_INET6 {
			addr = netip.IPv6Unspecified()
		}
	}
	return netip.PrefixFrom(addr.Unmap(), int(r.DstLength))
}

func (c *Conn) loopbackAddresses(ctx context.Context) ([]liveAddress, error) {
	all, err := rtnl.Addresses(ctx, c.route, rtnl.Loopback)
	if err != nil {
		return nil, err
	}
	var out []liveAddress
	for _, a := range all {
		if a.Index == rtnl.Loopback {
			out = append(out, liveAddress{a.Prefix, a.Protocol == rules.RouteProtocol || slices.Contains(c.added, a.Prefix)})
		}
	}
	return out, nil
}

// addRouting adds all of s or nothing, and tells what was not there before.
func (c *Conn) addRouting(ctx context.Context, s rules.State) (added rules.State, err error) {
	if err := c.eachRouting(ctx, s, true, &added); err != nil {
		return rules.State{}, errors.Join(err, c.removeRouting(context.WithoutCancel(ctx), added))
	}
	return added, nil
}

// eachOdd takes out what somebody made of ours, or puts it back; what is not there,
// or is there, is no error.
func (c *Conn) eachOdd(ctx context.Context, odd []oddity, add bool) error {
	return each(odd, func(o oddity) error { return c.change(ctx, add, o.newType, o.raw, o.text, func() {}) })
}

// removeRouting takes s out; what is not there is no error.
func (c *Conn) removeRouting(ctx context.Context, s rules.State) error {
	return c.eachRouting(ctx, s, false, nil)
}

// eachRouting adds addresses, then routes, then rules, noting what was done, or
// removes them in the opposite order.
func (c *Conn) eachRouting(ctx context.Context, s rules.State, add bool, done *rules.State) error {
	steps := []func() error{
		func() error {
			return each(s.Addresses, func(a netip.Prefix) error {
				c.added = without(c.added, []netip.Prefix{a})
				return c.address(ctx, a, add, func() {
					c.added = append(c.added, a)
					done.Addresses = append(done.Addresses, a)
				})
			})
		},
		func() error {
			return each(s.Routes, func(r rules.Route) error {
				return c.localRoute(ctx, r, add, func() { done.Routes = append(done.Routes, r) })
			})
		},
		func() error {
			return each(s.PolicyRules, func(r rules.PolicyRule) error {
				return c.policyRule(ctx, r, add, func() { done.PolicyRules = append(done.PolicyRules, r) })
			})
		},
	}
	if !add {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func each[T any](list []T, do func(T) error) error {
	for _, v := range list {
		if err := do(v); err != nil {
			return err
		}
	}
	return nil
}

// change sends one request. Adding what is there and removing what is not are
// no errors; added is called when something was added.
func (c *Conn) change(ctx context.Context, add bool, newType uint16, payload []byte, what string, added func()) error {
	h := netlink.Header{Type: netlink.HeaderType(newType), Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl}
	if !add {
		h.Type++ // RTM_DEL* follows RTM_NEW*
		h.Flags = netlink.Request | netlink.Acknowledge
	}
	_, err := execute(ctx, c.route, netlink.Message{Header: h, Data: payload})
	switch {
	case err == nil && add:
		added()
		return nil
	case err == nil, add && errors.Is(err, unix.EEXIST):
		return nil
	case !add && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EADDRNOTAVAIL)):
		return nil
	case errors.Is(err, unix.ENETDOWN):
		return &RejectedError{Where: what, Err: err, Hint: "lo is down: set it up first"}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT):
		return &RejectedError{Where: what, Err: err, Hint: "IPv6 is off here: see net.ipv6.conf.lo.disable_ipv6"}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (c *Conn) address(ctx context.Context, a netip.Prefix, add bool, added func()) error {
	const hostScope, noDAD = 254, 2 // RT_SCOPE_HOST, IFA_F_NODAD
	m := &rtnetlink.AddressMessage{
		Family:       family(a),
		PrefixLength: uint8(a.Bits()),
		Scope:        hostScope,
		Index:        rtnl.Loopback,
		Attributes:   &rtnetlink.AddressAttributes{Address: a.Addr().AsSlice(), Local: a.Addr().AsSlice(), Flags: noDAD},
	}
	payload, err := m.MarshalBinary()
	if err != nil {
		return fmt.Errorf("%s: %w", rules.AddressText(a), err)
	}
	if add { // kernels before Linux 5.18 pass over it
		payload = attribute{typ: rtnl.AddressProtocol, data: []byte{rules.RouteProtocol}}.appendTo(payload)
	}
	return c.change(ctx, add, unix.RTM_NEWADDR, payload, rules.AddressText(a), added)
}

func family(a netip.Prefix) uint8 { return uint8(rules.AddressFamily(a.Addr())) }

func (c *Conn) localRoute(ctx context.Context, r rules.Route, add bool, added func()) error {
	m := &rtnetlink.RouteMessage{
		Family:     uint8(r.Family),
		DstLength:  uint8(r.Dst.Bits()),
		Protocol:   rules.RouteProtocol,
		Type:       unix.RTN_LOCAL,
		Attributes: rtnetlink.RouteAttributes{Table: r.Table, OutIface: rtnl.Loopback},
	}
	if r.Family == rules.IPv4 {
		m.Scope = unix.RT_SCOPE_HOST
	}
	if r.Dst.Bits() > 0 {
		m.Attributes.Dst = r.Dst.Addr().AsSlice()
	}
	payload, err := m.MarshalBinary()
	if err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	return c.change(ctx, add, unix.RTM_NEWROUTE, payload, r.String(), added)
}

func (c *Conn) policyRule(ctx context.Context, r rules.PolicyRule, add bool, added func()) error {
	mark, mask, protocol := uint32(r.Mark), uint32(r.Mask), uint8(rules.RouteProtocol)
	m := &rtnetlink.RuleMessage{
		Family: uint8(r.Family),
		Action: unix.FR_ACT_TO_TBL,
		Attributes: &rtnetlink.RuleAttributes{
			Priority: &r.Priority, FwMark: &mark, FwMask: &mask, Table: &r.Table, Protocol: &protocol,
		},
	}
	payload, err := m.MarshalBinary()
	if err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	return c.change(ctx, add, unix.RTM_NEWRULE, payload, r.String(), added)
}
