// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/proxy"
)

func listen(t *testing.T, addr string, options proxy.SocketOptions) *proxy.Listener {
	t.Helper()
	ln, err := proxy.Listen(t.Context(), netip.MustParseAddrPort(addr), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	if err := ln.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return ln
}

func addrOf(ln net.Listener) netip.AddrPort { return ln.Addr().(*net.TCPAddr).AddrPort() }

func TestAcceptTellsWhatTheConnectionIs(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln := listen(t, addr, proxy.SocketOptions{})
		client := dial(t, net.Dialer{}, addrOf(ln))
		accepted, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		want := proxy.ConnInfo{Client: local(client), Listener: addrOf(ln), OriginalDst: addrOf(ln)}
		if got := accepted.(*proxy.Conn).ConnInfo; got != want {
			t.Errorf("accepted %v, want %v", got, want)
		}
	}
}

func TestAcceptFails(t *testing.T) {
	ln := listen(t, "127.0.0.1:0", proxy.SocketOptions{})
	ln.Close()
	if conn, err := ln.Accept(); conn != nil || err == nil {
		t.Errorf("Accept = %v, %v, want no connection and an error", conn, err)
	}
}

// Another server takes the listener as it is, and finds the original destination.
func TestListenerServesHTTP(t *testing.T) {
	ln := listen(t, "127.0.0.1:0", proxy.SocketOptions{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
	})}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { server.Close() })
	response, err := http.Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); err != nil || string(got) != ln.Addr().String() {
		t.Errorf("answered %q, %v, want %s", got, err, ln.Addr())
	}
}

func TestConnReset(t *testing.T) {
	ln := listen(t, "127.0.0.1:0", proxy.SocketOptions{})
	go func() {
		if conn, err := ln.AcceptConn(); err == nil {
			conn.Reset()
		}
	}()
	expectReset(t, addrOf(ln))
}

// An address that is added later can be listened on before.
func TestFreeBind(t *testing.T) {
	if !inNamespace(t, "ip") {
		return
	}
	for _, addr := range []string{"192.0.2.1", "2001:db8::1"} {
		at := netip.AddrPortFrom(netip.MustParseAddr(addr), 15053)
		if ln, err := proxy.Listen(t.Context(), at, proxy.SocketOptions{}); err == nil {
			ln.Close()
			t.Fatalf("%s is listened on without the option", at)
		}
		ln := listen(t, at.String(), proxy.SocketOptions{FreeBind: true})
		ip(t, "address add "+addr+" dev lo")
		client := dial(t, net.Dialer{}, at)
		conn, err := ln.AcceptConn()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if conn.Client != local(client) {
			t.Errorf("accepted %v, want the connection from %s", conn.ConnInfo, local(client))
		}
	}
}

// The mark of a listener is its connections' too: the proxy's answers to the client carry it.
func TestConnectionsInheritTheMark(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	ln := listen(t, "[::]:0", proxy.SocketOptions{Mark: proxyMark, Transparent: true})
	for _, to := range []string{"127.0.0.1", "::1"} {
		dial(t, net.Dialer{}, netip.AddrPortFrom(netip.MustParseAddr(to), addrOf(ln).Port()))
		conn, err := ln.AcceptConn()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := markOf(t, conn.TCPConn); got != proxyMark {
			t.Errorf("the connection to %s has mark %#x, want %#x", to, got, proxyMark)
		}
		if got := intOption(t, conn.TCPConn, unix.SOL_IP, unix.IP_TRANSPARENT); got != 1 {
			t.Errorf("the connection to %s has IP_TRANSPARENT %d, want 1", to, got)
		}
	}
}
