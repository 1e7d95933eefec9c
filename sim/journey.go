// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// Journey is a packet's way through a namespace: what decided, in order, and
// what became of it.
type Journey struct {
	Packet Packet // as it came, with the source that the kernel chose
	Steps  []Step
	Fate   Fate
}

// Step is one decision. A rule's says where the rule stands; the kernel's own
// (a route, an address turned back) has no chain.
type Step struct {
	Hook     rules.Hook
	Family   rules.Family // that the table sees, 0: both
	Netdev   bool         // the table is of family netdev
	Table    string
	Chain    string
	Type     rules.ChainType // of the base chain that led here,
	Priority int32
	Rule     int    // from 1; 0: the policy of the base chain, or a step of the kernel's
	Reason   string // of the rule
	Does     string // in nft's words where it is a rule's
	HandsOn  bool   // it gave the packet to a transparent socket
	Verdict  rules.Verdict
}

// FateKind is what became of a packet, in a word.
type FateKind uint8

// Fates.
const (
	Untouched     FateKind = iota // it goes where it wanted to go
	Redirected                    // its connection has another destination
	Proxied                       // a transparent socket gets it, addresses unchanged
	Dropped                       // by a rule
	LostInRouting                 // by the kernel: no route, or an address that it does not take
	Unknown                       // it met what the model does not know
	Rejected                      // by a rule, which answers it with a TCP reset or an ICMP error
)

var fateNames = [...]string{"untouched", "redirected", "proxied", "dropped", "lost", "unknown", "refused"}

func (k FateKind) String() string {
	if int(k) < len(fateNames) {
		return fateNames[k]
	}
	return fmt.Sprintf("fate %d", uint8(k))
}

// Fate is what became of a packet.
type Fate struct {
	Kind      FateKind
	Src, Dst  netip.AddrPort // as it arrived or left
	Here      bool           // delivered to this host; else it left by Out
	Out       string
	Port      rules.Port // of the socket that gets it: for a proxied packet not Dst's
	Socket    *Socket    // that gets it; nil: none, or none that is known
	Mark      rules.Mark
	Tracked   bool // conntrack knows its connection:
	CTMark    rules.Mark
	Zone      rules.Zone     // of what the connection sends, and
	ReplyZone rules.Zone     // of what answers it
	Asked     netip.AddrPort // the connection's first destination (SO_ORIGINAL_DST)
	Why       string         // of what was lost or is unknown
}

// Decision is the step that decided: what handed a proxied packet over; else
// where nat did or was kept from it; else the last rule that ended a chain, or did
// anything. It is the zero Step where no rule did.
func (j Journey) Decision() Step {
	var best Step
	rank := 0
	for _, s := range j.Steps {
		r := 0
		switch ends := s.Verdict.Kind == rules.AcceptKind || s.Verdict.Kind == rules.DropKind || s.Verdict.Kind == rules.ReturnKind; {
		case s.Chain == "":
		case j.Fate.Kind == Proxied && s.HandsOn:
			r = 4
		case ends && s.Type == rules.NATType, s.Verdict.Kind == rules.DropKind:
			r = 3
		case ends:
			r = 2
		default:
			r = 1
		}
		if r > 0 && r >= rank {
			best, rank = s, r
		}
	}
	return best
}
