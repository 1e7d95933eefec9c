// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

// ResolvConf is the resolver configuration of the pod, for the command under test: the lab itself
// writes it nowhere.
const ResolvConf = "nameserver 10.96.0.10\nnameserver 127.0.0.53\nnameserver 2001:db8:53::53\n"

// How the namespaces of a pod are called by probes and answers, and where the peer catches everything.
const (
	podName  = "pod"
	peerName = "peer"
	peerPort = 7000
	appUser  = 1000
)

// readyTimeout bounds the wait for all links to carry packets.
const readyTimeout = 5 * time.Second

// A Pod is the lab of the conformance tables: the pod itself, in which the command under test is
// applied, with the listeners of a proxy and of applications, and a peer that is the rest of the
// world. Three links join them:
//
//	pod                                         peer
//	eth0  198.18.0.2/24  2001:db8:18::2/64  --  r0  198.18.0.1  2001:db8:18::1
//	eth1  198.18.1.2/24  2001:db8:19::2/64  --  r1  198.18.1.1  2001:db8:19::1
//	nic9  198.18.2.2/24  2001:db8:20::2/64  --  r2  198.18.2.1  2001:db8:20::1
//
// The pod's default routes lead through eth0. The peer answers on port 7000 for every address that
// arrives, and reaches some networks through eth1, as if they were virtual machines behind the pod.
type Pod struct {
	*scratch.Namespace
	Peer    *scratch.Namespace
	servers scratch.Servers

	transparent bool     // all of the proxy's listeners are
	taken       []uint16 // of the application's ports, the proxy's too
}

// A podLink is one pair of links and its addresses.
type podLink struct{ pod, peer podEnd }

type podEnd struct {
	name   string
	v4, v6 netip.Prefix
}

func podLinks() [3]podLink {
	end := func(name, v4, v6 string) podEnd {
		return podEnd{name, netip.MustParsePrefix(v4), netip.MustParsePrefix(v6)}
	}
	return [...]podLink{
		{end("eth0", "198.18.0.2/24", "2001:db8:18::2/64"), end("r0", "198.18.0.1/24", "2001:db8:18::1/64")},
		{end("eth1", "198.18.1.2/24", "2001:db8:19::2/64"), end("r1", "198.18.1.1/24", "2001:db8:19::1/64")},
		{end("nic9", "198.18.2.2/24", "2001:db8:20::2/64"), end("r2", "198.18.2.1/24", "2001:db8:20::1/64")},
	}
}

// NewPod builds the lab with proxy as the identity of the proxy's own listeners, and returns when
// packets pass on every link. It needs the right to become that user and user 1000. The listeners
// answer until ctx is done or the pod is closed.
func NewPod(ctx context.Context, proxy scratch.Identity) (*Pod, error) {
	return new(Pod).build(ctx, proxy)
}

// NewTransparentPod is NewPod with a proxy all of whose listeners are transparent, and which
// listens on those of the application's ports too.
func NewTransparentPod(ctx context.Context, proxy scratch.Identity, ports ...uint16) (*Pod, error) {
	return (&Pod{transparent: true, taken: ports}).build(ctx, proxy)
}

