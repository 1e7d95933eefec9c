// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/proxy"
)

func TestHalfClose(t *testing.T) {
	const question, answer = "question", "answer"
	for _, tt := range []struct {
		why    string
		origin func(*net.TCPConn)
		client func(*testing.T, *net.TCPConn)
	}{
		{
			"a client that has said everything is still answered",
			func(conn *net.TCPConn) {
				if got, err := io.ReadAll(conn); err == nil && string(got) == question {
					_, _ = io.WriteString(conn, answer)
				}
			},
			func(t *testing.T, conn *net.TCPConn) {
				write(t, conn, question)
				if err := conn.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(conn); err != nil || string(got) != answer {
					t.Errorf("read %q, %v, want %q", got, err, answer)
				}
			},
		},
		{
			"a server that has said everything still listens",
			func(conn *net.TCPConn) {
				_, _ = io.WriteString(conn, question)
				_ = conn.CloseWrite()
				if got, err := io.ReadAll(conn); err != nil || string(got) != answer {
					_ = conn.SetLinger(0) // which OnClose hears of
				}
			},
			func(t *testing.T, conn *net.TCPConn) {
				if got, err := io.ReadAll(conn); err != nil || string(got) != question {
					t.Errorf("read %q, %v, want %q", got, err, question)
				}
				write(t, conn, answer)
				conn.Close()
			},
		},
	} {
		t.Run(tt.why, func(t *testing.T) {
			r := serve(t, &proxy.Server{Dial: to(origin(t, "127.0.0.1:0", tt.origin), proxy.Dialer{})}, proxy.SocketOptions{}, "127.0.0.1:0")
			tt.client(t, dial(t, net.Dialer{}, r.addr))
			if got := receive(t, r.ended); got.err != nil {
				t.Errorf("ended with %v", got.err)
			}
		})
	}
}

// To the client nothing is amiss: all that the origin said has come, and ended in good order.
func TestOriginLeavesBeforeTheClientEnds(t *testing.T) {
	heard, left := make(chan struct{}), make(chan struct{})
	dst := origin(t, "127.0.0.1:0", func(conn *net.TCPConn) {
		defer close(left)
		_, _ = io.WriteString(conn, "answer")
		_ = conn.CloseWrite()
		<-heard
		_ = conn.SetLinger(0)
		conn.Close()
	})
	r := serve(t, &proxy.Server{Dial: to(dst, proxy.Dialer{})}, proxy.SocketOptions{}, "127.0.0.1:0")
	conn := dial(t, net.Dialer{}, r.addr)
	got, err := io.ReadAll(conn)
	close(heard)
	if err != nil || string(got) != "answer" {
		t.Errorf("read %q, %v, want the answer", got, err)
	}
	receive(t, left)
	conn.Close()
	if got := receive(t, r.ended); got.err != nil {
		t.Errorf("ended with %v", got.err)
	}
}

func TestBulk(t *testing.T) {
	const size = 8 << 20
	r := serve(t, &proxy.Server{Dial: to(origin(t, "127.0.0.1:0", echo), proxy.Dialer{})}, proxy.SocketOptions{}, "127.0.0.1:0")
	conn := dial(t, net.Dialer{}, r.addr)
	sent := strings.Repeat("0123456789abcdef", size/16)
	go func() {
		_, _ = io.WriteString(conn, sent)
		_ = conn.CloseWrite()
	}()
	if got, err := io.ReadAll(conn); err != nil || string(got) != sent {
		t.Errorf("%d bytes came back, %v, want the %d sent", len(got), err, len(sent))
	}
}

func TestBadEndsAreResets(t *testing.T) {
	hold := func(conn *net.TCPConn) { _, _ = conn.Read(make([]byte, 1)) }
	for _, tt := range []struct {
		why    string
		server *proxy.Server
		want   error
	}{
		{"the origin refuses", &proxy.Server{Dial: to(unusedAddr(t), proxy.Dialer{})}, unix.ECONNREFUSED},
		{
			"the origin resets",
			&proxy.Server{Dial: to(origin(t, "127.0.0.1:0", func(conn *net.TCPConn) { _ = conn.SetLinger(0) }), proxy.Dialer{})},
			unix.ECONNRESET,
		},
		{
			"nothing is said for too long",
			&proxy.Server{Dial: to(origin(t, "127.0.0.1:0", hold), proxy.Dialer{}), IdleTimeout: 50 * time.Millisecond},
			proxy.ErrIdle,
		},
		{
			"the dial takes too long",
			&proxy.Server{
				Dial: func(ctx context.Context, _ proxy.ConnInfo) (*net.TCPConn, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				},
				DialTimeout: 50 * time.Millisecond,
			},
			context.DeadlineExceeded,
		},
	} {
		t.Run(tt.why, func(t *testing.T) {
			r := serve(t, tt.server, proxy.SocketOptions{}, "127.0.0.1:0")
			expectReset(t, r.addr)
			if got := receive(t, r.ended); !errors.Is(got.err, tt.want) {
				t.Errorf("ended with %v, want %v", got.err, tt.want)
			}
		})
	}
}

func TestClientResetReachesTheOrigin(t *testing.T) {
	seen := make(chan error, 1)
	dst := origin(t, "127.0.0.1:0", func(conn *net.TCPConn) {
		_, err := io.Copy(io.Discard, conn)
		seen <- err
	})
	r := serve(t, &proxy.Server{Dial: to(dst, proxy.Dialer{})}, proxy.SocketOptions{}, "127.0.0.1:0")
	conn := dial(t, net.Dialer{}, r.addr)
	write(t, conn, "half a str")
	if err := conn.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := receive(t, seen); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the origin reads %v, want a reset", err)
	}
}

