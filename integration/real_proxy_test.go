// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/proxy"
)

// relay is the project's own proxy at work in a pod.
type relay struct {
	accepted sync.Map // what it took its connections for, a proxy.ConnInfo for each pair of ends
}

// ends are a connection's; one local port serves many destinations.
type ends struct{ local, remote netip.AddrPort }

// relay starts the proxy in the pod on a port of both families. Onward
// connections are opened as the same user.
func (p *realPod) relay(uid, gid uint32, port uint16, options proxy.SocketOptions, d proxy.Dialer) *relay {
	p.Helper()
	r := &relay{}
	server := &proxy.Server{Dial: func(ctx context.Context, c proxy.ConnInfo) (conn *net.TCPConn, err error) {
		inside := p.pod.DoAs(uid, gid, func() error {
			conn, err = d.Dial(ctx, c)
			return nil
		})
		if err = errors.Join(inside, err); err == nil {
			r.accepted.Store(ends{plain(conn.LocalAddr()), plain(conn.RemoteAddr())}, c)
		}
		return conn, err
	}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, any := range []string{"0.0.0.0", "::"} {
		var ln *net.TCPListener
		err := p.pod.DoAs(uid, gid, func() error {
			lc := net.ListenConfig{Control: options.Control}
			lc.SetMultipathTCP(false)
			network := map[string]string{"0.0.0.0": "tcp4", "::": "tcp6"}[any]
			l, err := lc.Listen(ctx, network, net.JoinHostPort(any, strconv.Itoa(int(port))))
			if err == nil {
				ln = l.(*net.TCPListener)
			}
			return err
		})
		if err != nil {
			p.Fatal(err)
		}
		running.Go(func() { _ = server.Serve(ctx, &proxy.Listener{TCPListener: ln}) })
	}
	p.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return r
}

// plain is a TCP address, of IPv4 as such.
func plain(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// of is what the proxy took a connection for that a service sees; false where
// the proxy did not open it.
func (r *relay) of(s seen) (proxy.ConnInfo, bool) {
	c, ok := r.accepted.LoadAndDelete(ends{s.Peer, s.Asked})
	if !ok {
		return proxy.ConnInfo{}, false
	}
	return c.(proxy.ConnInfo), true
}

// count is the packet counter of the table's rules with that comment.
func (n *namespace) count(reason string) (packets int) {
	n.Helper()
	found := regexp.MustCompile(`counter packets (\d+) .*comment "`+regexp.QuoteMeta(reason)+`"`).FindAllStringSubmatch(n.nft("list table inet "+tableName), -1)
	if found == nil {
		n.Fatalf("no rule says %q", reason)
	}
	for _, m := range found {
		k, err := strconv.Atoi(m[1])
		if err != nil {
			n.Fatal(err)
		}
		packets += k
	}
	return packets
}

// TestTheApplicationSeesTheClient takes inbound connections by TPROXY to a proxy
// that calls the application with the client's own address. The application's
// answers are for that address, and must come back to the proxy.
func TestTheApplicationSeesTheClient(t *testing.T) {
	requests := howOften(2000, 10000)
	p := newRealPod(t)
	p.istioInit(injected("TPROXY")...)
	application := serveWeb(t, p.pod, appID, appPort)
	r := p.relay(0, proxyID, 15006, proxy.SocketOptions{Transparent: true}, proxy.Dialer{KeepClient: true, Mark: proxyID})
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			client := func(i int) netip.Addr { return f.clients[i%len(f.clients)] }
			to := netip.AddrPortFrom(f.pod.Addr(), appPort)
			const answer = "the application's answer goes back through the proxy"
			before := p.count(answer)
			load{in: p.far, requests: requests, from: client,
				to: func(int) netip.AddrPort { return to },
				right: func(i int, s seen) bool {
					c, ours := r.of(s)
					return ours && s.Peer.Addr() == client(i) && c.Client.Addr() == client(i) && c.OriginalDst == to && s.Asked == to
				},
			}.run(t)
			if got := application.connections.Swap(0); got != int64(requests) {
				t.Errorf("the application got %d connections, want %d", got, requests)
			}
			if answers := p.count(answer) - before; answers < 2*requests {
				t.Errorf("%d packets of the application's went back through the proxy, want two a request at least", answers)
			}
			flows, err := p.pod.Conntrack()
			if err != nil {
				t.Fatal(err)
			}
			marks := map[uint32]int{} // of the proxy's connections; a later one may have taken an earlier one's port
			for _, flow := range flows {
				if flow.Dst == to && flow.Src.Port() <= lastPodPort {
					marks[flow.Mark]++
				}
			}
			if marks[proxyID] < requests/2 || len(marks) != 1 {
				t.Errorf("conntrack remembers the proxy's connections with the client's address under the marks %v, want all under %d", marks, proxyID)
			}
		})
	}
}

