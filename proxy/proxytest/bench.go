// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxytest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"time"
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
