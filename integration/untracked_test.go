// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/proxy"
)

// untrackedMark is on the sockets of the proxies of these tests, its listeners' too.
const untrackedMark = 0x53d

// untrackedConfig captures both ways without connection tracking.
const untrackedConfig = `mode: sidecar
proxy: {mark: 0x53d/0xfff}
inbound: {via: tproxy, excludePorts: [15020, 15021, 15090]}
outbound: {via: tproxy}
conntrack: none
`

// untracked applies a configuration and proves that it holds.
func (p *realPod) untracked(config string) {
	p.Helper()
	p.feed(config, "apply", "-f", "-").want(p, 0)
	p.feed(config, "verify", "-f", "-").want(p, 0)
	p.ok("verify")
}

// untrackedEntries fails the test for each connection that the pod's conntrack knows.
func (p *realPod) untrackedEntries(t testing.TB) {
	t.Helper()
	flows, err := p.pod.Conntrack()
	if err != nil {
		t.Fatal(err)
	}
	if len(flows) > 0 {
		t.Errorf("conntrack has %d entries, such as %+v", len(flows), flows[0])
	}
}

// untrackedWays are a proxy of the project's own for each direction, and connections both ways
// in both families.
func (p *realPod) untrackedWays() (ways []relayedWay) {
	p.Helper()
	world := serveWeb(p, p.far, 0, worldPorts...)
	application := serveWeb(p, p.pod, appID, appPort)
	marked := proxy.SocketOptions{Transparent: true, Mark: untrackedMark}
	in := p.relay(proxyID, proxyID, 15006, marked, proxy.Dialer{Mark: untrackedMark, Source: []netip.Addr{families[0].pass, families[1].pass}})
	out := p.relay(proxyID, proxyID, 15001, marked, proxy.Dialer{Mark: untrackedMark})
	return p.ways(in, out, application, world)
}

// TestUntracked captures without connection tracking: every connection reaches the project's
// own proxy and goes on to where it was going, none is tracked, and a table of another's that
// tracks changes nothing of that.
func TestUntracked(t *testing.T) {
	requests := howOften(2000, 20000)
	p := newRealPod(t)
	before := p.captureRouting()
	p.untracked(untrackedConfig)
	ways := p.untrackedWays()
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) { w.send(t, requests) })
	}
	p.untrackedEntries(t)
	p.nft("table inet tracks { chain c { type filter hook input priority 0; ct state invalid counter; }; }")
	for _, w := range ways {
		t.Run("tracked by another "+w.name, func(t *testing.T) { w.send(t, requests/10) })
	}
	p.untrackedEntries(t)
	p.ok("remove")
	if left := p.captureRouting(); left != before {
		t.Errorf("remove leaves %s, where there was %s", left, before)
	}
}

// TestUntrackedClientsAddress has the proxy call the application with the client's own address.
func TestUntrackedClientsAddress(t *testing.T) {
	requests := howOften(1000, 10000)
	p := newRealPod(t)
	p.untracked(untrackedConfig)
	application := serveWeb(t, p.pod, appID, appPort)
	r := p.relay(0, proxyID, 15006, proxy.SocketOptions{Transparent: true, Mark: untrackedMark}, proxy.Dialer{KeepClient: true, Mark: untrackedMark})
	for _, f := range families {
		client := func(i int) netip.Addr { return f.clients[i%len(f.clients)] }
		to := netip.AddrPortFrom(f.pod.Addr(), appPort)
		load{in: p.far, requests: requests, from: client, to: func(int) netip.AddrPort { return to },
			right: func(i int, s seen) bool {
				c, ours := r.of(s)
				return ours && s.Peer.Addr() == client(i) && c.Client.Addr() == client(i) && c.OriginalDst == to && s.Asked == to
			},
		}.run(t)
		if got := application.connections.Swap(0); got != int64(requests) {
			t.Errorf("the application got %d connections, want %d", got, requests)
		}
	}
	p.untrackedEntries(t)
}

// TestUntrackedAppliesWithCare: a first apply counts the connections that it would reset, and
// refuses; a mark that the ruleset in force routes is refused too, and settings are written when
// that is asked for.
func TestUntrackedAppliesWithCare(t *testing.T) {
	p := newRealPod(t)
	serveWeb(t, p.far, 0, worldPorts...)
	conn, err := dialAs(p.pod, appID, appID, netip.Addr{}, families[0].somewhere(1, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p.feed(untrackedConfig, "apply", "-f", "-").want(t, 1).says(t, "1 open connections would be reset", "--reset-open")
	if tables := p.tables(); len(tables) > 0 {
		t.Errorf("what was refused made %v", tables)
	}
	p.feed(untrackedConfig, "apply", "-f", "-", "--reset-open").want(t, 0).says(t, "open connections that this first apply resets: 1")
	p.feed(untrackedConfig, "apply", "-f", "-").want(t, 0) // once is enough
	p.ok("remove")

	conn.Close()
	few := untrackedConfig + "dns: {capture: none}\n"
	few = strings.Replace(few, "excludePorts: [15020, 15021, 15090]", "includePorts: [8080]", 1)
	p.feed(few, "apply", "-f", "-").want(t, 1).says(t, "net.ipv4.tcp_fwmark_accept=1", "--write-sysctls")
	p.feed(few, "apply", "-f", "-", "--write-sysctls").want(t, 0)
	p.feed(few, "verify", "-f", "-").want(t, 0)
	p.ok("remove")

	p.feed("mode: sidecar\nproxy: {uids: [1337]}\ninbound: {via: tproxy}\n", "apply", "-f", "-").want(t, 0)
	p.feed(strings.Replace(untrackedConfig, "0x53d", "0x539", 1), "apply", "-f", "-").want(t, 2).says(t, "proxy.mark", "is routed while the ruleset")
	p.feed(untrackedConfig, "apply", "-f", "-").want(t, 0)
}
