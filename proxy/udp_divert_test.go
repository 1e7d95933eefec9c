// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/proxy"
)

// udpFamily is the addresses of one family: the pod's, the world's, and what the proxy calls the
// application from.
type udpFamily struct {
	name             string
	network          string
	pod, world, pass netip.Addr
}

var udpFamilies = []udpFamily{
	{"IPv4", "udp4", netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("127.0.0.6")},
	{"IPv6", "udp6", netip.MustParseAddr("2001:db8:18::2"), netip.MustParseAddr("2001:db8:a::10"), netip.MustParseAddr("::6")},
}

// udpWorld makes this namespace a pod of which UDP to port 443 is diverted by TPROXY, to 15001 on its
// way out and to 15006 on its way in, and returns the rest of the world.
func udpWorld(t *testing.T) *scratch.Namespace {
	t.Helper()
	pod, err := scratch.CurrentNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pod.Close() })
	world, err := scratch.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { world.Close() })
	prefix := netip.MustParsePrefix
	for _, err := range []error{
		scratch.Veth(pod, "eth0", world, "pod0"),
		pod.AddAddress("eth0", prefix("198.18.0.2/24")), pod.AddAddress("eth0", prefix("2001:db8:18::2/64")),
		world.AddAddress("pod0", prefix("198.18.0.1/24")), world.AddAddress("pod0", prefix("2001:db8:18::1/64")),
		world.AddAddress("lo", prefix("203.0.113.10/32")), world.AddAddress("lo", prefix("2001:db8:a::10/128")),
		pod.AddAddress("lo", prefix("::6/128")),
		pod.Sysctl("net/ipv4/conf/all/rp_filter", "0"), pod.Sysctl("net/ipv4/conf/lo/rp_filter", "0"),
		pod.Up("eth0"), world.Up("pod0"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ip(t, `
		-4 route add default via 198.18.0.1
		-6 route add default via 2001:db8:18::1
		-4 rule add priority 100 fwmark 1 lookup 100
		-4 route add local default dev lo table 100
		-6 rule add priority 100 fwmark 1 lookup 100
		-6 route add local default dev lo table 100`)
	nft(t, `
		table inet test {
			chain output {
				type route hook output priority -150
				oifname != "lo" meta mark != 7 udp dport 443 meta mark set 1
			}
			chain prerouting {
				type filter hook prerouting priority -150
				iifname "lo" meta mark 1 udp dport 443 tproxy to :15001
				iifname "eth0" udp dport 443 tproxy to :15006
			}
		}`)
	const port = 7
	server, err := scratch.Listeners{Name: "world", UDP: []uint16{port}}.Serve(t.Context(), world)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, f := range udpFamilies {
		if err := (scratch.Probe{Proto: "udp", Dst: f.world, DPort: port}).Await(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	return world
}

// Out of the pod: the application asks an address of the world, hears it answer, and changes its port
// in the middle.
func TestUDPOutbound(t *testing.T) { testUDPOutbound(t, func(*testing.T, udpFamily) {}) }

// The same of a pod whose application has the port at every address, so that no other socket can be
// bound to an address with it.
func TestUDPOutboundOfAnOwnPort(t *testing.T) {
	testUDPOutbound(t, func(t *testing.T, f udpFamily) {
		own, err := net.ListenPacket(f.network, ":443")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { own.Close() })
	})
}

func testUDPOutbound(t *testing.T, prepare func(*testing.T, udpFamily)) {
	if !inNamespace(t, "nft", "ip") {
		return
	}
	world := udpWorld(t)
	r := serveUDP(t, &proxy.UDPServer{Dial: proxy.Dialer{Mark: proxyMark}.DialUDP}, "[::]:15001", proxy.SocketOptions{Transparent: true, Mark: proxyMark})
	for _, f := range udpFamilies {
		t.Run(f.name, func(t *testing.T) {
			prepare(t, f)
			dst := netip.AddrPortFrom(f.world, 443)
			do(t, world, func() { udpOrigin(t, f.network, dst.String()) })
			testUDPDiverted(t, r, f.pod, dst, func(to netip.AddrPort) *net.UDPConn { return udpDial(t, to) })
		})
	}
}

// Into the pod: the application holds the port that clients ask, and the answers come from there.
func TestUDPInbound(t *testing.T) {
	if !inNamespace(t, "nft", "ip") {
		return
	}
	world := udpWorld(t)
	pass := proxy.Dialer{Mark: proxyMark, Source: []netip.Addr{udpFamilies[0].pass, udpFamilies[1].pass}}
	r := serveUDP(t, &proxy.UDPServer{Dial: pass.DialUDP}, "[::]:15006", proxy.SocketOptions{Transparent: true, Mark: proxyMark})
	for _, f := range udpFamilies {
		t.Run(f.name, func(t *testing.T) {
			udpOrigin(t, f.network, netip.AddrPortFrom(f.pod, 443).String())
			testUDPDiverted(t, r, f.pass, netip.AddrPortFrom(f.pod, 443), func(to netip.AddrPort) (conn *net.UDPConn) {
				do(t, world, func() { conn = udpDial(t, to) })
				return conn
			})
		})
	}
}

func testUDPDiverted(t *testing.T, r *relayed, seen netip.Addr, dst netip.AddrPort, dialUDP func(netip.AddrPort) *net.UDPConn) {
	var froms []netip.AddrPort
	for range 2 { // the port that the client changes to is another flow
		client := dialUDP(dst)
		for _, text := range []string{"hello", "", strings.Repeat("x", 1200), strings.Repeat("fragments", 5000)} {
			from := ask(t, client, text)
			if from.Addr() != seen {
				t.Fatalf("the server saw %s, want %s", from, seen)
			}
			froms = append(froms, from)
		}
		want := proxy.ConnInfo{Client: udpLocal(client), Listener: r.ln.Addr(), OriginalDst: dst}
		if got := receive(t, r.opened); got != want {
			t.Errorf("opened %v, want %v", got, want)
		}
	}
	for i, from := range froms {
		if from != froms[i/4*4] {
			t.Errorf("datagram %d came from %s, want %s as the others of its flow", i, from, froms[i/4*4])
		}
	}
	if froms[0] == froms[4] {
		t.Errorf("both flows came from %s", froms[0])
	}
	// Many at once: each hears its own answers.
	var all sync.WaitGroup
	failed := make(chan string, 64)
	for i := range 64 {
		client := dialUDP(dst)
		all.Go(func() {
			for k := range 10 {
				text := fmt.Sprintf("client %d says %d", i, k)
				if _, err := client.Write([]byte(text)); err != nil {
					failed <- err.Error()
					return
				}
				b := make([]byte, 200)
				n, err := client.Read(b)
				if err != nil || !strings.HasSuffix(string(b[:n]), " "+text) {
					failed <- fmt.Sprintf("%s: got %q, %v", text, b[:n], err)
					return
				}
			}
		})
	}
	all.Wait()
	close(failed)
	for why := range failed {
		t.Error(why)
	}
	for range 64 {
		if got := receive(t, r.opened); got.OriginalDst != dst {
			t.Errorf("opened %v, want a flow to %s", got, dst)
		}
	}
	if got := r.ln.Stats(); got.Dropped+got.Unknown+got.Failed > 0 {
		t.Errorf("counted %+v, want nothing lost", got)
	}
}

// do runs f inside another namespace.
func do(t *testing.T, ns *scratch.Namespace, f func()) {
	t.Helper()
	if err := ns.Do(func() error { f(); return nil }); err != nil {
		t.Fatal(err)
	}
}

// The answers' addresses are let go when their flows are.
func TestUDPAnswersClose(t *testing.T) {
	if !inNamespace(t, "nft", "ip") {
		return
	}
	const idle = 50 * time.Millisecond
	world := udpWorld(t)
	r := serveUDP(t, &proxy.UDPServer{Dial: proxy.Dialer{Mark: proxyMark}.DialUDP, IdleTimeout: idle},
		"[::]:15001", proxy.SocketOptions{Transparent: true, Mark: proxyMark})
	dst := netip.AddrPortFrom(udpFamilies[0].world, 443)
	do(t, world, func() { udpOrigin(t, "udp4", dst.String()) })
	askAgain(t, udpDial(t, dst), "hello", idle)
	// Once all flows have ended, nothing else holds the address, so that it can be bound without SO_REUSEADDR.
	for range r.ln.Stats().Opened {
		receive(t, r.ended)
	}
	lc := net.ListenConfig{Control: proxy.SocketOptions{Transparent: true}.Control}
	conn, err := lc.ListenPacket(t.Context(), "udp4", dst.String())
	if err != nil {
		t.Fatalf("after the flow's end: %v", err)
	}
	conn.Close()
}
