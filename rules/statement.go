// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"time"
)

// Node is one step of a rule: a [Match] or a statement. The kernel walks a
// rule's nodes in order. The set of kinds is closed.
type Node interface {
	text(*printer) string
	check(*checker)
	needs() nodeNeeds
}

// nodeNeeds is what a node implies of the packets that pass it and demands of
// the place where it stands.
type nodeNeeds struct {
	selectors []Selector
	terminal  bool     // no node may follow
	tracked   []Family // whose connections the kernel tracks for it
}

// Verdict ends a rule, see "VERDICT STATEMENTS" in nft(8).
type Verdict struct {
	Kind  VerdictKind
	Chain string // of jump and goto
}

// VerdictKind is what becomes of the packet.
type VerdictKind uint8

// Kinds of verdict.
const (
	noVerdict VerdictKind = iota
	AcceptKind
	DropKind
	ReturnKind
	ContinueKind
	JumpKind
	GotoKind
)

var verdictNames = [...]string{AcceptKind: "accept", DropKind: "drop", ReturnKind: "return", ContinueKind: "continue", JumpKind: "jump", GotoKind: "goto"}

func (k VerdictKind) String() string {
	if int(k) < len(verdictNames) {
		return verdictNames[k]
	}
	return ""
}

// Accept ends the base chain; later base chains on the hook still see the
// packet.
func Accept() Verdict { return Verdict{Kind: AcceptKind} }

// Drop ends the packet.
func Drop() Verdict { return Verdict{Kind: DropKind} }

// Return goes back to the chain that jumped here; in a base chain the policy
// decides.
func Return() Verdict { return Verdict{Kind: ReturnKind} }

// Jump goes through another chain of the table and comes back.
func Jump(chain string) Verdict { return Verdict{Kind: JumpKind, Chain: chain} }

// Goto goes through another chain and does not come back.
func Goto(chain string) Verdict { return Verdict{Kind: GotoKind, Chain: chain} }

// VMap looks the key up in a verdict map and does what it finds; where it
// finds nothing the rule has no effect.
type VMap struct {
	Key      []Selector
	Map      string    // a declared map, or
	Elements []Element // an anonymous one
}

// Types are the data types of the key's parts.
func (v VMap) Types() []DataType { return typesOf(v.Key) }

// Counter counts packets and bytes. The counts are what a dump found: they are
// no part of a ruleset's meaning.
type Counter struct{ Packets, Bytes uint64 }

// Redirect sends the packet to this host, on a port of Ports, or on its own
// port where Ports is nil. For the first packet of a connection, in nat chains
// of prerouting and output. Where its own port is none of Ports, Linux 6.18 takes
// the first, and so does the evaluator; 5.10 and 6.1 were seen to take any.
type Redirect struct{ Ports *Range }

// RedirectTo redirects to one port.
func RedirectTo(p Port) Redirect {
	r := RangeOf(p)
	return Redirect{Ports: &r}
}

// SNAT gives a connection another source address, of the family that a match
// settled. For the first packet of a connection, in nat chains of input and
// postrouting.
type SNAT struct{ To netip.Addr }

// DNAT gives a connection another destination, of the family that a match settled.
// For the first packet of a connection, in nat chains of prerouting and output.
type DNAT struct {
	To   netip.Addr
	Port Port // 0: the packet's own
}

// TProxy hands the packet to a local transparent socket without changing it.
// For filter chains of prerouting (Documentation/networking/tproxy.rst).
type TProxy struct {
	Family Family // 0: both, or the one that a match settled
	Addr   Bits   // "": the socket may listen on any address
	Port   Port   // 0: the packet's own
}

// Reject answers the packet as a closed port does and ends it: with a TCP reset (`reject with tcp
// reset`), or where Unreachable is set with ICMP's (`reject with icmpx type port-unreachable`). For
// filter chains of prerouting (Linux 5.9), input, forward and output.
type Reject struct {
	Unreachable bool
}

// Assign writes To: Xor where From is zero, else (From & Mask) ^ Xor. The kinds
// of To are [MetaMark], [CTMark], [CTZone] and [CTOriginalZone], and of the packet's own
// fields its addresses and ports, to a value: the kernel mends the checksums.
type Assign struct {
	To, From  Selector
	Mask, Xor Bits
}

// Set writes a value to what the key reads: [MetaMark], [CTMark], [CTZone],
// [CTOriginalZone], an address or a port. A zone is set before conntrack sees the packet, at priority raw:
// CTZone is that of both directions of its connection, CTOriginalZone (Linux 4.11) of
// what the connection sends, whose answers are then looked for in zone 0.
func (k Key[T]) Set(v T) Assign { return Assign{To: Selector(k), Xor: RangeOf(v).Lo} }

// SetMasked writes the bits of a mark that mask covers; the rest stay.
func (k Key[T]) SetMasked(v, mask T) Assign {
	value, m := RangeOf(v).Lo, RangeOf(mask).Lo
	all := ones(len(m))
	if m == all {
		return k.Set(v)
	}
	return Assign{To: Selector(k), From: Selector(k), Mask: m.Xor(all), Xor: value.And(m)}
}

// SetFrom writes what from reads, both of them marks.
func (k Key[T]) SetFrom(from Key[T]) Assign {
	size := Selector(from).Type().Len()
	return Assign{To: Selector(k), From: Selector(from), Mask: ones(size), Xor: zeros(size)}
}

// SetFromMasked writes the bits of from under mask, and zero for the rest.
func (k Key[T]) SetFromMasked(from Key[T], mask T) Assign {
	a := k.SetFrom(from)
	a.Mask = RangeOf(mask).Lo
	return a
}

// NoTrack keeps conntrack from the packet; before conntrack, at priority raw.
type NoTrack struct{}

// Log sends a copy of the packet to the programs that listen to a group of NFNETLINK_LOG,
// and the packet goes on: `log group 900 snaplen 128`. Where none listens no copy is made,
// and where the listener does not keep up copies are lost, not packets.
type Log struct {
	Group   uint16
	Snaplen uint32 // so many bytes of the packet at most, from its network header on; 0: all
}

// Dynset adds what the key reads to a dynamic set, `add @set { key }`, or with Update also
// begins the timeout of an element anew that is there. The element counts the packet, where
// the set has counters. Where the set is full the rule ends; see "SET STATEMENT" in nft(8).
type Dynset struct {
	Update  bool
	Key     []Selector
	Set     string        // declared, dynamic
	Timeout time.Duration // of the element; 0: as the set has it
}

// Types are the data types of the key's parts.
func (d Dynset) Types() []DataType { return typesOf(d.Key) }

// Opaque is a run of expressions that the model does not know, as the kernel
// gave it. No wanted rule equals it, so it shows as drift; what is put back
// after a failed change is Raw.
type Opaque struct {
	Name string // the kernel's names of the expressions, each xtables extension after that which calls it
	Raw  Bits   // as netlink attributes
}
