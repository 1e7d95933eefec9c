// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/proxy"
)

// atLength is a Peek that wants n bytes, finds what it was shown last, and tells of each call.
func atLength(n int, calls chan<- string) func(proxy.ConnInfo, []byte) (any, bool) {
	return func(_ proxy.ConnInfo, first []byte) (any, bool) {
		calls <- string(first)
		return string(first), len(first) < n
	}
}

// peeking serves an origin through a proxy that peeks, and hears what Dial was told.
func peeking(t *testing.T, s *proxy.Server, handle func(*net.TCPConn)) (*running, <-chan any) {
	t.Helper()
	dst := origin(t, "127.0.0.1:0", handle)
	dialled := make(chan any, 16)
	s.Dial = func(ctx context.Context, c proxy.ConnInfo) (*net.TCPConn, error) {
		dialled <- c.Peeked
		return to(dst, proxy.Dialer{})(ctx, c)
	}
	return serve(t, s, proxy.SocketOptions{}, "127.0.0.1:0"), dialled
}

// Each part is sent once the one before has been shown, so that none comes with another.
func TestPeekSeesTheFirstBytesAndLeavesThem(t *testing.T) {
	calls := make(chan string, 16)
	r, dialled := peeking(t, &proxy.Server{Peek: atLength(9, calls), PeekTimeout: time.Hour}, echo)
	conn := dial(t, net.Dialer{}, r.addr)
	var shown []string
	for _, part := range []string{"", "one", "two", "six"} {
		if part != "" {
			write(t, conn, part)
		}
		// The first call may come before anything is sent.
		shown = append(shown, receive(t, calls))
	}
	if want := []string{"", "one", "onetwo", "onetwosix"}; !slices.Equal(shown, want) {
		t.Errorf("shown %q, want %q", shown, want)
	}
	if got := receive(t, dialled); got != "onetwosix" {
		t.Errorf("Dial was told %q", got)
	}
	write(t, conn, "and more")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "onetwosixand more" {
		t.Errorf("read %q, %v, want all that was sent, once", got, err)
	}
	if got := receive(t, r.ended); got.conn.Peeked != "onetwosix" || got.carried != (proxy.Bytes{FromClient: 17, FromUpstream: 17}) || got.err != nil {
		t.Errorf("ended %+v, want what was peeked and 17 bytes each way", got)
	}
}

func TestPeekWhereTheServerSpeaksFirst(t *testing.T) {
	greet := func(conn *net.TCPConn) {
		_, _ = io.WriteString(conn, "220 ready")
		_, _ = io.Copy(io.Discard, conn)
	}
	for _, tt := range []struct {
		why    string
		server proxy.Server
	}{
		{"the time limit ends the wait", proxy.Server{
			Peek:        func(proxy.ConnInfo, []byte) (any, bool) { return nil, true },
			PeekTimeout: 20 * time.Millisecond,
		}},
		{"a hook that wants nothing is not waited for", proxy.Server{
			Peek:        func(proxy.ConnInfo, []byte) (any, bool) { return nil, false },
			PeekTimeout: time.Hour,
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			r, _ := peeking(t, &tt.server, greet)
			conn := dial(t, net.Dialer{}, r.addr)
			expect(t, conn, "220 ready")
			// The deadline of the peek does not outlive it.
			write(t, conn, "QUIT")
			conn.Close()
			if got := receive(t, r.ended); got.err != nil || got.carried != (proxy.Bytes{FromClient: 4, FromUpstream: 9}) {
				t.Errorf("ended %+v, want 4 bytes and 9", got)
			}
		})
	}
}

func TestPeekIsBounded(t *testing.T) {
	calls := make(chan string, 1<<16)
	r, dialled := peeking(t, &proxy.Server{Peek: atLength(1<<20, calls), PeekBytes: 100, PeekTimeout: time.Hour}, echo)
	conn := dial(t, net.Dialer{}, r.addr)
	write(t, conn, strings.Repeat("x", 5000))
	if got := receive(t, dialled); got != strings.Repeat("x", 100) {
		t.Errorf("%d bytes were shown, want 100", len(got.(string)))
	}
	expect(t, conn, strings.Repeat("x", 5000))
}

// No more can come, so that there is nothing to wait for.
func TestPeekEndsWithTheStream(t *testing.T) {
	for _, sent := range []string{"", "half a hello"} {
		calls := make(chan string, 16)
		r, dialled := peeking(t, &proxy.Server{Peek: atLength(1000, calls), PeekTimeout: time.Hour}, echo)
		conn := dial(t, net.Dialer{}, r.addr)
		for got := receive(t, calls); got != sent; got = receive(t, calls) {
			if got != "" {
				t.Fatalf("shown %q, want %q", got, sent)
			}
			write(t, conn, sent)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, dialled); got != sent {
			t.Errorf("Dial was told %q, want %q", got, sent)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != sent {
			t.Errorf("read %q, %v, want %q", got, err, sent)
		}
	}
}

func TestPeekIsEndedBeforeTheDial(t *testing.T) {
	for _, tt := range []struct {
		why  string
		end  func(*running, *net.TCPConn)
		want error
	}{
		{"by the client's reset", func(_ *running, conn *net.TCPConn) { _ = conn.SetLinger(0); conn.Close() }, unix.ECONNRESET},
		{"by the end of Serve", func(r *running, _ *net.TCPConn) { r.stop() }, context.Canceled},
	} {
		t.Run(tt.why, func(t *testing.T) {
			calls := make(chan string, 16)
			r, dialled := peeking(t, &proxy.Server{Peek: atLength(1000, calls), PeekTimeout: time.Hour}, echo)
			conn := dial(t, net.Dialer{}, r.addr)
			receive(t, calls)
			tt.end(r, conn)
			if got := receive(t, r.ended); !errors.Is(got.err, tt.want) {
				t.Errorf("ended with %v, want %v", got.err, tt.want)
			}
			if len(dialled) > 0 {
				t.Error("it was dialled")
			}
		})
	}
}

// Authors with an accept loop of their own peek without a Server.
func TestConnPeek(t *testing.T) {
	ln := listen(t, "127.0.0.1:0", proxy.SocketOptions{})
	client := dial(t, net.Dialer{}, addrOf(ln))
	conn, err := ln.AcceptConn()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	write(t, client, "hello")
	err = conn.Peek(t.Context(), 16, func(first []byte) bool { return bytes.HasPrefix(first, []byte("hello")) })
	if err != nil {
		t.Errorf("Peek = %v", err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := conn.Peek(soon, 16, func([]byte) bool { return false }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Peek = %v, want the end of the context", err)
	}
	expect(t, conn, "hello")
}
