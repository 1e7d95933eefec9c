// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxytest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// readyTimeout bounds the wait for the link to carry packets.
const readyTimeout = 5 * time.Second

// portRange is what the kernel chooses source ports from: above those of the test's own clients, and
// so few that a proxy that goes in circles runs out of them before the machine runs out of anything.
const portRange = "40000 41023"

// family is the addresses of one family.
type family struct {
	name   string
	pod    netip.Addr // the application's, on the link
	client netip.Addr // of the world, when it calls
	world  netip.Addr // of the world, when it is called
}

func families() []family {
	addr := netip.MustParseAddr
	return []family{
		{"ipv4", addr("198.18.0.2"), addr("198.51.100.7"), addr("203.0.113.10")},
		{"ipv6", addr("2001:db8:18::2"), addr("2001:db8:c::7"), addr("2001:db8:a::10")},
	}
}

// pod is the application's namespace, and the world's, with a link between them:
//
//	pod                                    world
//	eth0 198.18.0.2/24 2001:db8:18::2/64 -- pod0 198.18.0.1/24 2001:db8:18::1/64
//	                                        lo   the addresses of family
type pod struct {
	app, world *scratch.Namespace
	services   []*service
}

// newPod makes the namespaces, divert's rules in the application's, and the services of both.
func newPod(ctx context.Context, via Via) (_ *pod, err error) {
	p := new(pod)
	defer func() {
		if err != nil {
			err = fmt.Errorf("make the network of the test: %w", errors.Join(err, p.close()))
		}
	}()
	if p.app, err = scratch.NewNamespace(); err != nil {
		return nil, err
	}
	if p.world, err = scratch.NewNamespace(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{
		p.settings, p.link, p.routes, p.serve,
		func() error { return p.ready(ctx) },
		func() error { return p.divert(ctx, via) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *pod) close() error {
	var errs []error
	for _, s := range p.services {
		errs = append(errs, s.close())
	}
	for _, ns := range []*scratch.Namespace{p.app, p.world} {
		if ns != nil {
			errs = append(errs, ns.Close())
		}
	}
	return errors.Join(errs...)
}

// settings let the client's address come in by lo, where the proxy sends it.
func (p *pod) settings() error {
	for _, link := range []string{"all", "default", "lo"} {
		if err := p.app.Sysctl("net/ipv4/conf/"+link+"/rp_filter", "0"); err != nil {
			return err
		}
	}
	return p.app.Sysctl("net/ipv4/ip_local_port_range", portRange)
}

func (p *pod) link() error {
	if err := scratch.Veth(p.app, "eth0", p.world, "pod0"); err != nil {
		return err
	}
	prefix := netip.MustParsePrefix
	errs := []error{
		p.app.AddAddress("eth0", prefix("198.18.0.2/24")), p.app.AddAddress("eth0", prefix("2001:db8:18::2/64")),
		p.world.AddAddress("pod0", prefix("198.18.0.1/24")), p.world.AddAddress("pod0", prefix("2001:db8:18::1/64")),
		p.app.Up("eth0"), p.world.Up("pod0"),
	}
	for _, f := range families() {
		for _, a := range []netip.Addr{f.client, f.world} {
			errs = append(errs, p.world.AddAddress("lo", netip.PrefixFrom(a, a.BitLen())))
		}
	}
	return errors.Join(errs...)
}

func (p *pod) routes() error {
	return errors.Join(
		p.app.AddRoute(scratch.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("198.18.0.1")}),
		p.app.AddRoute(scratch.Route{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("2001:db8:18::1")}),
	)
}

func (p *pod) serve() error {
	for _, ns := range []*scratch.Namespace{p.app, p.world} {
		for port, talk := range services() {
			s, err := newService(ns, port, talk)
			if err != nil {
				return err
			}
			p.services = append(p.services, s)
		}
	}
	return nil
}

// ready returns when the world answers in both families.
func (p *pod) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	const port = 7
	server, err := scratch.Listeners{Name: "world", UDP: []uint16{port}}.Serve(ctx, p.world)
	if err != nil {
		return err
	}
	defer server.Close()
	for _, f := range families() {
		for _, a := range []netip.Addr{f.world, f.client} {
			probe := scratch.Probe{ID: "to " + a.String(), Proto: "udp", Dst: a, DPort: port}
			if err := probe.Await(ctx, p.app); err != nil {
				return err
			}
		}
	}
	return nil
}

// divert has the proxy told by its mark.
func (p *pod) divert(ctx context.Context, via Via) error {
	s := setup(via)
	config := modes.Config{
		Version: "1",
		Mode:    modes.ModeSidecar,
		IPv6:    "enabled",
		Proxy:   modes.Proxy{Mark: modes.MaskedMark(proxyMark, markMask)},
		Inbound: modes.Inbound{Via: string(via), Port: modes.Port(s.Inbound.Listen.Port())},
		Outbound: modes.Outbound{
			Port: modes.Port(s.Outbound.Listen.Port()),
		},
		Routing: modes.Routing{Mark: modes.MaskedMark(routingMark, markMask)},
	}
	ns, err := netns.Open(p.app.Path())
	if err != nil {
		return err
	}
	defer ns.Close()
	c, err := capture.New(ns, config, capture.Options{Version: "proxytest"})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Apply(ctx)
	return err
}
