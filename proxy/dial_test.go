// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/proxy"
)

func TestSource(t *testing.T) {
	testSource(t, "127.0.0.1:0", "127.0.0.6")
}

func testSource(t *testing.T, originAddr, source string) {
	dst := origin(t, originAddr, tellClient)
	dialer := proxy.Dialer{Source: []netip.Addr{netip.MustParseAddr("127.0.0.6"), netip.MustParseAddr("::6")}}
	r := serve(t, &proxy.Server{Dial: to(dst, dialer)}, proxy.SocketOptions{}, originAddr)
	got, err := io.ReadAll(dial(t, net.Dialer{}, r.addr))
	if err != nil {
		t.Fatal(err)
	}
	if seen := netip.MustParseAddrPort(string(got)).Addr(); seen.String() != source {
		t.Errorf("the origin saw %s, want %s", seen, source)
	}
}

func TestHost(t *testing.T) {
	app := origin(t, "127.0.0.1:0", echo)
	loopback := []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}
	podAddr := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), app.Port())
	r := serve(t, &proxy.Server{Dial: to(podAddr, proxy.Dialer{Host: loopback})}, proxy.SocketOptions{}, "127.0.0.1:0")
	conn := dial(t, net.Dialer{}, r.addr)
	write(t, conn, "hello")
	expect(t, conn, "hello")
}

func TestLoop(t *testing.T) {
	for _, tt := range []struct {
		why, listen, dial string
		host              []netip.Addr
	}{
		{"the connection was not diverted: IPv4", "127.0.0.1:0", "127.0.0.1", nil},
		{"the connection was not diverted: IPv6", "[::1]:0", "::1", nil},
		{"every IPv4 address is the listener's", "0.0.0.0:0", "127.0.0.2", nil},
		{"every address is the listener's: IPv4", "[::]:0", "127.0.0.2", nil},
		{"every address is the listener's: IPv6", "[::]:0", "::1", nil},
		{"the application's address is the listener's", "[::]:0", "127.0.0.2", []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			r := serve(t, &proxy.Server{Dial: proxy.Dialer{Host: tt.host}.Dial}, proxy.SocketOptions{}, tt.listen)
			dst := netip.AddrPortFrom(netip.MustParseAddr(tt.dial), r.addr.Port())
			expectReset(t, dst)
			got := receive(t, r.ended)
			if !errors.Is(got.err, proxy.ErrLoop) || got.conn.OriginalDst != dst {
				t.Errorf("ended %v, want %s to be refused as a loop", got, dst)
			}
			r.stop()
			if n := len(r.accepted); n != 1 {
				t.Errorf("%d connections were accepted, want the client's alone", n)
			}
		})
	}
}

func TestDialRefuses(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	listener := netip.MustParseAddrPort("127.0.0.1:15001")
	for _, tt := range []struct {
		why    string
		dialer proxy.Dialer
		conn   proxy.ConnInfo
		want   string
	}{
		{"no destination", proxy.Dialer{}, proxy.ConnInfo{}, "proxy: dial: \"invalid AddrPort\" is not a destination"},
		{
			"an unspecified address, which would be this host", proxy.Dialer{},
			proxy.ConnInfo{Listener: listener, OriginalDst: netip.MustParseAddrPort("0.0.0.0:15001")},
			"proxy: dial: \"0.0.0.0:15001\" is not a destination",
		},
		{
			"an IPv4-mapped address of the listener", proxy.Dialer{},
			proxy.ConnInfo{Listener: listener, OriginalDst: netip.MustParseAddrPort("[::ffff:127.0.0.1]:15001")},
			"proxy: dial [::ffff:127.0.0.1]:15001: the destination is the proxy's own listener",
		},
		{
			"two sources at once", proxy.Dialer{Source: []netip.Addr{local}, KeepClient: true},
			proxy.ConnInfo{OriginalDst: netip.MustParseAddrPort("127.0.0.1:9")},
			"proxy: dial 127.0.0.1:9: Source and KeepClient exclude one another",
		},
	} {
		t.Run(tt.why, func(t *testing.T) {
			if _, err := tt.dialer.Dial(t.Context(), tt.conn); err == nil || err.Error() != tt.want {
				t.Errorf("Dial = %v, want %s", err, tt.want)
			}
		})
	}
}

