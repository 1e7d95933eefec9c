// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

// inboundListener is how the proxy listens for what comes in, of both families or of
// one, transparently or not.
type inboundListener struct {
	why       string
	listeners scratch.Listeners
	takes     map[string]bool // the families whose connections it gets, by TPROXY
}

var inboundListeners = []inboundListener{
	{"nothing listens", scratch.Listeners{}, nil},
	{"it listens on IPv4 alone", scratch.Listeners{TCP: []uint16{uint16(inboundPort)}, Only: "4", Transparent: []uint16{uint16(inboundPort)}}, map[string]bool{"IPv4": true}},
	{"it listens on IPv6 alone", scratch.Listeners{TCP: []uint16{uint16(inboundPort)}, Only: "6", Transparent: []uint16{uint16(inboundPort)}}, map[string]bool{"IPv6": true}},
	{"it listens without IP_TRANSPARENT", scratch.Listeners{TCP: []uint16{uint16(inboundPort)}}, nil},
	{"it listens on both", scratch.Listeners{TCP: []uint16{uint16(inboundPort)}, Transparent: []uint16{uint16(inboundPort)}}, map[string]bool{"IPv4": true, "IPv6": true}},
}

// tproxyWays are the ways in which what comes in is captured by TPROXY.
var tproxyWays = []struct {
	name, config string
	args         []string
}{
	{"every port", "mode: sidecar\nproxy: {uids: [1337], gids: [1337]}\ninbound: {via: tproxy, excludePorts: [9080]}\n", nil},
	{"some ports", "mode: sidecar\nproxy: {uids: [1337], gids: [1337]}\ninbound: {via: tproxy, includePorts: [8080]}\n", nil},
	{"istio-init, every port", "", append([]string{"istio-init"}, injected("TPROXY", "-d", "9080")...)},
	{"istio-init, some ports", "", append([]string{"istio-init"}, injected("TPROXY", "-b", "8080")...)},
}

// serveWhile has listeners answer until what it returns is called.
func (p *realPod) serveWhile(l scratch.Listeners) (stop func()) {
	p.Helper()
	s, err := l.Serve(p.Context(), p.pod)
	if err != nil {
		p.Fatal(err)
	}
	return func() {
		if err := s.Close(); err != nil {
			p.Error(err)
		}
	}
}

// comesIn is where a connection of the far side to a port of the pod lands.
func (p *realPod) comesIn(f family, port uint16, patience time.Duration) string {
	p.Helper()
	fate, err := scratch.Probe{ID: f.name, Proto: "tcp", Dst: f.pod.Addr(), DPort: port}.Send(p.Context(), p.far, patience)
	if err != nil {
		p.Fatal(err)
	}
	return fate.Land
}

// silence is how long a connection is waited for that must not come about: a SYN is
// sent again after a second.
const silence = 1500 * time.Millisecond

// TestNoTransparentListener: what comes in for a proxy that does not listen, or not
// transparently, or on one family alone, reaches no listener, as with the reference. What
// was open before goes on, and a proxy that starts later gets what comes then.
func TestNoTransparentListener(t *testing.T) {
	for _, way := range tproxyWays {
		for _, listener := range inboundListeners {
			t.Run(way.name+", "+listener.why, func(t *testing.T) {
				t.Parallel()
				p := newRealPod(t)
				app := scratch.Listeners{Name: "app", Identity: scratch.Identity{UID: appID, GID: appID}, TCP: []uint16{appPort, 9080}}
				defer p.serveWhile(app)()
				var open []*opened
				for _, f := range families {
					if land := p.comesIn(f, appPort, answerPatience); land != "app:8080" {
						t.Fatalf("%s, before the apply: %s", f.name, land)
					}
					ln := listenAs(t, p.pod, appID, appID, net.JoinHostPort(f.pod.Addr().String(), "0"))
					open = append(open, p.open(f.name+" inbound", p.far, 0, ln, netip.AddrPortFrom(f.pod.Addr(), plain(ln.Addr()).Port())))
				}
				if way.config != "" {
					p.feed("version: 1\n"+way.config, "apply", "--config", "-").want(t, 0)
				} else {
					p.run(way.args...).want(t, 0)
				}
				listener.listeners.Name, listener.listeners.Identity = "proxy", scratch.Identity{UID: proxyID, GID: proxyID}
				stop := p.serveWhile(listener.listeners)
				for _, f := range families {
					want, patience := "timeout", silence
					if listener.takes[f.name] {
						want, patience = "proxy:15006", answerPatience
					}
					if land := p.comesIn(f, appPort, patience); land != want {
						t.Errorf("%s: it landed at %s, want %s", f.name, land, want)
					}
					if land := p.comesIn(f, 9080, answerPatience); land != "app:9080" {
						t.Errorf("%s, to a port that is not captured: it landed at %s, want app:9080", f.name, land)
					}
				}
				for _, o := range open {
					o.lives(t, "after the apply")
				}
				stop()
				defer p.serveWhile(scratch.Listeners{Name: "late", Identity: scratch.Identity{UID: proxyID, GID: proxyID}, TCP: []uint16{uint16(inboundPort)}, Transparent: []uint16{uint16(inboundPort)}})()
				for _, f := range families {
					if land := p.comesIn(f, appPort, answerPatience); land != "late:15006" {
						t.Errorf("%s, once the proxy listens: it landed at %s", f.name, land)
					}
				}
			})
		}
	}
}

