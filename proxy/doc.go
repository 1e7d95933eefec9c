//go:build linux

// Package proxy is a small transparent TCP proxy: it accepts connections that the kernel has
// diverted to it, by REDIRECT (nftables "redirect", "dnat") or by TPROXY (nftables "tproxy"), finds
// out where each was going, and carries it there.
//
// [OriginalDst] answers for one connection, whichever way it was diverted. [SocketOptions] opens
// the sockets that diversion needs. [Server] and [Dialer] put the two together.
//
// The package knows sockets only. It installs no rules, routes or addresses, and needs none of the
// packages that do.
package proxy
