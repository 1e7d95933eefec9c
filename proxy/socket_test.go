// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/proxy"
)

func TestOptionRefused(t *testing.T) {
	dropCapabilities(t)
	for _, tt := range []struct {
		why, listen string
		options     proxy.SocketOptions
		want        string
	}{
		{
			"IPv4 names its own option", "127.0.0.1:0", proxy.SocketOptions{Transparent: true},
			"proxy: listen tcp4 127.0.0.1:0: set IP_TRANSPARENT: operation not permitted (needs CAP_NET_ADMIN or CAP_NET_RAW)",
		},
		{
			"IPv6 names its own option", "[::1]:0", proxy.SocketOptions{Transparent: true},
			"proxy: listen tcp6 [::1]:0: set IPV6_TRANSPARENT: operation not permitted (needs CAP_NET_ADMIN or CAP_NET_RAW)",
		},
		{
			"so does a socket for both families", "[::]:0", proxy.SocketOptions{Transparent: true},
			"proxy: listen tcp :0: set IPV6_TRANSPARENT: operation not permitted (needs CAP_NET_ADMIN or CAP_NET_RAW)",
		},
		{
			"a mark", "127.0.0.1:0", proxy.SocketOptions{Mark: 1},
			"proxy: listen tcp4 127.0.0.1:0: set SO_MARK: operation not permitted (needs CAP_NET_ADMIN, or CAP_NET_RAW since Linux 5.17)",
		},
	} {
		_, err := proxy.Listen(t.Context(), netip.MustParseAddrPort(tt.listen), tt.options)
		var refused *proxy.OptionError
		if !errors.As(err, &refused) || !errors.Is(err, unix.EPERM) || err.Error() != tt.want {
			t.Errorf("%s: Listen = %v, want %s", tt.why, err, tt.want)
		}
	}
	_, err := proxy.Dialer{Mark: 1}.Dial(t.Context(), proxy.ConnInfo{OriginalDst: netip.MustParseAddrPort("127.0.0.1:9")})
	var refused *proxy.OptionError
	if !errors.As(err, &refused) || refused.Option != "SO_MARK" {
		t.Errorf("Dial = %v, want SO_MARK refused", err)
	}
}

// dropCapabilities takes effect on this thread alone, which ends with the test.
func dropCapabilities(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
}

func TestListenFamilies(t *testing.T) {
	for _, tt := range []struct {
		why, listen string
		reached     map[string]bool
	}{
		{"0.0.0.0 is IPv4 alone", "0.0.0.0:0", map[string]bool{"127.0.0.1": true, "::1": false}},
		{"[::] is both", "[::]:0", map[string]bool{"127.0.0.1": true, "::1": true}},
		{"an address is itself alone", "127.0.0.2:0", map[string]bool{"127.0.0.2": true, "127.0.0.1": false}},
	} {
		ln, err := proxy.Listen(t.Context(), netip.MustParseAddrPort(tt.listen), proxy.SocketOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
		for addr, want := range tt.reached {
			conn, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(addr), port).String())
			if err == nil {
				conn.Close()
			}
			if got := err == nil; got != want {
				t.Errorf("%s: %s reached: %t (%v), want %t", tt.why, addr, got, err, want)
			}
		}
	}
}

func TestListenRefuses(t *testing.T) {
	ln, err := proxy.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), proxy.SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := proxy.Listen(t.Context(), ln.Addr().(*net.TCPAddr).AddrPort(), proxy.SocketOptions{}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a taken address: %v, want EADDRINUSE", err)
	}
	if _, err := proxy.Listen(t.Context(), netip.AddrPort{}, proxy.SocketOptions{}); err == nil {
		t.Error("the zero address is listened on")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := proxy.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), proxy.SocketOptions{}); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context: %v", err)
	}
}

// An MPTCP connection has no SO_ORIGINAL_DST, and net would listen for them by default.
func TestListenIsNotMPTCP(t *testing.T) {
	r := serve(t, &proxy.Server{Dial: to(origin(t, "127.0.0.1:0", echo), proxy.Dialer{})}, proxy.SocketOptions{}, "127.0.0.1:0")
	var d net.Dialer
	d.SetMultipathTCP(true)
	conn := dial(t, d, r.addr)
	if multipath, err := conn.MultipathTCP(); multipath || err != nil {
		t.Errorf("MPTCP: %t, %v", multipath, err)
	}
	write(t, conn, "hello")
	expect(t, conn, "hello")
}
