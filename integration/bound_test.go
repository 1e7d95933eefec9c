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
// bound to it is dropped and not sent, which verify with the configuration and explain tell, until
// an apply. One that went, or was down and lost its IPv6 route, is drift likewise.
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
	p.ok("verify")
	p.run(append([]string{"verify"}, args...)...).want(t, 3).prints(t, "local 127.0.0.1/32 dev eth1", "local ::1/128 dev eth1")
	p.run(append([]string{"apply"}, args...)...).want(t, 0).prints(t, "updated")
	if land := lands("eth1"); land != "proxy:15001" {
		t.Errorf("after an apply: %s", land)
	}
	p.run(explain...).want(t, 0).prints(t, "captured: lands on port 15001")
	p.ip("link set eth0 down")
	p.ip("link set eth0 up")
	p.ip("-6 addr replace " + families[1].pod.String() + " dev eth0 nodad")
	p.run("verify").want(t, 3).prints(t, "local ::1/128 dev eth0") // IPv4's stay, as its addresses do
	p.ok(append([]string{"apply"}, args...)...)
	p.ip("link delete eth1")
	p.run("verify").want(t, 3).prints(t, "local 127.0.0.1/32 dev eth1")
	p.ok(append([]string{"apply"}, args...)...)
	p.ok("verify")
	p.ok("remove")
	if ours := p.ours(); len(ours) > 0 {
		t.Errorf("remove leaves %v", ours)
	}
}
