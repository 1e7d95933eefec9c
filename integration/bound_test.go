// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

// boundModes are the ways of capture that what bound sockets send is tried with.
var boundModes = []struct {
	why      string
	args     []string
	mark     uint32
	resolver bool // queries are captured
}{
	{"redirect", []string{"--mode", "sidecar", "--proxy-uids", "1337", "--dns-capture", "all"}, 0, true},
	{"tproxy", []string{"--mode", "sidecar", "--proxy-uids", "1337", "--dns-capture", "all", "--inbound-via", "tproxy"}, 0, true},
	{"ambient", []string{"--mode", "ambient-pod", "--dns-capture", "all"}, 0x539, true},
	{"no conntrack", []string{"--mode", "sidecar", "--proxy-mark", "0x53d/0xfff", "--conntrack", "none", "--inbound-via", "tproxy", "--outbound-via", "tproxy"}, untrackedMark, false},
}

const boundPatience = 3 * time.Second

// twoLinks is a pod with a second interface, and neighbours at fe80::1 on the first: what arrives
// there for a loopback address is counted.
func twoLinks(t *testing.T) (p *realPod, zone string) {
	p = newRealPod(t)
	p.ip("link add eth1 type veth peer name other1")
	for _, line := range []string{"addr add 198.18.1.2/24 dev eth1", "-6 addr add 2001:db8:19::2/64 dev eth1 nodad", "link set other1 up", "link set eth1 up",
		"route add default via 198.18.1.1 metric 50", "-6 route add default via 2001:db8:19::1 metric 5000"} {
		p.ip(line)
	}
	if err := p.far.AddAddress("far0", netip.MustParsePrefix("fe80::1/64")); err != nil {
		t.Fatal(err)
	}
	leaks := "type filter hook prerouting priority -400; ip daddr 127.0.0.0/8 counter name stray; ip6 daddr ::1 counter name stray"
	p.nftIn(p.far, "table inet watch { counter stray { }; chain c { "+leaks+"; }; }")
	p.nftIn(p.pod, "table inet watch { counter stray { }; chain c { "+strings.ReplaceAll(leaks, "ip", `iifname "other1" ip`)+"; }; }")
	err := p.pod.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err == nil {
			zone = fmt.Sprint(eth0.Index)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, zone
}

// TestBoundSockets: what a socket sends that is bound to an interface is captured, by whichever
// interface; what it sends to a link-local address meets its neighbour; nothing leaves for a
// loopback address; explain says all of it.
func TestBoundSockets(t *testing.T) {
	p, zone := twoLinks(t)
	far, err := scratch.Listeners{Name: "far", TCP: []uint16{53, 80}, UDP: []uint16{53}}.Serve(t.Context(), p.far)
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	before := p.routing()
	for _, m := range boundModes {
		t.Run(m.why, func(t *testing.T) {
			p := p.elsewhereCalled(t)
			p.ok(append([]string{"apply"}, m.args...)...)
			defer func() {
				p.ok("remove")
				if left := p.routing(); left != before {
					t.Errorf("remove leaves\n%s\nwhere there was\n%s", left, before)
				}
			}()
			p.ok(append([]string{"verify"}, m.args...)...)
			p.ok("verify")
			ports := []uint16{15001, 15006, 15053}
			defer p.serveWhile(scratch.Listeners{Name: "proxy", Identity: scratch.Identity{UID: proxyID, GID: proxyID, Mark: m.mark}, TCP: ports, UDP: ports[2:], Transparent: ports[:2]})()
			sends := func(proto, device string, to netip.AddrPort, land, explained string) {
				t.Helper()
				fate, err := scratch.Probe{Proto: proto, UID: appID, GID: appID, Dst: to.Addr(), DPort: to.Port(), Device: device}.Send(t.Context(), p.pod, boundPatience)
				plain := netip.AddrPortFrom(to.Addr().WithZone(""), to.Port())
				if orig := netip.AddrPortFrom(fate.Orig.Addr().WithZone(""), fate.Orig.Port()); err != nil || fate.Land != land || proto == "tcp" && orig != plain {
					t.Errorf("%s %s by %s: %s %v, want %s", proto, to, device, fate, err, land)
				}
				p.run("explain", "--live", "--uid", fmt.Sprint(appID), "--device", device, proto, plain.String()).want(t, 0).prints(t, explained)
			}
			for _, device := range []string{"eth0", "eth1"} {
				for _, f := range families {
					sends("tcp", device, f.somewhere(1, 80), "proxy:15001", "captured: lands on port 15001")
					if m.resolver {
						sends("udp", device, f.somewhere(1, 53), "proxy:15053", "captured: lands on port 15053")
						sends("tcp", device, f.somewhere(1, 53), "proxy:15053", "captured: lands on port 15053")
					}
				}
			}
			neighbour := netip.MustParseAddr("fe80::1%" + zone)
			sends("tcp", "eth0", netip.AddrPortFrom(neighbour, 80), "far:80", "left alone: leaves by eth0")
			sends("udp", "eth0", netip.AddrPortFrom(neighbour, 53), "far:53", "left alone: leaves by eth0")
			sends("tcp", "eth0", netip.AddrPortFrom(neighbour, 53), "far:53", "left alone: leaves by eth0")
		})
	}
	p.noStray(t)
}

// noStray asserts that no packet to a loopback address came by a link.
func (p *realPod) noStray(t *testing.T) {
	t.Helper()
	for name, ns := range map[string]*scratch.Namespace{"eth0": p.far, "eth1": p.pod} {
		if m := packetsCounted.FindStringSubmatch(p.nftIn(ns, "list counter inet watch stray")); m == nil || m[1] != "0" {
			t.Errorf("packets to a loopback address left by %s: %v", name, m)
		}
	}
}

// TestBoundSocketsLater: an interface that came after the apply has no route to the proxy: what is
// bound to it is dropped and not sent, which is no drift, and which verify, doctor and explain tell
// until an apply. Nor is one that went. That a route which was written is not there any more is
// drift.
func TestBoundSocketsLater(t *testing.T) {
	p, _ := twoLinks(t)
	args := boundModes[0].args
	p.ip("link set eth1 down")
	p.ok(append([]string{"apply"}, args...)...)
	defer p.serveWhile(scratch.Listeners{Name: "proxy", Identity: scratch.Identity{UID: proxyID, GID: proxyID}, TCP: []uint16{15001}})()
	lands := func(device string) string {
		fate, err := scratch.Probe{Proto: "tcp", UID: appID, GID: appID, Dst: families[0].somewhere(1, 80).Addr(), DPort: 80, Device: device}.Send(t.Context(), p.pod, boundPatience/3)
		if err != nil {
			t.Fatal(err)
		}
		return fate.Land
	}
	p.ip("link set eth1 up")
	p.ip("-6 addr replace 2001:db8:19::2/64 dev eth1 nodad")
	p.ip("route replace default via 198.18.1.1 metric 50")
	explain := []string{"explain", "--live", "--uid", fmt.Sprint(appID), "--device", "eth1", "tcp", families[0].somewhere(1, 80).String()}
	if land := lands("eth1"); land != "timeout" {
		t.Errorf("what is bound to an interface without a route: %s", land)
	}
	p.run(explain...).want(t, 0).prints(t, "dropped: by table inet weir, chain postrouting, rule 1")
	withConfig := append([]string{"verify"}, args...)
	const noted = "note: interface eth1 has no route of weir's, as what comes after an apply: outbound TCP and DNS queries of sockets that are bound to it (SO_BINDTODEVICE) is dropped until the next apply"
	for _, verify := range [][]string{{"verify"}, withConfig} {
		if o := p.run(verify...).want(t, 0); !strings.Contains(o.String(), noted) || !strings.Contains(o.String(), "clean: inet weir") {
			t.Errorf("%v: %s", verify, o)
		}
	}
	p.run("doctor").prints(t, strings.TrimPrefix(noted, "note: "))
	p.run(append([]string{"plan", "--exit-code"}, args...)...).want(t, 3) // an apply adds them
	p.run(append([]string{"apply"}, args...)...).want(t, 0).prints(t, "updated")
	if o := p.run(withConfig...).want(t, 0); strings.Contains(o.String(), "interface eth1") {
		t.Errorf("after an apply: %s", o)
	}
	if land := lands("eth1"); land != "proxy:15001" {
		t.Errorf("after an apply: %s", land)
	}
	p.run(explain...).want(t, 0).prints(t, "captured: lands on port 15001")
	p.ip("link set eth0 down")
	p.ip("link set eth0 up")
	p.ip("-6 addr replace " + families[1].pod.String() + " dev eth0 nodad")
	drifts := func(what ...string) {
		t.Helper()
		for _, verify := range [][]string{{"verify"}, withConfig} {
			p.run(verify...).want(t, 3).prints(t, what...)
		}
		p.ok(append([]string{"apply"}, args...)...)
	}
	drifts("local ::1/128 dev eth0") // IPv4's stay, as its addresses do
	for _, l := range []struct{ option, route string }{{"", "local 127.0.0.1/32 dev eth1"}, {"-6 ", "local ::1/128 dev eth0"}} {
		p.ip(l.option + "route delete " + l.route + " table local metric 2048")
		drifts(l.route)
	}
	p.ip("link set eth1 down") // its routes are not those that an apply would add now
	p.ip("link set eth1 up")
	p.ip("-6 addr replace 2001:db8:19::2/64 dev eth1 nodad")
	drifts("local ::1/128 dev eth1")
	p.ip("link delete eth1")
	p.ok("verify")
	p.ok(withConfig...)
	p.run(append([]string{"plan", "--exit-code"}, args...)...).want(t, 3)
	p.ip("link add eth1 type veth peer name other1") // another by its name
	p.ip("addr add 198.18.1.2/24 dev eth1")
	p.ip("link set eth1 up")
	p.run("verify").want(t, 3).prints(t, "local 127.0.0.1/32 dev eth1")
	p.ip("link delete eth1")
	p.ok(append([]string{"apply"}, args...)...)
	p.ok("verify")
	p.ok(withConfig...)
	p.ok("remove")
	if ours := p.ours(); len(ours) > 0 {
		t.Errorf("remove leaves %v", ours)
	}
}
