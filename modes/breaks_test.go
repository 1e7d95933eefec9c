// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"reflect"
	"slices"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// breaks says why a statement may end its rule before what follows it, "" if it never
// does (the expressions' eval functions in net/netfilter).
func breaks(n rules.Node) string {
	a, isAssign := n.(rules.Assign)
	_, isTProxy := n.(rules.TProxy)
	switch {
	case isTProxy:
		return "no transparent socket listens, or none of the packet's family" // nft_tproxy_eval_v4, _v6
	case !isAssign || a.From == 0 || a.From == rules.MetaMark.Selector():
		// redirect and snat end in accept, or drop where the interface has no address
		// (nf_nat_redirect); a constant is set in any case, or without a connection to no
		// effect (nft_ct_set_eval, nft_ct_set_zone_eval); a packet always has a mark.
		return ""
	}
	return "there is nothing to read: " + a.From.String() // without a connection or a socket
}

// decided reports whether the rules that follow, but for others that hand a packet over,
// end with one that ends a bare SYN, or every datagram for this host.
func decided(rest []rules.Rule) bool {
	bareSYN := rules.TCPFlags.Masked(rules.SYN, rules.FIN|rules.SYN|rules.RST|rules.ACK)
	for _, r := range rest {
		for _, want := range [][]rules.Node{
			{bareSYN, rules.Counter{}, rules.Drop()}, {bareSYN, rules.Counter{}, rules.Reject{}},
			{rules.Counter{}, rules.Drop()}, {rules.FibDaddr.Type().Is(rules.Local), rules.Counter{}, rules.Drop()},
		} {
			if reflect.DeepEqual(r.Nodes, want) {
				return true
			}
		}
		if !slices.ContainsFunc(r.Nodes, func(n rules.Node) bool { _, isTProxy := n.(rules.TProxy); return isTProxy }) {
			return false
		}
	}
	return false
}

// TestWhatBreaksIsFollowedByADecision: in no mode does a rule whose statement may
// break before its verdict let the packet on to the application.
func TestWhatBreaksIsFollowedByADecision(t *testing.T) {
	found := 0
	for _, g := range goldens {
		state, _, err := State(g.config, g.env)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range state.Table.Chains {
			for i, r := range c.Rules {
				at := slices.IndexFunc(r.Nodes, func(n rules.Node) bool { return breaks(n) != "" })
				if at < 0 || at == len(r.Nodes)-1 {
					continue // nothing that does not happen
				}
				found++
				if !decided(c.Rules[i+1:]) {
					t.Errorf("%s: chain %s: %q may break (%s), and nothing decides about a bare SYN or a datagram then", g.name, c.Name, r.Reason, breaks(r.Nodes[at]))
				}
			}
		}
	}
	if found == 0 {
		t.Error("no rule that may break was found")
	}
}
