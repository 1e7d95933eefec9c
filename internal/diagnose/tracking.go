// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/conflict"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// trackers are the chains that switch connection tracking on in the namespace, by rules
// that need it: one of them is enough, whatever packets it sees.
func trackers(tables []*nft.LiveTable, legacy []netns.LegacyTable) (out []string) {
	for _, t := range tables {
		for _, c := range t.Chains {
			if tracks(c) {
				out = append(out, fmt.Sprintf("chain %s of table %s", escape.Text(c.Name), t.Title()))
			}
		}
	}
	for _, t := range legacy {
		if t.Name == "nat" && t.Rules > 0 {
			out = append(out, fmt.Sprintf("iptables-legacy's table %s nat", t.Family))
		}
	}
	return out
}

func tracks(c *rules.Chain) bool {
	for _, r := range c.Rules {
		for _, n := range r.Nodes {
			if o, unknown := n.(rules.Opaque); unknown {
				if opaqueTracks(o) {
					return true
				}
				continue // the model takes it for all that it may be
			}
			alone := rules.Table{Chains: []*rules.Chain{{Rules: []rules.Rule{{Nodes: []rules.Node{n}}}}}}
			if alone.Tracks(rules.IPv4) || alone.Tracks(rules.IPv6) {
				return true
			}
		}
	}
	return false
}

// opaqueTracks reports whether an expression that the model does not know needs connection
// tracking: nftables' own by name, those of xtables by their extension.
func opaqueTracks(o rules.Opaque) bool {
	needing := []string{"ct", "nat", "masq", "redir", "synproxy", "connlimit", "ct_fallback",
		"conntrack", "state", "connmark", "connbytes", "connlabel", "cluster", "helper",
		"DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "CONNMARK", "CONNSECMARK", "SYNPROXY"}
	return slices.ContainsFunc(strings.Fields(o.Name), func(word string) bool { return slices.Contains(needing, word) })
}

// trackingCheck tells what switches connection tracking on, and what that costs captured
// connections.
func trackingCheck(f Facts) []Check {
	if f.readErr != nil {
		return nil
	}
	c := Check{"connection tracking", Passed, "nothing here switches it on: no connection takes an entry", ""}
	by := strings.Join(f.trackers, ", ")
	_, _, untracked := conflict.ProxyMark(f.state)
	switch {
	case by == "":
	case untracked:
		c.Status = Noted
		c.Finding = "is switched on by " + by + ": what is captured passes it by and takes no entry, all else that this namespace sends and receives takes one"
		c.Remedy = "take those rules away where nothing else needs them"
	case f.state.Table == nil:
		c.Finding = "is switched on by " + by + ": each connection takes an entry"
	default:
		c.Finding = "is switched on by " + by + ": a captured connection takes an entry, and the proxy's connection onwards another"
	}
	return []Check{c}
}