// TestTheProxyFindsTheDestination lets the project's own proxy be the sidecar's,
// by REDIRECT, in both families.
func TestTheProxyFindsTheDestination(t *testing.T) {
	requests := howOften(2000, 10000)
	p := newRealPod(t)
	p.istioInit(injected("REDIRECT")...)
	world := serveWeb(t, p.far, 0, worldPorts...)
	application := serveWeb(t, p.pod, appID, appPort)
	in := p.relay(proxyID, proxyID, 15006, proxy.SocketOptions{}, proxy.Dialer{Source: []netip.Addr{families[0].pass, families[1].pass}})
	out := p.relay(proxyID, proxyID, 15001, proxy.SocketOptions{}, proxy.Dialer{})
	for _, way := range p.ways(in, out, application, world) {
		t.Run(way.name, func(t *testing.T) { way.send(t, requests) })
	}
}

// relayedWay is one direction of a family's connections, and what the service at its end sees.
type relayedWay struct {
	name    string
	load    load
	relay   *relay
	service *web
	from    netip.Addr // whom the service sees
}

// ways are connections both ways in both families, by a proxy for each direction.
func (p *realPod) ways(in, out *relay, application, world *web) (ways []relayedWay) {
	for _, f := range families {
		client := func(i int) netip.Addr { return f.clients[i%len(f.clients)] }
		inside := func(int) netip.AddrPort { return netip.AddrPortFrom(f.pod.Addr(), appPort) }
		outside := func(i int) netip.AddrPort { return f.somewhere(i, worldPorts[i%len(worldPorts)]) }
		ways = append(ways,
			relayedWay{"inbound " + f.name, load{in: p.far, from: client, to: inside}, in, application, f.pass},
			relayedWay{"outbound " + f.name, load{in: p.pod, uid: appID, gid: appID, to: outside}, out, world, f.pod.Addr()})
	}
	return ways
}

// send sends requests that way, each of which must reach the service by the proxy, which must
// have recovered its destination.
func (w relayedWay) send(t *testing.T, requests int) {
	t.Helper()
	l := w.load
	l.requests = requests
	l.right = func(i int, s seen) bool {
		c, ours := w.relay.of(s)
		return ours && s.Peer.Addr() == w.from && c.OriginalDst == l.to(i) && s.Asked == l.to(i) && (l.from == nil || c.Client.Addr() == l.from(i))
	}
	l.run(t)
	if got := w.service.connections.Swap(0); got != int64(requests) {
		t.Errorf("the service got %d connections, want %d", got, requests)
	}
}

// TestAProxyWithoutCaptureIsPassedBy is the control of the tests beside it: where
// nothing captures, they would see every connection come past the proxy.
func TestAProxyWithoutCaptureIsPassedBy(t *testing.T) {
	p := newRealPod(t)
	serveWeb(t, p.far, 0, worldPorts...)
	serveWeb(t, p.pod, appID, appPort)
	r := p.relay(proxyID, proxyID, 15006, proxy.SocketOptions{}, proxy.Dialer{})
	for _, f := range families {
		for _, way := range []struct {
			in *scratch.Namespace
			to netip.AddrPort
		}{{p.far, netip.AddrPortFrom(f.pod.Addr(), appPort)}, {p.pod, f.somewhere(1, 80)}} {
			err := way.in.DoAs(appID, appID, func() error {
				s, err := get(netip.Addr{}, way.to)
				if _, ours := r.of(s); ours || s.By != "" || s.Asked != way.to {
					t.Errorf("%s: the service saw %+v", way.to, s)
				}
				return err
			})
			if err != nil {
				t.Errorf("%s: %v", way.to, err)
			}
		}
	}
}
