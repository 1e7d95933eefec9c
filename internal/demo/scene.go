// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/proxy"
)

const (
	proxyMark    = 0x539
	outboundPort = 15001
	inboundPort  = 15006
	servicePort  = 80
	appPort      = 8080
	answerWithin = 2 * time.Second
)

// scene is a pod with an application and a proxy, joined to the world.
type scene struct {
	pod, world *scratch.Namespace
	app, proxy scratch.Identity
	config     string

	stop      context.CancelFunc
	serving   sync.WaitGroup
	listening []net.Listener
	accepted  chan proxy.ConnInfo // by the proxy
}

// Addresses: of the pod's link, and of a service in the world.
const (
	podV4, podV6         = "10.77.0.2", "fd77::2"
	worldV4, worldV6     = "10.77.0.1", "fd77::1"
	serviceV4, serviceV6 = "203.0.113.10", "2001:db8:cafe::10"
)

func newScene(ctx context.Context) (_ *scene, err error) {
	s := &scene{accepted: make(chan proxy.ConnInfo, 16)}
	ctx, s.stop = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	s.identities()
	if err := s.network(); err != nil {
		return nil, err
	}
	if err := s.servers(ctx); err != nil {
		return nil, err
	}
	return s, s.warm(ctx)
}

// identities tell the proxy from the application: by user, or by mark in a user
// namespace, which has one user.
func (s *scene) identities() {
	if oneUser() {
		s.proxy = scratch.Identity{Mark: proxyMark}
		s.config = fmt.Sprintf("version: 1\nmode: sidecar\nproxy: {mark: %#x}\n", proxyMark)
		return
	}
	s.app = scratch.Identity{UID: 1000, GID: 1000}
	s.proxy = scratch.Identity{UID: 1337, GID: 1337}
	s.config = "version: 1\nmode: sidecar\nproxy: {uids: [1337], gids: [1337]}\n"
}

func oneUser() bool {
	f, err := os.Open("/proc/self/uid_map")
	if err != nil {
		return false
	}
	defer f.Close()
	var inside, outside, size uint32
	_, err = fmt.Fscan(f, &inside, &outside, &size)
	return err == nil && size == 1
}

func (s *scene) network() (err error) {
	if s.pod, err = scratch.NewNamespace(); err != nil {
		return err
	}
	if s.world, err = scratch.NewNamespace(); err != nil {
		return err
	}
	for _, ns := range []*scratch.Namespace{s.pod, s.world} {
		// No link-local addresses, which change by themselves for a while.
		if err := ns.Sysctl("net/ipv6/conf/default/addr_gen_mode", "1"); err != nil {
			return err
		}
	}
	if err := scratch.Veth(s.pod, "eth0", s.world, "eth0"); err != nil {
		return err
	}
	for _, l := range []struct {
		ns        *scratch.Namespace
		addresses []string
	}{
		{s.pod, []string{podV4 + "/24", podV6 + "/64"}},
		{s.world, []string{worldV4 + "/24", worldV6 + "/64", serviceV4 + "/32", serviceV6 + "/128"}},
	} {
		for _, a := range l.addresses {
			if err := l.ns.AddAddress("eth0", netip.MustParsePrefix(a)); err != nil {
				return err
			}
		}
		if err := l.ns.Up("eth0"); err != nil {
			return err
		}
	}
	for _, r := range []scratch.Route{
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr(worldV4)},
		{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr(worldV6)},
	} {
		if err := s.pod.AddRoute(r); err != nil {
			return err
		}
	}
	return nil
}

func (s *scene) servers(ctx context.Context) error {
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.IPv6Unspecified(), port) } // both families
	out := proxy.Dialer{Mark: s.proxy.Mark}
	in := proxy.Dialer{Mark: s.proxy.Mark, Host: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}}
	return errors.Join(
		s.greet(s.world, scratch.Identity{}, at(servicePort), "the remote service"),
		s.greet(s.pod, s.app, at(appPort), "the application"),
		s.proxyServer(ctx, at(outboundPort), out),
		s.proxyServer(ctx, at(inboundPort), in),
	)
}

// greet serves who it is to everyone who connects.
func (s *scene) greet(ns *scratch.Namespace, as scratch.Identity, at netip.AddrPort, name string) error {
	ln, err := listen(ns, as, at)
	if err != nil {
		return err
	}
	s.listening = append(s.listening, ln)
	s.serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s\n", name)
			c.Close()
		}
	})
	return nil
}

func listen(ns *scratch.Namespace, as scratch.Identity, at netip.AddrPort) (ln *proxy.Listener, err error) {
	err = ns.DoAs(as.UID, as.GID, func() error {
		ln, err = proxy.Listen(context.Background(), at, proxy.SocketOptions{Mark: as.Mark})
		return err
	})
	return ln, err
}

// proxyServer runs one listener of the proxy. What it dials belongs to the
// proxy's user, and so is not captured again.
func (s *scene) proxyServer(ctx context.Context, at netip.AddrPort, dialer proxy.Dialer) error {
	ln, err := listen(s.pod, s.proxy, at)
	if err != nil {
		return err
	}
	server := &proxy.Server{
		OnAccept: func(c proxy.ConnInfo) { s.accepted <- c },
		Dial: func(ctx context.Context, c proxy.ConnInfo) (conn *net.TCPConn, err error) {
			err = s.pod.DoAs(s.proxy.UID, s.proxy.GID, func() error {
				conn, err = dialer.Dial(ctx, c)
				return err
			})
			return conn, err
		},
	}
	s.serving.Go(func() { _ = server.Serve(ctx, ln) }) // ends with the scene
	return nil
}

func (s *scene) close() {
	s.stop()
	for _, ln := range s.listening {
		ln.Close()
	}
	s.serving.Wait()
	for _, ns := range []*scratch.Namespace{s.pod, s.world} {
		if ns != nil {
			ns.Close()
		}
	}
}
