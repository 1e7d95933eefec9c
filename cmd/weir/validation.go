package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
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
// ask); else by a connection that capture must bring to a listener of its own.
// Whoever's rules bring it there will do.
func (j *job) validate(ctx context.Context, a *istioArguments, c modes.Config, env modes.Environment, want rules.State, err error, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, a.probeTimeout)
	defer cancel()
	var found []rules.Difference
	if err == nil {
		_, found, err = j.session().Verify(ctx, want)
	}
	switch {
	case err == nil && len(found) == 0:
		log.Info("validated: the rules are as wanted")
		return nil
	case errors.Is(err, nft.ErrNotPermitted):
		log.Info("not compared: reading rules takes CAP_NET_ADMIN; a connection is tried")
	case err != nil:
		log.Warn("not compared; a connection is tried", "because", err)
	default:
		log.Info("the rules are not what weir would write; a connection is tried", "differences", len(found))
	}
	return validateProbes(ctx, a.probes(c, env), log)
}

// probe is a connection that capture must bring to another port of this host.
type probe struct {
	what   string
	listen netip.AddrPort
	from   netip.Addr // none leaves it to the kernel
	to     netip.AddrPort
}

// probes are one a captured family: as the proxy's user its calls to its own
// pod, as anyone else what an application opens.
func (a *istioArguments) probes(c modes.Config, env modes.Environment) []probe {
	loopback := map[rules.Family]netip.Addr{rules.IPv4: netip.MustParseAddr("127.0.0.1"), rules.IPv6: netip.IPv6Loopback()}
	passthrough := map[rules.Family]netip.Addr{rules.IPv4: netip.MustParseAddr("127.0.0.6"), rules.IPv6: netip.MustParseAddr("::6")}
	families := []rules.Family{rules.IPv4}
	if c.IPv6 == "enabled" {
		families = append(families, rules.IPv6)
	}
	asProxy := modes.IsProxy(c, env, rules.UID(os.Geteuid()), rules.GID(os.Getegid()))
	var out []probe
	for _, f := range families {
		p := probe{what: "inbound " + f.String(), from: loopback[f], to: netip.AddrPortFrom(passthrough[f], a.probePort)}
		port := a.inboundPort
		if !asProxy {
			to, captured := modes.OutboundExample(c, env, f, rules.Port(a.probePort))
			if !captured {
				continue
			}
			p, port = probe{what: "outbound " + f.String(), to: to}, a.outboundPort
		}
		p.listen, _ = netip.ParseAddrPort(net.JoinHostPort(loopback[f].String(), port)) // checked by modes
		out = append(out, p)
	}
	return out
}

var errCannotProbe = errors.New("cannot be probed here")

func validateProbes(ctx context.Context, probes []probe, log *slog.Logger) error {
	proven := 0
	for _, p := range probes {
		err := p.run(ctx)
		switch {
		case errors.Is(err, errCannotProbe):
			log.Warn("not validated: "+p.what, "because", err)
		case err != nil:
			return validationError{fmt.Errorf("validation: %s: %w", p.what, err)}
		default:
			log.Info("validated: " + p.what + " connections are captured")
			proven++
		}
	}
	if proven == 0 {
		return validationError{errors.New("validation: nothing could be validated")}
	}
	return nil
}

const (
	probeInterval = time.Second
)

// run tries the connection once a second until it lands where it should, or
// the time is over. A capture port that somebody else holds is left to them:
// then the connection must be accepted.
func (p probe) run(ctx context.Context) error {
	ln, err := proxy.SocketOptions{}.Listen(ctx, p.listen)
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("%w: %w", errCannotProbe, err)
	}
	held := errors.Is(err, unix.EADDRINUSE)
	if err != nil && !held {
		return err
	}
	landed := make(chan netip.AddrPort)
	if !held {
		defer ln.Close()
		go accept(ctx, ln, landed)
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, probeInterval)
		connected, err := p.dial(attempt)
		if unreachable(err) {
			cancel()
			return fmt.Errorf("%w: %w", errCannotProbe, err)
		}
		if held && connected {
			cancel()
			return nil
		}
		select {
		case dst := <-landed:
			cancel()
			if dst == p.to {
				return nil
			}
		case <-attempt.Done():
			cancel()
		}
		if ctx.Err() != nil {
			return p.failure(held, err)
		}
	}
}

func (p probe) failure(held bool, err error) error {
	if held {
		return fmt.Errorf("a connection to %s was not accepted: %w", p.to, err)
	}
	return fmt.Errorf("a connection to %s did not arrive at %s: it is not captured", p.to, p.listen)
}

func unreachable(err error) bool {
	return slices.ContainsFunc([]error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EADDRNOTAVAIL}, func(e error) bool { return errors.Is(err, e) })
}

func (p probe) dial(ctx context.Context) (connected bool, err error) {
	d := net.Dialer{FallbackDelay: -1}
	if p.from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.from, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", p.to.String())
	if err != nil {
		return false, err
	}
	return true, conn.Close()
}

// accept tells where each connection was going, until the listener is closed.
func accept(ctx context.Context, ln *net.TCPListener, landed chan<- netip.AddrPort) {
	for {
		conn, err := ln.AcceptTCP()
		if err != nil {
			return
		}
		dst, err := proxy.OriginalDst(conn)
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