// One source address has some 28,000 ports; each must serve every destination. Two ports and three
// destinations show it.
func TestSourcePortsAreShared(t *testing.T) {
	if !inNamespace(t, "ip") {
		return
	}
	writeSysctl(t, "net/ipv4/ip_local_port_range", "40000 40001")
	dialer := proxy.Dialer{Source: []netip.Addr{netip.MustParseAddr("127.0.0.6")}}
	var ports []uint16
	for _, addr := range []string{"127.0.0.1:80", "127.0.0.2:80", "127.0.0.3:80"} {
		conn, err := dialer.Dial(t.Context(), proxy.ConnInfo{OriginalDst: origin(t, addr, echo)})
		if err != nil {
			t.Fatalf("to %s, with the ports %v in use: %v", addr, ports, err)
		}
		defer conn.Close()
		ports = append(ports, local(conn).Port())
	}
	slices.Sort(ports)
	if len(slices.Compact(ports)) > 2 {
		t.Errorf("ports %v", ports)
	}
}

// A search for a port that is cut short must not miss one: each of the range serves a connection to
// one destination, with the last ones after several tries.
func TestEveryPortIsFound(t *testing.T) {
	if !inNamespace(t, "ip") {
		return
	}
	writeSysctl(t, "net/ipv4/ip_local_port_range", "40000 40099")
	dst := origin(t, "127.0.0.1:80", func(conn *net.TCPConn) { _, _ = conn.Read(make([]byte, 1)) })
	for _, dialer := range []proxy.Dialer{{}, {Source: []netip.Addr{netip.MustParseAddr("127.0.0.6")}}} {
		for n := range 101 {
			conn, err := dialer.Dial(t.Context(), proxy.ConnInfo{OriginalDst: dst})
			if err == nil {
				defer conn.Close()
			}
			if n < 100 && err != nil {
				t.Fatalf("with %d of 100 ports in use: %v", n, err)
			}
			if n == 100 && !errors.Is(err, unix.EADDRNOTAVAIL) {
				t.Errorf("with every port in use: %v, want EADDRNOTAVAIL", err)
			}
		}
	}
}

// A port in TIME_WAIT serves the same destination again: otherwise one address opens as many connections
// in a minute as it has ports.
func TestPortsAreUsedAgain(t *testing.T) {
	if !inNamespace(t, "ip") {
		return
	}
	writeSysctl(t, "net/ipv4/ip_local_port_range", "40000 40099")
	writeSysctl(t, "net/ipv4/tcp_tw_reuse", "0") // by default the kernel does so itself on lo
	ended := make(chan struct{}, 1)
	dst := origin(t, "127.0.0.1:80", func(conn *net.TCPConn) {
		_, _ = conn.Read(make([]byte, 1)) // until the client ends
		conn.Close()
		ended <- struct{}{}
	})
	for _, dialer := range []proxy.Dialer{{}, {Source: []netip.Addr{netip.MustParseAddr("127.0.0.6")}}} {
		for n := range 300 {
			conn, err := dialer.Dial(t.Context(), proxy.ConnInfo{OriginalDst: dst})
			if err != nil {
				t.Fatalf("connection %d from 100 ports: %v", n, err)
			}
			conn.Close()
			<-ended
		}
	}
}

// What keeps the search short (before Linux 6.3 nothing does).
func TestSearchForAPortIsBounded(t *testing.T) {
	dst := origin(t, "127.0.0.1:0", echo)
	conn, err := proxy.Dialer{}.Dial(t.Context(), proxy.ConnInfo{OriginalDst: dst})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	value, err := readOption(conn, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		t.Logf("this kernel knows no IP_LOCAL_PORT_RANGE")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	first, last := value&0xffff, int(uint32(value)>>16)
	if port := int(local(conn).Port()); port < first || port > last || last-first > 1024 {
		t.Errorf("port %d, of %d to %d, want a range of at most 1,024", port, first, last)
	}
}

// The acknowledgement of the server's SYN goes with the first data, and without such by itself.
func TestDataFollows(t *testing.T) {
	dst := origin(t, "127.0.0.1:0", echo)
	sent := func(d proxy.Dialer) uint32 {
		conn, err := d.Dial(t.Context(), proxy.ConnInfo{OriginalDst: dst})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		write(t, conn, "hello")
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var info *unix.TCPInfo
		if err := errors.Join(raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO) }), err); err != nil {
			t.Fatal(err)
		}
		return info.Segs_out
	}
	if got := sent(proxy.Dialer{}); got < 3 {
		t.Errorf("%d packets were sent, want a SYN, an acknowledgement and data", got)
	}
	for range 100 { // the kernel waits for data for no more than milliseconds
		if sent(proxy.Dialer{DataFollows: true}) == 2 {
			return
		}
	}
	t.Error("the acknowledgement has a packet of its own")
}

func TestDialErrorNamesTheAddress(t *testing.T) {
	closed := unusedAddr(t)
	_, err := proxy.Dialer{}.Dial(t.Context(), proxy.ConnInfo{OriginalDst: closed})
	if !errors.Is(err, unix.ECONNREFUSED) || !strings.Contains(err.Error(), closed.String()) {
		t.Errorf("Dial = %v, want a refusal by %s", err, closed)
	}
}