// A connection is not idle while one direction speaks and the other is silent. Where the
// machine was too busy for the origin to speak in time, it has longer.
func TestNotIdle(t *testing.T) {
	for idle := 200 * time.Millisecond; ; idle *= 2 {
		silence := make(chan time.Duration, 1)
		spoke := time.Now() // or earlier: it connects later
		dst := origin(t, "127.0.0.1:0", func(conn *net.TCPConn) {
			var longest time.Duration
			for range 8 {
				time.Sleep(idle / 4)
				speaks := time.Now()
				_, _ = io.WriteString(conn, ".")
				longest = max(longest, time.Since(spoke))
				spoke = speaks
			}
			silence <- longest
		})
		r := serve(t, &proxy.Server{Dial: to(dst, proxy.Dialer{}), IdleTimeout: idle}, proxy.SocketOptions{}, "127.0.0.1:0")
		got, err := io.ReadAll(dial(t, net.Dialer{}, r.addr))
		switch longest := receive(t, silence); {
		case err == nil && string(got) == "........":
			return
		case longest < idle/2 || idle > 4*time.Second:
			t.Fatalf("read %q, %v, want eight dots; the origin was silent for at most %s of %s", got, err, longest, idle)
		}
	}
}

func TestMaxConns(t *testing.T) {
	server := &proxy.Server{Dial: to(origin(t, "127.0.0.1:0", echo), proxy.Dialer{}), MaxConns: 2}
	r := serve(t, server, proxy.SocketOptions{}, "127.0.0.1:0")
	var conns []*net.TCPConn
	for range 3 {
		conn := dial(t, net.Dialer{}, r.addr)
		write(t, conn, "hello")
		conns = append(conns, conn)
	}
	expect(t, conns[0], "hello")
	expect(t, conns[1], "hello")
	for range 2 {
		receive(t, r.accepted)
	}
	selects(t, "(*Server).Serve")
	if len(r.accepted) > 0 {
		t.Fatalf("%v is a third connection at once", <-r.accepted)
	}
	conns[0].Close()
	expect(t, conns[2], "hello")
	if got := receive(t, r.accepted); got.Client != local(conns[2]) {
		t.Errorf("accepted %v, want the one that waited, from %s", got, local(conns[2]))
	}
}

func TestCancel(t *testing.T) {
	before := runtime.NumGoroutine()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dst := ln.Addr().(*net.TCPAddr).AddrPort()
	// The last two connections wait for a slot, and for a dial that is not answered.
	answered := to(dst, proxy.Dialer{})
	server := &proxy.Server{MaxConns: 3}
	stuck := make(chan struct{})
	n := make(chan int, 1)
	n <- 0
	server.Dial = func(ctx context.Context, c proxy.ConnInfo) (*net.TCPConn, error) {
		i := <-n
		n <- i + 1
		if i == 2 {
			close(stuck)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return answered(ctx, c)
	}
	r := serve(t, server, proxy.SocketOptions{}, "127.0.0.1:0")
	var clients, origins []net.Conn
	for range 2 {
		clients = append(clients, dial(t, net.Dialer{}, r.addr))
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		write(t, clients[len(clients)-1], "hello")
		expect(t, conn, "hello") // it is carried, not only dialled
		origins = append(origins, conn)
	}
	clients = append(clients, dial(t, net.Dialer{}, r.addr))
	receive(t, stuck)
	clients = append(clients, dial(t, net.Dialer{}, r.addr))

	r.stop()

	for i, conn := range append(clients, origins...) {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("connection %d reads %v, want a reset", i, err)
		}
		conn.Close()
	}
	for range 3 {
		if got := receive(t, r.ended); !errors.Is(got.err, context.Canceled) {
			t.Errorf("ended with %v, want the cancellation", got.err)
		}
	}
	if conn, err := net.Dial("tcp", r.addr.String()); err == nil {
		conn.Close()
		t.Error("the listener is still open")
	}
	ln.Close()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestServeFails(t *testing.T) {
	listen := func() *proxy.Listener {
		ln, err := proxy.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), proxy.SocketOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	closed := listen()
	closed.Close()
	if err := (&proxy.Server{}).Serve(t.Context(), closed); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener: %v, want net.ErrClosed", err)
	}
	err := (&proxy.Server{MaxConns: -1}).Serve(t.Context(), listen())
	if err == nil || !strings.Contains(err.Error(), "MaxConns -1") {
		t.Errorf("a negative limit: %v, want it named", err)
	}
}

// A process of its own, since the want of descriptors is the whole process's.
func TestDescriptorsRunOut(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	ln, err := proxy.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), proxy.SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dst := origin(t, "127.0.0.1:0", echo)
	conn := dial(t, net.Dialer{}, ln.Addr().(*net.TCPAddr).AddrPort())
	write(t, conn, "hello")

	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}); err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		files = append(files, f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- (&proxy.Server{Dial: to(dst, proxy.Dialer{})}).Serve(ctx, ln) }()
	selects(t, "accept") // it failed for want of a descriptor
	for _, f := range files {
		f.Close()
	}
	expect(t, conn, "hello")
	cancel()
	if err := receive(t, served); err != nil {
		t.Error(err)
	}
}

// unusedAddr is an address that refuses connections: a socket holds it until the test ends, and does not listen.
func unusedAddr(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	local := [4]byte{127, 0, 0, 1}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: local}); err != nil {
		t.Fatal(err)
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(local), uint16(addr.(*unix.SockaddrInet4).Port))
}
