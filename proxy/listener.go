// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// ConnInfo says what an accepted connection is. IPv4-mapped addresses are given as IPv4.
type ConnInfo struct {
	Client      netip.AddrPort // where it comes from
	Listener    netip.AddrPort // where the listener was opened, perhaps an unspecified address
	OriginalDst netip.AddrPort // where it was going: see [OriginalDst]
	Peeked      any            // what [Server].Peek has found, nil without
}

// Conn is an accepted connection that knows where it was going. [io.Copy] between two of them, or
// between one and a [*net.TCPConn], leaves the data in the kernel, as between two of the latter.
type Conn struct {
	*net.TCPConn
	ConnInfo
}

// Reset closes the connection so that the client sees a reset in place of an end of stream: it then
// does not take a part for the whole.
func (c *Conn) Reset() { reset(c.TCPConn) }

// Listener accepts diverted connections. It is a [net.Listener], so that other servers can use it.
// One that was opened elsewhere, say by systemd, is Listener{TCPListener: ln}; it must not be MPTCP.
type Listener struct {
	*net.TCPListener
}

// Listen opens a TCP listener with the options. The unspecified addresses stand for every address:
// 0.0.0.0 of IPv4 alone, [::] of both families. Port 0 lets the kernel choose. ctx is for the
// opening only. The error wraps an [*OptionError] where an option was refused, and otherwise says
// why the address cannot be listened on. Its connections have no TCP keepalive before they are
// relayed for a while, see [Relay].
func Listen(ctx context.Context, addr netip.AddrPort, options SocketOptions) (*Listener, error) {
	lc := net.ListenConfig{Control: options.Control, KeepAlive: -1} // see keepAliveAfter
	// An MPTCP socket cannot be asked for SO_ORIGINAL_DST.
	lc.SetMultipathTCP(false)
	network, address := networkOf("tcp", addr)
	ln, err := lc.Listen(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return &Listener{ln.(*net.TCPListener)}, nil
}

// networkOf is addr in the terms of package net, to which 0.0.0.0 means both families too unless
// the network says otherwise.
func networkOf(protocol string, addr netip.AddrPort) (network, address string) {
	switch {
	case addr.Addr().Unmap().Is4():
		return protocol + "4", addr.String()
	case addr.Addr() == netip.IPv6Unspecified():
		return protocol, fmt.Sprintf(":%d", addr.Port())
	default:
		return protocol + "6", addr.String()
	}
}

// Accept waits for the next connection, which is a [*Conn]. The errors are those of
// [net.TCPListener.Accept].
func (l *Listener) Accept() (net.Conn, error) {
	conn, err := l.AcceptConn()
	if err != nil {
		return nil, err // and no *Conn in the interface
	}
	return conn, nil
}

// AcceptConn is Accept with the type of its result. A connection whose original destination cannot
// be found out is reset, and the next one awaited.
func (l *Listener) AcceptConn() (*Conn, error) {
	for {
		tcp, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		conn := l.conn(tcp)
		if conn.OriginalDst, err = OriginalDst(tcp); err == nil {
			return conn, nil
		}
		conn.Reset()
	}
}

// conn is an accepted connection, of which the original destination is still to be found out.
func (l *Listener) conn(tcp *net.TCPConn) *Conn {
	return &Conn{tcp, ConnInfo{Client: addrPort(tcp.RemoteAddr()), Listener: addrPort(l.Addr())}}
}
