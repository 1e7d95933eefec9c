// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/sys/unix"
)

const (
	rateRounds         = 20
	connectionsAtATime = 4000
	firstSourcePort    = 19000 // and 13,000 more, below those that the kernel chooses
)

// The namespaces in which connections are counted.
const (
	noRules   = "no rules, a local destination"
	weirNone  = "weir, no CIDR excluded"
	weirMany  = "weir, 10000 CIDRs excluded"
	iptNone   = "iptables, no CIDR excluded"
	iptMany   = "iptables, 10000 CIDRs excluded"
	farLink   = "eth0"
	farPrefix = "203.0.113.0/24" // where the connections go
)

// connections measures how many connections a second of processor time can be
// opened through the redirect to a proxy's listener: one thread connects,
// accepts and closes.
func (b *bench) connections(ctx context.Context) (err error) {
	progress("new connections")
	scenes, err := b.scenes(ctx)
	defer func() {
		for _, s := range scenes {
			err = errors.Join(err, s.ns.Close())
		}
	}()
	if err != nil {
		return err
	}
	rates := map[string][]float64{}
	for round := range rateRounds + 1 {
		for i := range scenes {
			s := scenes[(i+round)%len(scenes)]
			took, err := s.connect(ctx, connectionsAtATime)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if round > 0 {
				rates[s.name] = append(rates[s.name], connectionsAtATime/took.Seconds())
			}
		}
	}
	for _, s := range scenes {
		b.report.Connections = append(b.report.Connections, rateRow{s.name, summarize(rates[s.name])})
	}
	rate := func(what string, bar float64, a, b string) comparison {
		return comparison{What: "new connections: " + what, Value: ratios(rates[a], rates[b]), Bar: bar, AtLeast: true}
	}
	b.report.compare(
		rate("weir, 10000 CIDRs / none", 0.95, weirMany, weirNone),
		rate("iptables, 10000 CIDRs / none", 0, iptMany, iptNone),
		rate("none, weir / iptables", 0, weirNone, iptNone),
		rate("10000 CIDRs, weir / iptables", 0, weirMany, iptMany))
	return nil
}

// A scene is a namespace with rules, for an application.
type scene struct {
	name string
	ns   *scratch.Namespace
}

func (b *bench) scenes(ctx context.Context) ([]scene, error) {
	var scenes []scene
	for _, s := range []struct {
		name  string
		cidrs int
		weir  bool
	}{{noRules, -1, false}, {weirNone, 0, true}, {weirMany, manyCIDRs, true}, {iptNone, 0, false}, {iptMany, manyCIDRs, false}} {
		ns, err := scratch.NewNamespace()
		if err != nil {
			return scenes, err
		}
		scenes = append(scenes, scene{s.name, ns})
		if err := outside(ns, s.cidrs < 0); err != nil {
			return scenes, err
		}
		var commands []command
		if s.cidrs >= 0 {
			config, err := b.write("rate.yaml", document(cidrs(s.cidrs)))
			if err != nil {
				return scenes, err
			}
			ref, err := b.reference("rate", cidrs(s.cidrs))
			if err != nil {
				return scenes, err
			}
			commands = ref.restore
			if s.weir {
				commands = []command{{Args: []string{b.weir, "apply", "--config", config}}}
			}
		}
		if _, err := runIn(ctx, ns, commands...); err != nil {
			return scenes, err
		}
	}
	return scenes, nil
}

// outside gives a namespace an address and a route to the rest of the world,
// where nothing answers: only what is redirected arrives. A local one answers
// itself for those destinations.
func outside(ns *scratch.Namespace, local bool) error {
	if err := scratch.Veth(ns, farLink, ns, "far0"); err != nil {
		return err
	}
	far := scratch.Route{Dst: netip.MustParsePrefix(farPrefix), Link: farLink}
	if local {
		far = scratch.Route{Dst: far.Dst, Local: true, Table: unix.RT_TABLE_LOCAL}
	}
	return errors.Join(ns.AddAddress(farLink, netip.MustParsePrefix("198.18.0.2/24")), ns.Up("far0"), ns.Up(farLink), ns.AddRoute(far))
}

// connect opens that many connections, from a port each, and forgets what the
// connection tracker kept of them. It tells the processor time that they took.
func (s scene) connect(ctx context.Context, count int) (took time.Duration, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = s.ns.Do(func() error {
		stay()
		listener, err := listen()
		if err != nil {
			return err
		}
		defer unix.Close(listener)
		start, err := threadTime()
		if err != nil {
			return err
		}
		for i := range count {
			if err := connectOnce(listener, i); err != nil {
				return err
			}
		}
		end, err := threadTime()
		if err != nil {
			return err
		}
		took = end - start
		return forgetConnections()
	})
	return took, err
}

// threadTime is what the thread has used of a processor. It works on both ends
// of a connection over lo, so that is all that a connection takes, whatever else
// the machine has to do.
func threadTime() (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano()), err
}

// stay keeps the thread on the processor that it is on. The thread ends with
// what it was made for, and where it may not stay the numbers only spread more.
func stay() {
	if cpu, _, err := unix.RawSyscall(unix.SYS_GETCPU, 0, 0, 0); err == 0 {
		var only unix.CPUSet
		only.Set(int(cpu))
		_ = unix.SchedSetaffinity(0, &only)
	}
}

func listen() (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("listen: %w", err)
	}
	err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &connectTimeout),
		unix.Bind(fd, &unix.SockaddrInet4{Port: outboundPort}), unix.Listen(fd, 16))
	if err != nil {
		return 0, errors.Join(fmt.Errorf("listen: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// connectTimeout is for a connection that is not accepted.
var connectTimeout = unix.Timeval{Sec: 2}

// connectOnce connects, accepts and resets.
func connectOnce(listener, i int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// A reset leaves nothing behind that waits for late packets.
	err = errors.Join(unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &connectTimeout),
		unix.Bind(fd, &unix.SockaddrInet4{Port: firstSourcePort + i}))
	if err != nil {
		return err
	}
	to := netip.MustParsePrefix(farPrefix).Addr().As4()
	to[3] = byte(1 + i%250)
	// Go's own signals interrupt; the connection goes on, and accepting waits for it.
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: outboundPort, Addr: to}); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("connect: %w", err)
	}
	for {
		accepted, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		return unix.Close(accepted)
	}
}

// forgetConnections empties the connection tracker of the thread's namespace.
func forgetConnections() error {
	const deleteAll = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: deleteAll, Flags: netlink.Request | netlink.Acknowledge},
		Data:   make([]byte, 4), // struct nfgenmsg: both families
	})
	return errors.Join(err, c.Close())
}
