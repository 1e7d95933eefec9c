// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package proxy has what a transparent proxy is made of: sockets that the kernel diverts connections
// to, by REDIRECT (nftables "redirect", "dnat") or by TPROXY (nftables "tproxy"); where each
// connection was going; and sockets that carry it there without being diverted again.
//
//   - [Listen] opens a [Listener], whose connections are each a [Conn] with its original destination.
//   - [Dialer] makes the onward connection: with a mark that rules let pass, and from the client's
//     own address where the server is to see it.
//   - [Relay] carries data both ways, and the end of each stream by itself.
//   - [Server] is the three together, with bounds and time limits: a proxy that needs no code.
//   - [ListenUDP] and [UDPServer] are the same for UDP, QUIC and DNS among it, by TPROXY.
//
// For other ways of opening sockets, [SocketOptions.Control] sets the options and [OriginalDst]
// tells where an accepted connection was going.
//
// # What a proxy has to do
//
// It listens on [::], which is every address of both families. Its listener is transparent where
// TPROXY diverts to it; REDIRECT asks for nothing. The sockets that it dials with carry the mark
// that the rules let pass (or belong to a user that they let pass): where they do not, each onward
// connection is diverted in its turn, and comes back. It passes on the end of one stream and keeps
// the other one open. Package proxy/proxytest tests a proxy for all of these.
//
// # Privileges
//
// IP_TRANSPARENT needs CAP_NET_ADMIN or CAP_NET_RAW; SO_MARK needs CAP_NET_ADMIN, or since Linux
// 5.17 CAP_NET_RAW. To answer datagrams from an address of the host itself needs CAP_NET_RAW. A
// refusal is an [*OptionError] that says so.
//
// # Network namespaces
//
// A socket belongs to the network namespace of the thread that opens it. Every function here opens
// its sockets on the calling goroutine's thread. [Server] and [UDPServer] call Dial on goroutines of
// their own: where the process is not in the namespace as a whole, Dial has to enter it.
//
// The package knows sockets only. It installs no rules, routes or addresses, and needs none of the
// packages that do.
package proxy
