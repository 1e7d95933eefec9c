package sim

import (
	"fmt"
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// Packet is a packet as it comes into a namespace: from a process there, or by
// an interface. What is zero is as it is with most packets.
type Packet struct {
	Proto  rules.Proto
	Src    netip.AddrPort // of what is sent here, no address leaves it to the kernel
	Dst    netip.AddrPort
	In     string  // the interface by which it comes; "": it is sent here
	Socket *Socket // that sends it; nil: it comes from elsewhere, or the kernel sends it
	Mark   rules.Mark
	Turn   Turn
	State  rules.CTState // of its connection; 0: as the [Tracker] finds it
	CTMark rules.Mark    // of the connection, where State says that there is one
}

// Turn is whose turn a packet is in the course of a connection.
type Turn uint8

// Turns.
const (
	Opens     Turn = iota // a SYN, or a datagram
	Answers               // a SYN with ACK
	Continues             // anything later
)

// Family is the packet's address family.
func (p Packet) Family() rules.Family { return rules.AddressFamily(p.Dst.Addr()) }

// Socket is an open socket, and what the firewall can read of it.
type Socket struct {
	Proto       rules.Proto
	Local       netip.AddrPort // an unspecified address is every one of its family
	Remote      netip.AddrPort // not valid: it listens
	Transparent bool           // IP_TRANSPARENT
	UID         rules.UID
	GID         rules.GID
	Mark        rules.Mark       // SO_MARK
	Cgroups     []rules.CgroupID // the cgroup v2 and its ancestors, from the first level down; nil: not known
	NoGID       bool             // the group is not known
}

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
)

var fateNames = [...]string{"untouched", "redirected", "proxied", "dropped", "lost", "unknown"}

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
