// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"errors"
	"fmt"
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

	// FreeBind sets IP_FREEBIND (ip(7)), on IPv6 sockets IPV6_FREEBIND: the socket can be bound
	// to an address that the host does not have yet, say one that is added to lo later. It needs
	// no capability, and does not make the address the host's: nothing can be sent from it before
	// it is added. Transparent includes it.
	FreeBind bool

	// Mark sets SO_MARK (socket(7)) on every packet of the socket, for rules and routing to
	// know it by. The connections of a listener inherit it, so that a listener must not have a
	// mark by which packets are routed back to the host. Zero leaves the mark alone.
	Mark uint32
}

// OptionError is a socket option that the kernel refused.
type OptionError struct {
	Option string // as in the manual pages: SO_MARK
	Needs  string // the capabilities that allow it, any one of which is enough; "" where none is asked for
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
	// On a socket for both families the options of IPv6 cover its IPv4 traffic too.
	v6 := strings.HasSuffix(network, "6")
	if o.Transparent {
		opt := socketOption{unix.SOL_IP, unix.IP_TRANSPARENT, "IP_TRANSPARENT", "CAP_NET_ADMIN or CAP_NET_RAW"}
		if v6 {
			opt.level, opt.number, opt.name = unix.SOL_IPV6, unix.IPV6_TRANSPARENT, "IPV6_TRANSPARENT"
		}
		if err := opt.set(fd, 1); err != nil {
			return err
		}
	}
	if o.FreeBind {
		opt := socketOption{level: unix.SOL_IP, number: unix.IP_FREEBIND, name: "IP_FREEBIND"}
		if v6 {
			opt.level, opt.number, opt.name = unix.SOL_IPV6, unix.IPV6_FREEBIND, "IPV6_FREEBIND"
		}
		if err := opt.set(fd, 1); err != nil {
			return err
		}
	}
	if o.Mark != 0 {
		opt := socketOption{unix.SOL_SOCKET, unix.SO_MARK, "SO_MARK", "CAP_NET_ADMIN, or CAP_NET_RAW since Linux 5.17"}
		return opt.set(fd, int(o.Mark))
	}
	return nil
}

// socketOption is an option as setsockopt(2) knows it and as people do.
type socketOption struct {
	level, number int
	name, needs   string
}

func (o socketOption) set(fd, value int) error {
	if err := unix.SetsockoptInt(fd, o.level, o.number, value); err != nil {
		return &OptionError{o.name, o.needs, err}
	}
	return nil
}
