// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// routing is what a namespace holds of the kinds that a State lists.
type routing struct {
	policyRules []liveRule
	routes      []liveRoute
	addresses   []liveAddress // all of the loopback interface's
	odd         []oddity
	gone        []rules.Route // that the tag tells of, whose interfaces have gone
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

// oddity is a policy rule or a route that carries weir's protocol number and says what no
// State can: another program changed it.
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

// ours is the part of a State that the namespace holds: what carries weir's protocol
// number, what is wanted and there, added by any program, and which of the tag's addresses
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

// withoutForeign is the wanted state without the routing that another program added:
// what remains is known as weir's without the wanted state.
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

// twins are weir's policy rules that stand there more than once: the kernel accepts
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
