// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/proxy"
)

const proxyMark = 7 // of the proxy's own connections, which the rules below let pass

const redirectRules = `
	table inet test {
		chain output {
			type nat hook output priority -100
			meta mark 7 return
			tcp dport 80 redirect to :15001
		}
	}`

func TestRedirect(t *testing.T) {
	if !inNamespace(t, "nft", "ip") {
		return
	}
	nft(t, redirectRules)
	testDiverted(t, proxy.SocketOptions{})
}

func TestTProxy(t *testing.T) {
	if !inNamespace(t, "nft", "ip") {
		return
	}
	// tproxy wants prerouting: the mark takes a local client's packets there, by way of lo.
	nft(t, `
		table inet test {
			chain output {
				type route hook output priority -150
				meta mark 7 return
				tcp dport 80 meta mark set 1
			}
			chain prerouting {
				type filter hook prerouting priority -150
				meta mark 1 meta l4proto tcp tproxy ip to 127.0.0.1:15001
				meta mark 1 meta l4proto tcp tproxy ip6 to [::1]:15001
			}
		}`)
	ip(t, `
		-4 rule add priority 100 fwmark 1 lookup 100
		-4 route add local default dev lo table 100
		-6 rule add priority 100 fwmark 1 lookup 100
		-6 route add local default dev lo table 100`)
	testDiverted(t, proxy.SocketOptions{Transparent: true})
}

func testDiverted(t *testing.T, options proxy.SocketOptions) {
	ip(t, `
		address add 192.0.2.1/32 dev lo
		address add 2001:db8::1/128 dev lo
		address add fe80::1/64 dev lo`)
	for _, tt := range []struct{ why, listen, dst string }{
		{"an IPv4 listener is told IPv4 destinations", "127.0.0.1:15001", "192.0.2.1:80"},
		{"an IPv6 listener is told IPv6 destinations", "[::1]:15001", "[2001:db8::1]:80"},
		{"a listener for every IPv4 address is told them too", "0.0.0.0:15001", "192.0.2.1:80"},
		{"a listener for both families is told IPv4 unmapped", "[::]:15001", "192.0.2.1:80"},
		{"a listener for both families is told IPv6", "[::]:15001", "[2001:db8::1]:80"},
		{"a link-local destination comes with its interface", "[::]:15001", "[fe80::1%lo]:80"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			dst := origin(t, tt.dst, echo)
			server := &proxy.Server{Dial: proxy.Dialer{Mark: proxyMark}.Dial}
			r := serve(t, server, options, tt.listen)

			conn := dial(t, net.Dialer{}, dst)
			write(t, conn, "over and ")
			expect(t, conn, "over and ")
			write(t, conn, "back")
			if err := conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			expect(t, conn, "back")
			if rest, err := io.ReadAll(conn); len(rest) > 0 || err != nil {
				t.Errorf("after the end: %q, %v", rest, err)
			}

			want := proxy.ConnInfo{Client: local(conn), Listener: netip.MustParseAddrPort(tt.listen), OriginalDst: dst}
			if got := receive(t, r.accepted); got != want {
				t.Errorf("accepted %v, want %v", got, want)
			}
			if got := receive(t, r.ended); got != (ended{want, proxy.Bytes{FromClient: 13, FromUpstream: 13}, nil}) {
				t.Errorf("ended %v, want %v, 13 bytes each way and no error", got, want)
			}
		})
	}
}

// The mark itself: that rules see it is what TestRedirect and TestTProxy rest on.
func TestMark(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	ln, err := proxy.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), proxy.SocketOptions{Mark: 0xfedcba98})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, err := proxy.Dialer{Mark: proxyMark}.Dial(t.Context(), proxy.ConnInfo{OriginalDst: ln.Addr().(*net.TCPAddr).AddrPort()})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, tt := range []struct {
		why  string
		conn *net.TCPConn
		want uint32
	}{
		{"the onward connection has the dialer's mark", out, proxyMark},
		{"an accepted connection inherits the listener's", in, 0xfedcba98},
	} {
		if got := markOf(t, tt.conn); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.why, got, tt.want)
		}
	}
}

// The client's address is one that the host does not have, so that nothing but a transparent socket
// can be bound to it.
func TestKeepClient(t *testing.T) {
	if !inNamespace(t, "nft", "ip") {
		return
	}
	nft(t, redirectRules)
	ip(t, `
		address add 192.0.2.1/32 dev lo
		address add 2001:db8::1/128 dev lo
		-4 rule add priority 100 to 198.51.100.0/24 lookup 100
		-4 route add local default dev lo table 100
		-6 rule add priority 100 to 2001:db8:5::/48 lookup 100
		-6 route add local default dev lo table 100`)
	for _, tt := range []struct{ why, client, dst string }{
		{"the origin sees the IPv4 client", "198.51.100.7", "192.0.2.1:80"},
		{"the origin sees the IPv6 client", "2001:db8:5::7", "[2001:db8::1]:80"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			dst := origin(t, tt.dst, tellClient)
			server := &proxy.Server{Dial: proxy.Dialer{Mark: proxyMark, KeepClient: true}.Dial}
			r := serve(t, server, proxy.SocketOptions{}, "[::]:15001")

			client := netip.AddrPortFrom(netip.MustParseAddr(tt.client), 0)
			conn := dial(t, net.Dialer{
				LocalAddr: net.TCPAddrFromAddrPort(client),
				Control:   proxy.SocketOptions{Transparent: true}.Control,
			}, dst)
			got, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			seen := netip.MustParseAddrPort(string(got))
			if seen.Addr() != client.Addr() || seen == local(conn) {
				t.Errorf("the origin saw %s, want %s with another port than %d", seen, client.Addr(), local(conn).Port())
			}
			if got := receive(t, r.accepted); got.Client != local(conn) || got.OriginalDst != dst {
				t.Errorf("accepted %v, want a connection from %s to %s", got, local(conn), dst)
			}
		})
	}
}

// ::6 has to be given to the host, which 127.0.0.6 need not: for that see TestSource.
func TestSourceIPv6(t *testing.T) {
	if !inNamespace(t, "ip") {
		return
	}
	ip(t, "address add ::6/128 dev lo nodad") // else it serves a moment later
	testSource(t, "[::1]:0", "::6")
}

func markOf(t *testing.T, conn *net.TCPConn) uint32 {
	t.Helper()
	return uint32(intOption(t, conn, unix.SOL_SOCKET, unix.SO_MARK))
}

func intOption(t *testing.T, conn *net.TCPConn, level, option int) int {
	t.Helper()
	value, err := readOption(conn, level, option)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func readOption(conn *net.TCPConn, level, option int) (value int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var sockErr error
	err = raw.Control(func(fd uintptr) { value, sockErr = unix.GetsockoptInt(int(fd), level, option) })
	return value, errors.Join(err, sockErr)
}
