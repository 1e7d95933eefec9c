// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrLoop means that a connection was not carried on because it would have come straight back.
var ErrLoop = errors.New("the destination is the proxy's own listener")

// Dialer makes the onward connection. The zero value goes to the original destination from
// whatever address the kernel chooses.
//
// A connection that the client ends first leaves the proxy's port in TIME_WAIT for a minute. Where the
// kernel finds no other port to the server, one in TIME_WAIT is used again, from the last quarter of
// net.ipv4.ip_local_port_range, if both ends have TCP timestamps.
type Dialer struct {
	// Mark is the SO_MARK of the connection, by which rules can let it pass; zero for none.
	// Needs CAP_NET_ADMIN, or CAP_NET_RAW since Linux 5.17.
	Mark uint32

	// Source holds the addresses to connect from, one for each family. A family that is
	// missing is left to the kernel. 127.0.0.0/8 is the host's from the start; any IPv6
	// address but ::1 has to be added first.
	Source []netip.Addr

	// KeepClient connects from the client's own address, though not its port, by means of
	// IP_TRANSPARENT, which allows any address. Routing has to bring the answers back: with
	// Weir's TPROXY of a sidecar, Mark is then the routing mark. Where the kernel chooses the
	// port of a client that is connected to the same service, the two connections are one
	// to it and the new one fails: give the proxy's namespace a net.ipv4.ip_local_port_range
	// that clients do not use. It excludes Source, and needs CAP_NET_ADMIN or CAP_NET_RAW.
	KeepClient bool

	// DataFollows says that data is sent as soon as the connection is open: what a client has sent
	// already, or a ClientHello. Then it takes the acknowledgement of the server's SYN along, which
	// saves a packet. Where none follows, that goes 0.2 s later.
	DataFollows bool

	// Host holds the addresses to connect to in place of the original one, one for each
	// family: 127.0.0.1 and ::1 for an application that listens there. The port stays the
	// original one, and so does the address of a family that is missing.
	Host []netip.Addr
}

// Dial connects to where c was going. It refuses with [ErrLoop] where the proxy itself listens.
// Other errors are those of [net.Dialer.DialContext], among them an [*OptionError] where an option
// was refused. To go elsewhere, change c.OriginalDst first.
func (d Dialer) Dial(ctx context.Context, c ConnInfo) (*net.TCPConn, error) {
	conn, err := d.dial(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return conn, nil
}

func (d Dialer) dial(ctx context.Context, c ConnInfo) (*net.TCPConn, error) {
	source, dst, err := d.ends(c)
	if err != nil {
		return nil, err
	}
	return dialFrom(ctx, source, dst, d.control())
}

// DialUDP is Dial for a flow of datagrams: it opens a UDP socket that is connected to where the flow
// was going.
func (d Dialer) DialUDP(ctx context.Context, c ConnInfo) (*net.UDPConn, error) {
	source, dst, err := d.ends(c)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	dialer := net.Dialer{Control: d.options().Control}
	if source.IsValid() {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	conn, err := dialer.DialContext(ctx, "udp", dst.String())
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return conn.(*net.UDPConn), nil
}

// control sets the options of a TCP socket.
func (d Dialer) control() func(network, address string, c syscall.RawConn) error {
	options := d.options()
	if !d.DataFollows {
		return options.Control
	}
	return func(network, _ string, c syscall.RawConn) error {
		var sockErr error
		err := c.Control(func(fd uintptr) {
			if sockErr = options.set(int(fd), network); sockErr == nil {
				option := socketOption{level: unix.SOL_TCP, number: unix.TCP_QUICKACK, name: "TCP_QUICKACK"}
				sockErr = option.set(int(fd), 0)
			}
		})
		return errors.Join(err, sockErr)
	}
}

func (d Dialer) options() SocketOptions {
	return SocketOptions{Transparent: d.KeepClient, Mark: d.Mark}
}

// ends are the two of the onward connection; the zero source is left to the kernel.
func (d Dialer) ends(c ConnInfo) (source netip.Addr, dst netip.AddrPort, err error) {
	dst = c.OriginalDst
	if host := ofFamily(d.Host, dst.Addr()); host.IsValid() {
		dst = netip.AddrPortFrom(host, dst.Port())
	}
	// To connect(2) an unspecified address is this host, which would hide a loop.
	if !dst.IsValid() || dst.Addr().IsUnspecified() {
		return netip.Addr{}, dst, fmt.Errorf("dial: %q is not a destination", dst)
	}
	if self, err := listensAt(c.Listener, dst); err != nil {
		return netip.Addr{}, dst, fmt.Errorf("dial %s: %w", dst, err)
	} else if self {
		return netip.Addr{}, dst, fmt.Errorf("dial %s: %w", dst, ErrLoop)
	}

	source = ofFamily(d.Source, dst.Addr())
	if d.KeepClient {
		if len(d.Source) > 0 {
			return netip.Addr{}, dst, fmt.Errorf("dial %s: Source and KeepClient exclude one another", dst)
		}
		source = c.Client.Addr()
	}
	return source, dst, nil
}

// ofFamily returns the first of addrs that is of the same family as other, or the zero Addr.
func ofFamily(addrs []netip.Addr, other netip.Addr) netip.Addr {
	i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Unmap().Is4() == other.Unmap().Is4() })
	if i < 0 {
		return netip.Addr{}
	}
	return addrs[i].Unmap()
}

// listensAt reports whether a connection to dst would reach listener.
func listensAt(listener, dst netip.AddrPort) (bool, error) {
	switch {
	case listener.Port() != dst.Port():
		return false, nil
	case listener.Addr() == netip.IPv4Unspecified() && !dst.Addr().Unmap().Is4():
		return false, nil
	case listener.Addr().IsUnspecified():
		return isLocal(dst.Addr())
	default:
		return listener.Addr() == dst.Addr().Unmap(), nil
	}
}

// isLocal asks the kernel, by a bind to the address: the interfaces' own addresses do not cover
// all of 127.0.0.0/8, nor local routes. With net.ipv4.ip_nonlocal_bind every address counts as
// local.
func isLocal(addr netip.Addr) (bool, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	switch {
	case err == nil:
		return true, conn.Close()
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return false, nil
	default:
		return false, err
	}
}
