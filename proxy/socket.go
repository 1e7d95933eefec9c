//go:build linux

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// SocketOptions are the options that a socket needs to take part in diverted traffic. The zero
// value sets none.
type SocketOptions struct {
	// Transparent sets IP_TRANSPARENT (ip(7)), on IPv6 sockets IPV6_TRANSPARENT. A listener
	// needs it to be given connections by TPROXY, and an outgoing socket to be bound to an
	// address that the host does not have.
	Transparent bool

	// Mark sets SO_MARK (socket(7)) on every packet of the socket, for rules and routing to
	// know it by. The connections of a listener inherit it. Zero leaves the mark alone.
	Mark uint32
}

// OptionError is a socket option that the kernel refused.
type OptionError struct {
	Option string // as in the manual pages: SO_MARK
	Needs  string // the capabilities that allow it; any one is enough
	Err    error  // what setsockopt(2) answered
}

// Error names the missing capability where that is the cause.
func (e *OptionError) Error() string {
	if errors.Is(e.Err, unix.EPERM) && e.Needs != "" {
		return fmt.Sprintf("set %s: %v (needs %s)", e.Option, e.Err, e.Needs)
	}
	return fmt.Sprintf("set %s: %v", e.Option, e.Err)
}

// Unwrap returns what the kernel answered.
func (e *OptionError) Unwrap() error { return e.Err }

// Control sets the options on a socket that is not yet bound. It is made to be the Control of a
// [net.ListenConfig] or a [net.Dialer], for TCP and UDP. A refused option is an [*OptionError].
func (o SocketOptions) Control(network, _ string, c syscall.RawConn) error {
	var sockErr error
	if err := c.Control(func(fd uintptr) { sockErr = o.set(int(fd), network) }); err != nil {
		return err
	}
	return sockErr
}

func (o SocketOptions) set(fd int, network string) error {
	if o.Transparent {
		level, opt, name := unix.SOL_IP, unix.IP_TRANSPARENT, "IP_TRANSPARENT"
		if strings.HasSuffix(network, "6") {
			// Covers the IPv4 connections of a socket for both families too.
			level, opt, name = unix.SOL_IPV6, unix.IPV6_TRANSPARENT, "IPV6_TRANSPARENT"
		}
		if err := unix.SetsockoptInt(fd, level, opt, 1); err != nil {
			return &OptionError{name, "CAP_NET_ADMIN or CAP_NET_RAW", err}
		}
	}
	if o.Mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(o.Mark)); err != nil {
			return &OptionError{"SO_MARK", "CAP_NET_ADMIN, or CAP_NET_RAW since Linux 5.17", err}
		}
	}
	return nil
}

// Listen opens a TCP listener with the options. The unspecified addresses stand for every address:
// 0.0.0.0 of IPv4 alone, [::] of both families. Port 0 lets the kernel choose. ctx is for the
// opening only. The error wraps an [*OptionError] where an option was refused, and otherwise says
// why the address cannot be listened on.
//
// The socket is opened on the calling goroutine's thread, and so in that thread's network namespace.
func (o SocketOptions) Listen(ctx context.Context, addr netip.AddrPort) (*net.TCPListener, error) {
	lc := net.ListenConfig{Control: o.Control}
	// An MPTCP socket cannot be asked for SO_ORIGINAL_DST.
	lc.SetMultipathTCP(false)

	// To net, 0.0.0.0 means both families too, unless the network says otherwise.
	network, address := "tcp6", addr.String()
	switch {
	case addr.Addr().Unmap().Is4():
		network = "tcp4"
	case addr.Addr() == netip.IPv6Unspecified():
		network, address = "tcp", fmt.Sprintf(":%d", addr.Port())
	}
	ln, err := lc.Listen(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return ln.(*net.TCPListener), nil
}
