// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxytest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

// attempt is one connection through the proxy.
type attempt struct {
	check
	family
	bench  *bench
	side   Side
	from   *scratch.Namespace
	client netip.AddrPort // of the client
	dst    netip.AddrPort
	want   netip.Addr // as whom the service sees the client
	served <-chan served
}

func (b *bench) tell(c check, f family) *attempt {
	a := &attempt{check: c, family: f, bench: b}
	services := b.pod.services
	if c.inbound {
		a.side, a.from, a.client = b.setup.Inbound, b.pod.world, b.clientPort(f.client)
		a.dst = netip.AddrPortFrom(f.pod, c.port)
		services = ofNamespace(services, b.pod.app)
	} else {
		a.side, a.from, a.client = b.setup.Outbound, b.pod.app, b.clientPort(f.pod)
		a.dst = netip.AddrPortFrom(f.world, c.port)
		services = ofNamespace(services, b.pod.world)
	}
	for _, s := range services {
		if s.port == c.port {
			s.forget()
			a.served = s.served
		}
	}
	switch {
	case a.side.KeepClient:
		a.want = a.client.Addr()
	case len(a.side.Source) > 0:
		for _, s := range a.side.Source {
			if s.Is4() == a.dst.Addr().Is4() {
				a.want = s
			}
		}
	default:
		a.want = f.pod
	}
	return a
}

func ofNamespace(all []*service, ns *scratch.Namespace) (out []*service) {
	for _, s := range all {
		if s.ns == ns {
			out = append(out, s)
		}
	}
	return out
}

// run connects and lets the check talk, while it watches the proxy's sockets.
func (a *attempt) run(ctx context.Context) error {
	// One wait for a family is enough, also after the proxy has been started anew.
	wait := grace
	if a.bench.unserved[a.family.name] {
		wait = 0
	}
	if err := a.bench.await(ctx, wait, a.familyServed); err != nil {
		a.bench.unserved[a.family.name] = true
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	type outcome struct {
		conn *net.TCPConn
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		conn, err := a.connect(ctx)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			err = a.talk(a, conn)
		}
		done <- outcome{conn, err}
	}()
	for {
		select {
		case o := <-done:
			if o.conn != nil {
				defer o.conn.Close()
			}
			if o.err == nil {
				return nil
			}
			return a.explain(o.err)
		case <-time.After(lookEvery):
		}
		fault, err := a.fault()
		if err != nil || fault != nil {
			cancel()
			if o := <-done; o.conn != nil {
				o.conn.Close()
			}
			return errors.Join(err, fault)
		}
	}
}

func (a *attempt) connect(ctx context.Context) (conn *net.TCPConn, err error) {
	err = a.from.Do(func() error {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(a.client)}
		c, err := d.DialContext(ctx, "tcp", a.dst.String())
		if err != nil {
			return fmt.Errorf("the client cannot connect: %w", err)
		}
		conn = c.(*net.TCPConn)
		return conn.SetDeadline(time.Now().Add(patience))
	})
	return conn, err
}

// explain adds what the proxy's sockets tell of a failure.
func (a *attempt) explain(failure error) error {
	if ended := a.bench.proxy.failure(); ended != nil {
		return fmt.Errorf("%w: %w", ended, failure)
	}
	fault, err := a.fault()
	switch {
	case err != nil:
		return errors.Join(failure, err)
	case fault != nil:
		return fault
	}
	return failure
}
