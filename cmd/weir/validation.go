package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/proxy"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// validationError is capture that was found not to work.
type validationError struct{ error }

func (e validationError) Unwrap() error { return e.error }

// validate proves that traffic is captured, in the ways that this process has:
// by comparing the rules, where it may read them (err is why it could not even
// ask); else by connections that capture must bring to the proxy's listeners.
// Whoever's rules bring them there will do.
func (j *job) validate(ctx context.Context, a *istioArguments, c modes.Config, env modes.Environment, want rules.State, err error, log *slog.Logger) error {
	var local map[netip.Addr]string
	if err := inside(j.target, func() (err error) { local, err = j.localAddresses(ctx); return err }); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.probeTimeout)
	defer cancel()
	if j.asWanted(ctx, a.probeTimeout/2, want, err, log) {
		return nil
	}
	by := modes.Caller{UID: rules.UID(os.Geteuid()), GID: rules.GID(os.Getegid())}
	for addr := range local {
		by.Local = append(by.Local, addr)
	}
	var probes []probe
	for _, e := range modes.Examples(c, env, by, rules.Port(a.probePort)) {
		probes = append(probes, probe{e, func(from netip.Addr) bool {
			name := local[from]
			if from.IsLoopback() {
				name = "lo"
			}
			return modes.Excluded(c, env, name)
		}})
	}
	return j.validateProbes(ctx, probes, log)
}

// asWanted compares the rules with those that weir would write. Whoever applies
// meanwhile is waited for, but not so long that no time is left to try.
func (j *job) asWanted(ctx context.Context, timeout time.Duration, want rules.State, err error, log *slog.Logger) bool {
	var found []rules.Difference
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		_, found, err = j.session().Verify(ctx, want)
	}
	switch {
	case err == nil && len(found) == 0:
		log.Info("validated: the rules are as wanted")
		return true
	case errors.Is(err, nft.ErrNotPermitted):
		log.Info("not compared: reading rules takes CAP_NET_ADMIN; a connection is tried")
	case err != nil:
		log.Warn("not compared; a connection is tried", "because", err)
	default:
		log.Info("the rules are not what weir would write; a connection is tried", "differences", len(found), "first", found[0].String())
	}
	return false
}

// localAddresses are the namespace's own addresses but those of lo, with the
// interface of each.
func (j *job) localAddresses(ctx context.Context) (map[netip.Addr]string, error) {
	local := map[netip.Addr]string{}
	if j.conn == nil {
		return local, nil
	}
	list, err := j.target.Addresses(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		if a.Loopback() || a.Addr().IsLinkLocalUnicast() {
			continue
		}
		if i, err := net.InterfaceByIndex(a.Index); err == nil {
			local[a.Addr()] = i.Name
		}
	}
	return local, nil
}

// validateProbes tries the connections at once: each may take all of the time. The
// sockets of one are opened on the thread that runs it.
func (j *job) validateProbes(ctx context.Context, probes []probe, log *slog.Logger) error {
	found := make([]error, len(probes))
	var group sync.WaitGroup
	for i, p := range probes {
		group.Go(func() { found[i] = inside(j.target, func() error { return p.run(ctx, log) }) })
	}
	group.Wait()
	proven := 0
	var failed []string
	for i, p := range probes {
		var cannot cannotProbe
		switch err := found[i]; {
		case errors.As(err, &cannot):
			log.Warn("not validated: "+p.What, "because", cannot.Error())
		case err != nil:
			failed = append(failed, fmt.Sprintf("%s: %v", p.What, err))
		default:
			log.Info("validated: " + p.What + " connections are captured")
			proven++
		}
	}
	switch {
	case len(failed) > 0:
		return validationError{errors.New("validation: " + strings.Join(failed, "; "))}
	case proven == 0:
		return validationError{errors.New("validation: nothing could be validated")}
	}
	return nil
}

// probe is a connection that capture must bring to a listener on a loopback
// address.
type probe struct {
	modes.Example
	excluded func(from netip.Addr) bool // whether what leaves from that address is left alone
}

// cannotProbe is why a connection would prove nothing.
type cannotProbe string

func (e cannotProbe) Error() string { return string(e) }

const (
	probePatience = time.Second // with one connection
	probePause    = 200 * time.Millisecond
	resetPatience = 20 * time.Millisecond // the listener's reset may come before word that it accepted
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
	case errors.Is(err, unix.EADDRINUSE):
		log.Info("somebody listens where the connection must arrive, and is left alone: it must be accepted", "probe", p.What, "listener", listener.String())
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
		attempt, cancel := context.WithTimeout(ctx, probePatience)
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
		case <-time.After(probePause):
		}
	}
}

// reachable asks the kernel for a route, which sends nothing. What is not sent
// cannot be captured; a call to the pod itself has a route wherever its address
// is there.
func (p probe) reachable() error {
	d := net.Dialer{}
	if p.From.IsValid() {
		if !isHere(p.To.Addr()) {
			return fmt.Errorf("%s is no address of this pod, and the proxy's calls to it have one", p.To.Addr())
		}
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.From, 0))
	}
	conn, err := d.Dial("udp", p.To.String())
	if err != nil {
		return cannotProbe(fmt.Sprintf("there is no way to %s: %v", p.To.Addr(), err))
	}
	defer conn.Close()
	from := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	if p.excluded(from) {
		return cannotProbe(fmt.Sprintf("what goes to %s leaves by an excluded interface", p.To.Addr()))
	}
	return nil
}

func isHere(addr netip.Addr) bool {
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
	why := "somebody else accepted it"
	conn, err := p.dial(ctx)
	if err == nil {
		defer conn.Close()
	} else {
		why = shortReason(err).Error()
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, resetPatience)
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

// accepted succeeds where somebody accepts the connection who does not listen
// where it was sent.
func (p probe) accepted(ctx context.Context, listener netip.AddrPort) error {
	if p.From.IsValid() {
		guard, err := bindAlone(p.To)
		if err != nil {
			return cannotProbe(fmt.Sprintf("a connection to %s proves nothing: somebody listens there (%v)", p.To, err))
		}
		defer unix.Close(guard)
	}
	conn, err := p.dial(ctx)
	if err != nil {
		return fmt.Errorf("a connection to %s was not accepted by who listens on %s: %v", p.To, listener, shortReason(err))
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

// listenAlone listens on a port that nobody else has. Without SO_REUSEADDR the
// kernel refuses what a proxy has bound and does not listen on yet, so that none
// finds its port taken.
func listenAlone(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 0) })
		return errors.Join(err, failed)
	}}
	lc.SetMultipathTCP(false) // which cannot be asked for the original destination
	ln, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// bindAlone takes an address and port, and does not listen there.
func bindAlone(at netip.AddrPort) (fd int, err error) {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()})
	if at.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// accept tells where each connection was going, until the listener is closed. It
// resets them: the end of a connection would keep the proxy from its port for a
// minute.
func accept(ctx context.Context, ln *net.TCPListener, landed chan<- netip.AddrPort) {
	for {
		conn, err := ln.AcceptTCP()
		if err != nil {
			return
		}
		dst, err := proxy.OriginalDst(conn)
		_ = conn.SetLinger(0)
		conn.Close()
		if err != nil {
			continue
		}
		select {
		case landed <- dst:
		case <-ctx.Done():
			return
		}
	}
}
