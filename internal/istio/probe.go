// SPDX-License-Identifier: Apache-2.0

//go:build linux

package istio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/weir-mesh/weir/modes"
	"golang.org/x/sys/unix"
)

// probe is a connection that capture must bring to a listener on a loopback
// address.
type probe struct {
	modes.Example
	same     bool                       // the rules are as wanted: a live proxy need not prove it
	excluded func(from netip.Addr) bool // whether what leaves from that address is left alone
}

// cannotProbe is why a connection would prove nothing.
type cannotProbe string

func (e cannotProbe) Error() string { return string(e) }

const (
	attemptTimeout = time.Second // of one connection
	attemptPause   = 200 * time.Millisecond
	resetTimeout   = 20 * time.Millisecond // the listener's reset may come before word that it accepted
)

// run tries the connection until it lands where it should, or the time is over:
// the rules may still be on their way.
func (p probe) run(ctx context.Context, log *slog.Logger) error {
	if p.Cannot != "" {
		return cannotProbe(p.Cannot)
	}
	listener := netip.AddrPortFrom(loopbackOf(p.To.Addr()), uint16(p.Port))
	ln, err := listenAlone(ctx, listener)
	switch {
	case errors.Is(err, unix.EADDRINUSE) && p.same:
		return cannotProbe(fmt.Sprintf("another process listens on %s, which would get a real call; the rules are as wanted", listener))
	case errors.Is(err, unix.EADDRINUSE):
		log.Info("another process listens where the connection must arrive: it must accept it", "probe", p.What, "listener", listener.String())
		return p.until(ctx, func(attempt context.Context) error { return p.accepted(attempt, listener) })
	case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EAFNOSUPPORT):
		return cannotProbe(fmt.Sprintf("the pod has no %s", listener.Addr()))
	case err != nil:
		return err
	}
	defer ln.Close()
	landed := make(chan netip.AddrPort)
	go accept(ctx, ln, landed)
	return p.until(ctx, func(attempt context.Context) error { return p.arrives(attempt, listener, landed) })
}

func loopbackOf(family netip.Addr) netip.Addr {
	if family.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// until tries until it works, cannot work, or the time is over.
func (p probe) until(ctx context.Context, try func(attempt context.Context) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := p.reachable()
		if err == nil {
			err = try(attempt)
		}
		cancel()
		var cannot cannotProbe
		if err == nil || errors.As(err, &cannot) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(attemptPause):
		}
	}
}

// reachable asks the kernel for a route, which sends nothing. What is not sent
// cannot be captured; a call to the pod itself has a route wherever its address
// is there.
func (p probe) reachable() error {
	d := net.Dialer{}
	if p.From.IsValid() {
		if !isLocal(p.To.Addr()) {
			return fmt.Errorf("%s is not an address of this pod, and the proxy's calls to it have one", p.To.Addr())
		}
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.From, 0))
	}
	conn, err := d.Dial("udp", p.To.String())
	if err != nil {
		return cannotProbe(fmt.Sprintf("%s cannot be reached: %v", p.To.Addr(), err))
	}
	defer conn.Close()
	from := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	if p.excluded(from) {
		return cannotProbe(fmt.Sprintf("packets to %s leave by an excluded interface", p.To.Addr()))
	}
	return nil
}

func isLocal(addr netip.Addr) bool {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// arrives succeeds where the connection lands at the listener, and was going
// where it was sent.
func (p probe) arrives(ctx context.Context, listener netip.AddrPort, landed <-chan netip.AddrPort) error {
	why := "another process accepted it"
	conn, err := p.dial(ctx)
	if err == nil {
		defer conn.Close()
	} else {
		why = shortReason(err).Error()
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, resetTimeout)
		defer cancel()
	}
	for {
		select {
		case dst := <-landed:
			if dst == p.To {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("a connection to %s did not arrive at %s: it is not captured (%s)", p.To, listener, why)
		}
	}
}

// accepted succeeds where a process accepts the connection that does not listen
// where it was sent.
func (p probe) accepted(ctx context.Context, listener netip.AddrPort) error {
	if p.From.IsValid() {
		guard, err := bindAlone(p.To)
		if err != nil {
			return cannotProbe(fmt.Sprintf("a connection to %s proves nothing: a process listens there (%v)", p.To, err))
		}
		defer unix.Close(guard)
	}
	conn, err := p.dial(ctx)
	if err != nil {
		return fmt.Errorf("a connection to %s was not accepted by the listener on %s: %v", p.To, listener, shortReason(err))
	}
	return conn.Close()
}

// shortReason is a dial's error without the addresses, which are told beside it.
func shortReason(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func (p probe) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{FallbackDelay: -1}
	d.SetMultipathTCP(false)
	if p.From.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.From, 0))
	}
	return d.DialContext(ctx, "tcp", p.To.String())
}
