// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/proxy"
)

// patience bounds every wait, so that a failure is a message and not a hung test.
const patience = time.Minute

// ended is what OnClose was told.
type ended struct {
	conn    proxy.ConnInfo
	carried proxy.Bytes
	err     error
}

// running is a Server at work.
type running struct {
	addr     netip.AddrPort
	accepted chan proxy.ConnInfo
	ended    chan ended
	stop     func()
}

// serve runs s on a new listener until the test ends. It takes both hooks for itself.
func serve(t *testing.T, s *proxy.Server, options proxy.SocketOptions, addr string) *running {
	t.Helper()
	ln, err := proxy.Listen(t.Context(), netip.MustParseAddrPort(addr), options)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{
		addr:     ln.Addr().(*net.TCPAddr).AddrPort(),
		accepted: make(chan proxy.ConnInfo, 16),
		ended:    make(chan ended, 16),
	}
	s.OnAccept = func(c proxy.ConnInfo) { r.accepted <- c }
	s.OnClose = func(c proxy.ConnInfo, carried proxy.Bytes, err error) { r.ended <- ended{c, carried, err} }
	r.stop = serving(t, func(ctx context.Context) error { return s.Serve(ctx, ln) })
	return r
}

// serving serves until it is stopped, at the end of the test at the latest, which is no failure.
func serving(t *testing.T, serve func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := receive(t, served); err != nil {
			t.Errorf("Serve = %v, want nil after cancellation", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// to is a Dial that goes to addr whatever the original destination was.
func to(addr netip.AddrPort, d proxy.Dialer) func(context.Context, proxy.ConnInfo) (*net.TCPConn, error) {
	return func(ctx context.Context, c proxy.ConnInfo) (*net.TCPConn, error) {
		c.OriginalDst = addr
		return d.Dial(ctx, c)
	}
}

// origin is the server that clients want to reach: it hands each connection to handle, then closes it.
func origin(t *testing.T, addr string, handle func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	ln, err := proxy.Listen(t.Context(), netip.MustParseAddrPort(addr), proxy.SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(patience))
				handle(conn)
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func echo(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) }

// tellClient answers with the address that the connection came from.
func tellClient(conn *net.TCPConn) { _, _ = io.WriteString(conn, conn.RemoteAddr().String()) }

func dial(t *testing.T, d net.Dialer, addr netip.AddrPort) *net.TCPConn {
	t.Helper()
	d.Timeout = patience
	conn, err := d.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func write(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

// expect reads exactly want.
func expect(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("read %q (%v), want %q", got[:n], err, want)
	}
}

// expectReset connects to addr and waits for a reset, which may come before connect(2) is through.
func expectReset(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr.String(), patience)
	if err == nil {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client of %s sees %v, want a reset", addr, err)
	}
}

// receive is the next value of c.
func receive[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
	return v
}

// selects waits until a goroutine waits in a select statement of that function.
func selects(t *testing.T, function string) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			state, frames, _ := strings.Cut(stack, "\n")
			if strings.Contains(state, "[select") && strings.HasPrefix(frames, "github.com/weir-mesh/weir/proxy."+function+"(") {
				return
			}
		}
	}
	t.Fatalf("%s does not wait", function)
}

// local is the client's side of a connection, as the proxy sees it.
func local(conn net.Conn) netip.AddrPort { return conn.LocalAddr().(*net.TCPAddr).AddrPort() }