func (p *Pod) build(ctx context.Context, proxy scratch.Identity) (_ *Pod, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("build the lab's pod: %w", errors.Join(err, p.Close()))
		}
	}()
	if p.Namespace, err = scratch.NewNamespace(); err != nil {
		return nil, err
	}
	if p.Peer, err = scratch.NewNamespace(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{
		p.join, p.settings, p.addresses, p.routes,
		func() error { return p.Peer.CatchAll(peerPort, "r0", "r1", "r2") },
		func() error { return p.listen(ctx, proxy) },
		func() error { return p.ready(ctx) },
	} {
		if err = step(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Close ends the listeners and lets go of both namespaces.
func (p *Pod) Close() error {
	errs := []error{p.servers.Close()}
	for _, ns := range []*scratch.Namespace{p.Namespace, p.Peer} {
		if ns != nil {
			errs = append(errs, ns.Close())
		}
	}
	return errors.Join(errs...)
}

func (p *Pod) join() error {
	for _, l := range podLinks() {
		if err := scratch.Veth(p.Namespace, l.pod.name, p.Peer, l.peer.name); err != nil {
			return err
		}
	}
	return nil
}

// settings makes both namespaces routers that take packets wherever they come from.
func (p *Pod) settings() error {
	type setting struct{ key, value string }
	settings := []setting{
		{"net/ipv4/ip_forward", "1"},
		{"net/ipv6/conf/all/forwarding", "1"},
		{"net/ipv6/conf/default/forwarding", "1"},
	}
	anyLink := func(link string) []setting {
		return []setting{
			{"net/ipv4/conf/" + link + "/rp_filter", "0"},
			{"net/ipv6/conf/" + link + "/accept_dad", "0"},
		}
	}
	for _, link := range []string{"all", "default", "lo"} {
		settings = append(settings, anyLink(link)...)
	}
	pod, peer := slices.Clone(settings), append(settings, setting{"net/ipv4/conf/all/route_localnet", "1"})
	for _, l := range podLinks() {
		pod, peer = append(pod, anyLink(l.pod.name)...), append(peer, anyLink(l.peer.name)...)
	}
	for _, s := range pod {
		if err := p.Sysctl(s.key, s.value); err != nil {
			return err
		}
	}
	for _, s := range peer {
		if err := p.Peer.Sysctl(s.key, s.value); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pod) addresses() error {
	for _, l := range podLinks() {
		if err := errors.Join(l.pod.addTo(p.Namespace), l.peer.addTo(p.Peer)); err != nil {
			return err
		}
	}
	return nil
}

func (e podEnd) addTo(ns *scratch.Namespace) error {
	return errors.Join(ns.AddAddress(e.name, e.v4), ns.AddAddress(e.name, e.v6), ns.Up(e.name))
}

func (p *Pod) routes() error {
	eth0, eth1 := podLinks()[0], podLinks()[1]
	for _, r := range []struct {
		in  *scratch.Namespace
		dst string
		via netip.Prefix
	}{
		{p.Namespace, "0.0.0.0/0", eth0.peer.v4},
		{p.Namespace, "::/0", eth0.peer.v6},
		// As if virtual machines were behind the pod's eth1.
		{p.Peer, "10.4.0.0/16", eth1.pod.v4},
		{p.Peer, "9.9.0.0/16", eth1.pod.v4},
		{p.Peer, "2001:db8:99::/48", eth1.pod.v6},
	} {
		if err := r.in.AddRoute(scratch.Route{Dst: netip.MustParsePrefix(r.dst), Via: r.via.Addr()}); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pod) listen(ctx context.Context, proxy scratch.Identity) (err error) {
	ofProxy := []uint16{15001, 15006, 15008, 15020, 15021, 15053, 15090}
	ofApp := []uint16{22, 53, 80, 443, 4000, 5000, 6000, 8080, 9080, 31000, 32000}
	transparent := []uint16{15001, 15006}
	if p.transparent {
		for _, port := range p.taken {
			if i := slices.Index(ofApp, port); i >= 0 {
				ofApp, ofProxy = slices.Delete(ofApp, i, i+1), append(ofProxy, port)
			}
		}
		transparent = ofProxy
	}
	p.servers, err = scratch.ServeAll(ctx,
		scratch.Placed{In: p.Namespace, Listeners: scratch.Listeners{
			Name: podName, Identity: proxy, Transparent: transparent,
			TCP: ofProxy,
			UDP: []uint16{15001, 15053},
		}},
		scratch.Placed{In: p.Namespace, Listeners: scratch.Listeners{
			Name: podName, Identity: scratch.Identity{UID: appUser, GID: appUser},
			TCP: ofApp,
			UDP: []uint16{53, 443, 8080},
		}},
		scratch.Placed{In: p.Peer, Listeners: scratch.Listeners{
			Name: peerName,
			TCP:  []uint16{peerPort},
			UDP:  []uint16{peerPort},
		}})
	return err
}

// ready returns when the peer answers the pod on every link and in both families.
func (p *Pod) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, l := range podLinks() {
		for _, peer := range []netip.Prefix{l.peer.v4, l.peer.v6} {
			probe := scratch.Probe{
				ID: "to " + peer.Addr().String(), Proto: "udp", UID: appUser, GID: appUser,
				Dst: peer.Addr(), DPort: peerPort,
			}
			if err := probe.Await(ctx, p.Namespace); err != nil {
				return fmt.Errorf("link %s: %w", l.pod.name, err)
			}
		}
	}
	return nil
}