// TestRedirectWithoutAListener: what is redirected to a port on which nothing listens
// is refused, inbound and outbound.
func TestRedirectWithoutAListener(t *testing.T) {
	p := newRealPod(t)
	defer p.serveWhile(scratch.Listeners{Name: "app", Identity: scratch.Identity{UID: appID, GID: appID}, TCP: []uint16{appPort}})()
	p.feed("version: 1\nmode: sidecar\nproxy: {uids: [1337]}\n", "apply", "--config", "-").want(t, 0)
	for _, f := range families {
		if land := p.comesIn(f, appPort, answerPatience); land != "refused" {
			t.Errorf("%s inbound: it landed at %s, want refused", f.name, land)
		}
		world := f.somewhere(1, 80)
		out, err := scratch.Probe{ID: f.name, Proto: "tcp", UID: appID, GID: appID, Dst: world.Addr(), DPort: 80}.Send(t.Context(), p.pod, answerPatience)
		if err != nil || out.Land != "refused" {
			t.Errorf("%s outbound: it landed at %s (%v), want refused", f.name, out, err)
		}
	}
}

// TestExplainKnowsListeners: of a live namespace explain says that a connection is
// dropped where its transparent listener does not listen, and of a configuration what
// would become of it.
func TestExplainKnowsListeners(t *testing.T) {
	p := newRealPod(t)
	const config = "version: 1\nmode: sidecar\nproxy: {uids: [1337]}\ninbound: {via: tproxy}\n"
	p.feed(config, "apply", "--config", "-").want(t, 0)
	defer p.serveWhile(scratch.Listeners{Name: "app", Identity: scratch.Identity{UID: appID, GID: appID}, TCP: []uint16{appPort}})()
	ask := func(f family) outcome {
		return p.run("explain", "--live", "--in", "eth0", "--from", f.far.Addr().String(), "tcp", netip.AddrPortFrom(f.pod.Addr(), appPort).String()).want(t, 0)
	}
	for _, f := range families {
		ask(f).prints(t, "no listener", "dropped: ")
	}
	p.run("doctor").prints(t, "no listener on TCP port 15001 and TCP port 15006", "until the proxy listens, this is dropped")
	stop := p.serveWhile(scratch.Listeners{Name: "proxy", Identity: scratch.Identity{UID: proxyID, GID: proxyID}, TCP: []uint16{uint16(inboundPort)}, Only: "4", Transparent: []uint16{uint16(inboundPort)}})
	ask(families[0]).prints(t, "captured: lands on")
	ask(families[1]).prints(t, "no listener", "dropped: ")
	p.run("doctor").prints(t, "TCP port 15006 is listened on over IPv4 alone: inbound TCP by eth0 (IPv6) finds no listener")
	stop()
	p.feed(config, "explain", "--config", "-", "--in", "eth0", "--from", "203.0.113.7", "tcp", "10.244.1.5:8080").want(t, 0).
		prints(t, "captured: lands on the inbound listener, port 15006, addresses unchanged (no listener: dropped)")
	p.feed(config, "explain", "--config", "-", "--all").want(t, 0).prints(t, "inbound listener :15006 (no listener: dropped)")
	p.run("verify").want(t, 0) // which is about rules
}
