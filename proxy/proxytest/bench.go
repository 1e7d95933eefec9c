//go:build linux

package proxytest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

const (
	patience        = 10 * time.Second // of each connection, where nothing tells sooner that it fails
	grace           = 2 * time.Second  // for a listener of one family once the other's is there
	lookEvery       = 10 * time.Millisecond
	firstClientPort = 20000
	circleSize      = 8 // onward connections for one of a client's, from which on they go in a circle
)

// bench is a proxy at work in a pod, for one check after the other. After a failure the next check
// gets a new pod and a new proxy.
type bench struct {
	setup   Setup
	command func(Setup) *exec.Cmd
	pod     *pod
	proxy   *process
	clients uint16 // how many there were

	unserved map[string]bool // families that no listener was there for
}

func newBench(via Via, command func(Setup) *exec.Cmd) *bench {
	return &bench{setup: setup(via), command: command, unserved: map[string]bool{}}
}

// clientPort is a port that no other client has had, outside of what the kernel chooses from: whatever
// else goes to a destination is the proxy's.
func (b *bench) clientPort(addr netip.Addr) netip.AddrPort {
	b.clients++
	return netip.AddrPortFrom(addr, firstClientPort+b.clients)
}

func (b *bench) run(ctx context.Context, c check, f family) error {
	if err := b.ready(ctx); err != nil {
		return errors.Join(err, b.abandon())
	}
	t := b.tell(c, f)
	err := t.run(ctx)
	if err == nil {
		err = b.proxy.failure()
	}
	if err == nil {
		return nil
	}
	wrote := b.proxy.output.String()
	if wrote != "" {
		err = fmt.Errorf("%w\nthe proxy wrote:\n%s", err, wrote)
	}
	return errors.Join(err, b.abandon())
}

// ready starts what does not run, and returns when the proxy listens on both ports.
func (b *bench) ready(ctx context.Context) (err error) {
	if b.proxy != nil {
		return nil
	}
	if b.pod, err = newPod(ctx, b.setup.Via); err != nil {
		return err
	}
	if b.proxy, err = startProcess(b.pod.app, b.command(b.setup)); err != nil {
		return err
	}
	ports := []uint16{b.setup.Outbound.Listen.Port(), b.setup.Inbound.Listen.Port()}
	return b.await(ctx, patience, func(all []socket) error {
		for _, port := range ports {
			if len(listeners(all, port)) == 0 {
				return fmt.Errorf("the proxy does not listen on port %d", port)
			}
		}
		return nil
	})
}

// await asks again and again whether the sockets are as they should be. The error is what they lack
// in the end.
func (b *bench) await(ctx context.Context, wait time.Duration, lack func([]socket) error) error {
	late := time.After(wait)
	for {
		all, err := sockets(b.pod.app)
		if err != nil {
			return err
		}
		missing := lack(all)
		if missing == nil {
			return nil
		}
		select {
		case <-time.After(lookEvery):
		case <-b.proxy.ended:
			return fmt.Errorf("%w: %w\nthe proxy wrote:\n%s", missing, b.proxy.failure(), b.proxy.output.String())
		case <-late:
			return missing
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// close lets the proxy end by itself.
func (b *bench) close() error {
	if b.proxy != nil {
		b.proxy.stop()
	}
	return b.abandon()
}

func (b *bench) abandon() (err error) {
	if b.proxy != nil {
		b.proxy.kill()
	}
	if b.pod != nil {
		err = b.pod.close()
	}
	b.proxy, b.pod = nil, nil
	return err
}

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
