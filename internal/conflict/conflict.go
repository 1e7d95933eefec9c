// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// Kind is what stands in the way, in words that programs may compare.
type Kind string

// Kinds.
const (
	Drops            Kind = "drops"             // a foreign chain drops captured traffic
	Redirects        Kind = "redirects"         // a foreign chain sends it elsewhere
	Bypasses         Kind = "bypasses"          // with a foreign chain it is not captured
	ChangesMarks     Kind = "changes-marks"     // a foreign chain changes marks that the rules go by
	Untracks         Kind = "untracks"          // a foreign chain keeps conntrack from it, and nat with that
	SamePriority     Kind = "same-priority"     // which of two chains runs first is not known, and matters
	PolicyRuleFirst  Kind = "policy-rule"       // a foreign policy rule catches marked packets first
	RouteInPlace     Kind = "route"             // a foreign route in a table of the state's
	AddressElsewhere Kind = "address"           // an address of the state's stands on another interface
	SourceValidation Kind = "source-validation" // src_valid_mark or rp_filter drops what is delivered by mark
	NoAddress        Kind = "no-address"        // an interface has no address to redirect to
	LoopbackDown     Kind = "loopback-down"     // nothing that is redirected arrives
	NoListener       Kind = "no-listener"       // nothing listens where captured traffic goes
	NotTransparent   Kind = "not-transparent"   // the listener lacks IP_TRANSPARENT
	Unmarked         Kind = "unmarked"          // the listener lacks the proxy's mark, and its answers are captured
	OneFamily        Kind = "one-family"        // the listener takes one family alone
	ForeignListener  Kind = "foreign-listener"  // the port is held by a user that is not the proxy's
	OtherEngine      Kind = "other-engine"      // another program captures too
	ConnectProgram   Kind = "connect-program"   // a cgroup program may change destinations before any rule
	NewIPv6          Kind = "new-ipv6"          // the namespace has IPv6, which the rules leave alone
	NewInterface     Kind = "new-interface"     // what sockets send that are bound to an interface does not reach the proxy
)

// OfListeners reports whether it is about the sockets where captured traffic goes: they come and
// go with the proxy, which may start after an apply.
func (k Kind) OfListeners() bool {
	return slices.Contains([]Kind{NoListener, NotTransparent, Unmarked, OneFamily, ForeignListener}, k)
}

// Conflict is one thing that stands in the way of captured traffic.
type Conflict struct {
	Kind    Kind        `json:"kind"`
	Subject string      `json:"subject"`           // what it is and where, escaped
	Does    string      `json:"does"`              // what it does, to which traffic: to be read after Subject
	Traffic []string    `json:"traffic,omitempty"` // the captured traffic that it touches, by classes
	May     bool        `json:"may,omitempty"`     // it cannot be told for certain
	Takes   bool        `json:"takes,omitempty"`   // captured traffic ends elsewhere than at the proxy, without an error
	Example *sim.Packet `json:"-"`                 // a packet that it touches; nil where none was evaluated
	Table   string      `json:"table,omitempty"`   // of nftables, as "FAMILY NAME"; "" where it is not a chain
	Owner   string      `json:"owner,omitempty"`   // whose it is, "" where that is not known
	Remedy  string      `json:"remedy"`
}

// String is the conflict in a sentence, without its remedy.
func (c Conflict) String() string {
	text := c.Subject
	if c.Owner != "" {
		text += " (" + c.Owner + ")"
	}
	return text + " " + c.Does
}

// Seen is what a namespace holds that is not the ruleset's own. What was not looked at is
// left zero, and is not judged.
type Seen struct {
	Tables      []Table          // of other owners, whose chains see packets of IPv4 or IPv6
	PolicyRules []sim.PolicyRule // all, the ruleset's own included
	Routes      []sim.Route      // likewise
	Links       []sim.Link
	Sockets     []sim.Socket
	NoSockets   bool // Sockets were not looked at
	Programs    []Program
	IPv6        Choice
	Engines     []Engine // other programs that capture, by their signs
}

