// SPDX-License-Identifier: Apache-2.0

package sim

import (
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
	Device string  // of what is sent here, the interface that its socket is bound to (SO_BINDTODEVICE, a link-local address); "": none
	Socket *Socket // that sends it; nil: it comes from elsewhere, or the kernel sends it
	Mark   rules.Mark
	Turn   Turn
	Data   string        // what follows its transport header; a TCP header is one without options
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
