package rules

import "net/netip"

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
	r := Span(p)
	return Redirect{Ports: &r}
}

// SNAT gives a connection another source address, of the family that a match
// settled. For the first packet of a connection, in nat chains of input and
// postrouting.
type SNAT struct{ To netip.Addr }

// TProxy hands the packet to a local transparent socket without changing it.
// For filter chains of prerouting (Documentation/networking/tproxy.rst).
type TProxy struct {
	Family Family // 0: both, or the one that a match settled
	Addr   Bits   // "": the socket may listen on any address
	Port   Port   // 0: the packet's own
}

// Assign writes To: Xor where From is zero, else (From & Mask) ^ Xor. The kinds
// of To are [MetaMark], [CTMark], [CTZone] and [CTOriginalZone].
type Assign struct {
	To, From  Selector
	Mask, Xor Bits
}

// SetMark sets the bits of the packet's mark that mask covers; the rest stay.
func SetMark(v, mask Mark) Assign { return assign(Selector(MetaMark), v, mask) }

// SetCTMark sets the bits of the connection's mark that mask covers.
func SetCTMark(v, mask Mark) Assign { return assign(Selector(CTMark), v, mask) }

// SetZone puts the packet's connection into a conntrack zone; before conntrack,
// at priority raw.
func SetZone(z Zone) Assign { return Assign{To: Selector(CTZone), Xor: Span(z).Lo} }

// SetOriginalZone puts what the packet's connection sends into a conntrack zone (Linux
// 4.11); what answers it is looked for in zone 0. Before conntrack, at priority raw.
func SetOriginalZone(z Zone) Assign { return Assign{To: Selector(CTOriginalZone), Xor: Span(z).Lo} }

// Copy writes what from reads to to, both marks.
func Copy(to, from Key[Mark]) Assign {
	return Assign{To: Selector(to), From: Selector(from), Mask: ones(4), Xor: zeros(4)}
}

// CopyMasked writes the bits of from under mask, and zero for the rest.
func CopyMasked(to, from Key[Mark], mask Mark) Assign {
	a := Copy(to, from)
	a.Mask = Span(mask).Lo
	return a
}

func assign(to Selector, v, mask Mark) Assign {
	if mask == ^Mark(0) {
		return Assign{To: to, Xor: Span(v).Lo}
	}
	return Assign{To: to, From: to, Mask: Span(^mask).Lo, Xor: Span(v & mask).Lo}
}

// NoTrack keeps conntrack from the packet; before conntrack, at priority raw.
type NoTrack struct{}

// Opaque is a run of expressions that the model does not know, as the kernel
// gave it. No wanted rule equals it, so it shows as drift; what is put back
// after a failed change is Raw.
type Opaque struct {
	Name string // the kernel's names of the expressions
	Raw  Bits   // as netlink attributes
}