// Table is a table of another owner.
type Table struct {
	sim.Table
	FamilyName string // in nft's word: inet, ip, ip6 or netdev
	Owner      string // the program or process that it belongs to, "" where that is not known
	Age        Age
}

// Title is the table's family and name, as nft writes them, escaped.
func (t Table) Title() string { return t.FamilyName + " " + escape.Text(t.Name) }

// Age is whether a table's chains were registered before those of the ruleset. Of chains
// with one priority the kernel calls the one that was registered last first
// (nf_hook_entries_grow of net/netfilter/core.c).
type Age int

// Ages.
const (
	AgeUnknown Age = iota
	Older          // the ruleset's chains run first
	Newer          // the table's chains run first
)

// Program is a program of BPF on a cgroup's connect hook.
type Program struct {
	Attach string // such as connect4
	Name   string // that its maker gave it, "" where it is not told
}

// Engine is another program that captures traffic.
type Engine struct {
	Name  string
	Signs []string // its tables, chains and policy rules, escaped
	Rules bool     // some of them are rules, and not only policy rules that were left behind
}

// Conflicts finds what in the namespace keeps traffic that the wanted state captures from
// where it should go, gravest first. Nothing is in the way of a state without a table.
func Conflicts(want rules.State, seen Seen) []Conflict {
	if want.Table == nil || want.Table.Dormant {
		return nil
	}
	j := newJudge(want, seen)
	var out []Conflict
	out = append(out, j.loopback()...)
	for _, t := range seen.Tables {
		out = append(out, j.table(t)...)
	}
	out = append(out, j.policyRules()...)
	out = append(out, j.routes()...)
	out = append(out, j.addresses()...)
	out = append(out, j.settings()...)
	out = append(out, j.missingAddresses()...)
	out = append(out, j.ipv6()...)
	out = append(out, j.interfaces()...)
	out = append(out, j.listeners()...)
	out = append(out, j.engines()...)
	out = append(out, Programs(seen.Programs)...)
	slices.SortStableFunc(out, func(a, b Conflict) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

// rank puts what is certain before what may be, and what loses traffic before the rest.
func rank(c Conflict) int {
	switch {
	case c.Kind == LoopbackDown:
		return 0
	case c.Takes && !c.May:
		return 1
	case !c.May:
		return 2
	}
	return 3
}

// Find is the conflict of that kind, and false where there is none.
func Find(all []Conflict, k Kind) (Conflict, bool) {
	i := slices.IndexFunc(all, func(c Conflict) bool { return c.Kind == k })
	if i < 0 {
		return Conflict{}, false
	}
	return all[i], true
}

// list joins words as prose does.
func list(words []string) string {
	switch n := len(words); {
	case n == 0:
		return ""
	case n == 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
}

// packetText is a packet in a few words.
func packetText(p sim.Packet) string {
	text := rules.L4Proto.Type().Format(rules.RangeOf(p.Proto).Lo) + " "
	if p.Src.Addr().IsValid() {
		text += p.Src.Addr().String() + " -> "
	}
	text += p.Dst.String()
	if p.In != "" {
		text += " by " + escape.Text(p.In)
	} else if p.Socket != nil {
		text += fmt.Sprintf(" from uid %d", p.Socket.UID)
	}
	return text
}

// Choice is whether the configuration says itself that IPv6 is captured or not.
type Choice int

// Choices.
const (
	NotKnown Choice = iota // there is no configuration at hand
	Chosen                 // it says so
	Auto                   // it leaves that to the namespace
)

// ChoiceOf is the choice of a configuration.
func ChoiceOf(c modes.Config) Choice {
	if c.IPv6 == "" || c.IPv6 == "auto" {
		return Auto
	}
	return Chosen
}
