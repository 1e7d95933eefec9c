// SPDX-License-Identifier: Apache-2.0

//go:build linux

package answer

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var four, six = netip.MustParseAddr("240.240.0.1"), netip.MustParseAddr("2001:2::1")

func addresses(name string) (netip.Addr, netip.Addr, bool) { return four, six, name == "oss.example" }

func query(t testing.TB, name string, typ dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVirtual: an address of each family, and of everything else that there is nothing, which is
// not that there is no such name.
func TestVirtual(t *testing.T) {
	s := &Server{Addresses: addresses, TTL: 30 * time.Second}
	for typ, want := range map[dnsmessage.Type]string{dnsmessage.TypeA: "240.240.0.1", dnsmessage.TypeAAAA: "2001:2::1", dnsmessage.TypeTXT: "", 65: "", 64: "", dnsmessage.TypeMX: ""} {
		var m dnsmessage.Message
		if err := m.Unpack(s.answer(t.Context(), query(t, "OSS.Example.", typ), "udp")); err != nil {
			t.Fatal(err)
		}
		have := ""
		if len(m.Answers) > 0 {
			switch body := m.Answers[0].Body.(type) {
			case *dnsmessage.AResource:
				have = netip.AddrFrom4(body.A).String()
			case *dnsmessage.AAAAResource:
				have = netip.AddrFrom16(body.AAAA).String()
			}
			if m.Answers[0].Header.TTL != 30 || m.Answers[0].Header.Name.String() != "OSS.Example." {
				t.Errorf("%s: %+v", typ, m.Answers[0].Header)
			}
		}
		if have != want || m.RCode != dnsmessage.RCodeSuccess || m.ID != 7 || !m.Response || !m.RecursionAvailable {
			t.Errorf("%s: %q, want %q: %+v", typ, have, want, m.Header)
		}
	}
}

// upstream answers each query with what make gives for it, over UDP and TCP.
func upstream(t *testing.T, make func([]byte) [][]byte) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = ln.Close(), udp.Close() })
	go func() {
		for b := [4096]byte{}; ; {
			n, from, err := udp.ReadFrom(b[:])
			if err != nil {
				return
			}
			for _, answer := range make(b[:n]) {
				_, _ = udp.WriteTo(answer, from)
			}
		}
	}()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if q, err := readFramed(conn); err == nil {
				for _, answer := range make(q) {
					_ = writeFramed(conn, answer)
				}
			}
			_ = conn.Close()
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String())
}

func answerTo(t testing.TB, q []byte, id uint16, name string, padding int) []byte {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(q); err != nil {
		return nil
	}
	m.Response, m.ID = true, id
	m.Questions[0].Name = dnsmessage.MustNewName(name)
	for range padding {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.TXTResource{TXT: []string{string(bytes.Repeat([]byte{'x'}, 200))}}})
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestForward: bytes come back as they are, of the answer to the question alone, from the first
// server that has one; where none has, that is said.
func TestForward(t *testing.T) {
	const asked = "www.example."
	var right atomic.Pointer[[]byte]
	honest := upstream(t, func(q []byte) [][]byte {
		b := answerTo(t, q, 7, asked, 3)
		right.Store(&b)
		return [][]byte{answerTo(t, q, 8, asked, 1), answerTo(t, q, 7, "bank.example.", 1), []byte("nonsense"), b}
	})
	large := upstream(t, func(q []byte) [][]byte {
		b := answerTo(t, q, 7, asked, 250) // 50 kB
		right.Store(&b)
		return [][]byte{b}
	})
	liar := upstream(t, func(q []byte) [][]byte { return [][]byte{answerTo(t, q, 9, asked, 1)} })
	gone := netip.MustParseAddrPort("127.0.0.1:1")
	for _, tt := range []struct {
		why, network string
		servers      []netip.AddrPort
		fails        bool
	}{
		{"an answer among others", "udp", []netip.AddrPort{honest}, false},
		{"a large one, over TCP", "tcp", []netip.AddrPort{large}, false},
		{"the second server", "udp", []netip.AddrPort{gone, honest}, false},
		{"none is known", "udp", nil, true},
		{"one that lies", "tcp", []netip.AddrPort{liar}, true},
		{"one that is gone", "tcp", []netip.AddrPort{gone}, true},
	} {
		failed := 0
		s := &Server{Addresses: addresses, Upstream: tt.servers, Failed: func(error) { failed++ }}
		got := s.answer(t.Context(), query(t, asked, dnsmessage.TypeTXT), tt.network)
		if tt.fails {
			var m dnsmessage.Message
			if err := m.Unpack(got); err != nil || m.RCode != dnsmessage.RCodeServerFailure || m.ID != 7 || failed != 1 {
				t.Errorf("%s: %v, %+v, %d said", tt.why, err, m.Header, failed)
			}
			continue
		}
		if failed > 0 || !bytes.Equal(got, *right.Load()) {
			t.Errorf("%s: %d bytes, %d failed", tt.why, len(got), failed)
		}
	}
}

// freePort is a port of both protocols that is free, and that the kernel gives nobody who asks for any.
func freePort(t *testing.T) uint16 {
	t.Helper()
	const first, last = 20_000, 30_000 // before those of net.ipv4.ip_local_port_range
	for port := first + os.Getpid()%(last-first); port < last+1000; port++ {
		udp, err := net.ListenPacket("udp", fmt.Sprint(":", port))
		if err != nil {
			continue
		}
		tcp, err := net.Listen("tcp", fmt.Sprint(":", port))
		_ = udp.Close()
		if err == nil {
			_ = tcp.Close()
			return uint16(port)
		}
	}
	t.Fatal("no port is free")
	return 0
}

// TestServe answers at every address, over both protocols, from the address that was asked.
func TestServe(t *testing.T) {
	port := freePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	s := &Server{Addresses: addresses, TTL: time.Second}
	go func() { done <- s.Serve(ctx, port, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	for _, network := range []string{"udp", "tcp"} {
		for _, host := range []string{"127.0.0.1", "127.8.9.10", "::1"} {
			resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, netip.AddrPortFrom(netip.MustParseAddr(host), port).String()) // a connected socket: it hears the address that it asked
			}}
			if got, err := resolver.LookupHost(t.Context(), "oss.example."); err != nil || len(got) != 2 {
				if host == "::1" && err != nil && bytes.Contains([]byte(err.Error()), []byte("cannot assign")) {
					continue // no IPv6 here
				}
				t.Errorf("%s at %s: %v, %v", network, host, got, err)
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// FuzzAnswer has any bytes asked: what is answered is a response to them, or nothing.
func FuzzAnswer(f *testing.F) {
	f.Add(query(f, "oss.example.", dnsmessage.TypeA))
	f.Add(query(f, "www.example.", dnsmessage.TypeAAAA)[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &Server{Addresses: addresses}
		got := s.answer(context.Background(), b, "udp")
		if got == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(got); err != nil || !m.Response || !answers(b, got) || len(m.Answers) > 1 {
			t.Errorf("%x is answered by %+v: %v", b, m, err)
		}
	})
}
