// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestProbesMeetListeners(t *testing.T) {
	a, b := joined(t)
	serve(t, b, Listeners{Name: "b", TCP: []uint16{80}, UDP: []uint16{53}})
	serve(t, a, Listeners{Name: "a", TCP: []uint16{80}, UDP: []uint16{53}})
	Must(t, b.AddRoute(Route{Dst: netip.MustParsePrefix("203.0.113.0/24"), Via: netip.MustParseAddr("192.0.2.1")}))
	await(t, a, 53, "192.0.2.2", "2001:db8::2")
	ip := netip.MustParseAddr
	for _, tt := range []struct {
		why  string
		p    Probe
		want string
	}{
		{"over the link", Probe{Proto: "tcp", Dst: ip("192.0.2.2"), DPort: 80}, "b:80 orig=192.0.2.2:80 src=kept"},
		{"over the link, IPv6", Probe{Proto: "tcp", Dst: ip("2001:db8::2"), DPort: 80}, "b:80 orig=[2001:db8::2]:80 src=kept"},
		{"to oneself", Probe{Proto: "tcp", Dst: ip("127.0.0.1"), DPort: 80}, "a:80 orig=127.0.0.1:80 src=kept"},
		{"to oneself, IPv6", Probe{Proto: "tcp", Dst: ip("::1"), DPort: 80}, "a:80 orig=[::1]:80 src=kept"},
		{"a datagram", Probe{Proto: "udp", Dst: ip("192.0.2.2"), DPort: 53}, "b:53 src=kept"},
		{"a datagram, IPv6", Probe{Proto: "udp", Dst: ip("2001:db8::2"), DPort: 53}, "b:53 src=kept"},
		{"answered from the address asked, not from 127.0.0.1", Probe{Proto: "udp", Dst: ip("127.0.0.5"), DPort: 53}, "a:53 src=kept"},
		{"from a port and an address of one's own", Probe{Proto: "tcp", Src: ip("127.0.0.9"), SPort: 1234, Dst: ip("127.0.0.1"), DPort: 80}, "a:80 orig=127.0.0.1:80 src=kept"},
		{"from a foreign address", Probe{Proto: "tcp", Src: ip("203.0.113.9"), Spoof: true, Dst: ip("192.0.2.2"), DPort: 80}, "timeout"},
		{"from a foreign address without leave", Probe{Proto: "tcp", Src: ip("203.0.113.9"), Dst: ip("192.0.2.2"), DPort: 80}, "error:Cannot assign requested address"},
		{"with a mark that nothing asks for", Probe{Proto: "tcp", Mark: 0xf0000001, Dst: ip("192.0.2.2"), DPort: 80}, "b:80 orig=192.0.2.2:80 src=kept"},
		{"nothing listens", Probe{Proto: "tcp", Dst: ip("192.0.2.2"), DPort: 81}, "refused"},
		{"nothing listens, UDP", Probe{Proto: "udp", Dst: ip("127.0.0.1"), DPort: 54}, "refused"},
		{"no such route", Probe{Proto: "tcp", Dst: ip("198.51.100.1"), DPort: 80}, "error:Network is unreachable"},
		{"no such route, UDP", Probe{Proto: "udp", Dst: ip("198.51.100.1"), DPort: 80}, "error:Network is unreachable"},
		{"no host is there", Probe{Proto: "udp", Dst: ip("192.0.2.3"), DPort: 80}, "timeout"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			if got := send(t, a, tt.p); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCatchAllAnswersForEveryAddressAndPort(t *testing.T) {
	a, b := joined(t)
	serve(t, b, Listeners{Name: "world", TCP: []uint16{7000}, UDP: []uint16{7000}})
	Must(t,
		b.CatchAll(7000, "b"),
		a.AddRoute(Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.2")}),
		a.AddRoute(Route{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("2001:db8::2")}),
	)
	await(t, a, 7000, "192.0.2.2", "2001:db8::2")
	for _, dst := range []string{"93.184.216.34:443", "[2001:4860:4860::8888]:53", "192.0.2.2:1"} {
		to := netip.MustParseAddrPort(dst)
		if got, want := send(t, a, Probe{Proto: "tcp", Dst: to.Addr(), DPort: to.Port()}), "world:7000 orig="+dst+" src=kept"; got != want {
			t.Errorf("TCP to %s: got %q, want %q", dst, got, want)
		}
		if got, want := send(t, a, Probe{Proto: "udp", Dst: to.Addr(), DPort: to.Port()}), "world:7000 src=kept"; got != want {
			t.Errorf("UDP to %s: got %q, want %q", dst, got, want)
		}
	}
	flows, err := b.Conntrack()
	Must(t, err)
	var seen int
	for _, f := range flows {
		if f.Proto == unix.IPPROTO_TCP && f.Dst == netip.MustParseAddrPort("[2001:4860:4860::8888]:53") && f.Src.Addr() == netip.MustParseAddr("2001:db8::1") {
			seen++
		}
	}
	if seen != 1 {
		t.Errorf("conntrack lists the IPv6 connection %d times, want once: %v", seen, flows)
	}
}

// A firewall sees the sockets of a connection as those of the threads that opened and accepted them.
func TestSocketsBelongToTheirIdentity(t *testing.T) {
	NeedUsers(t)
	ns := ForTest(t)
	serve(t, ns, Listeners{Name: "x", TCP: []uint16{80}, UDP: []uint16{53}, Identity: Identity{UID: 1001, GID: 1002}})
	var conn net.Conn
	Must(t, ns.DoAs(1003, 1004, func() (err error) {
		conn, err = Probe{Proto: "tcp", Dst: netip.MustParseAddr("127.0.0.1"), DPort: 80}.dial(t.Context(), time.Minute)
		return err
	}))
	defer conn.Close()
	// An answer shows that the connection has been accepted; it stays open until we close it.
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what, file, local, remote string
		uid                       string
	}{
		{"the listener", "tcp", ":0050", ":0000", "1001"},
		{"the listener, IPv6", "tcp6", ":0050", ":0000", "1001"},
		{"the accepted connection", "tcp", ":0050", fmt.Sprintf(":%04X", addrPort(conn.LocalAddr()).Port()), "1001"},
		{"the client's connection", "tcp", fmt.Sprintf(":%04X", addrPort(conn.LocalAddr()).Port()), ":0050", "1003"},
		{"the UDP listener", "udp", ":0035", ":0000", "1001"},
	} {
		var table []byte
		Must(t, ns.Do(func() (err error) { table, err = os.ReadFile("/proc/thread-self/net/" + tt.file); return err }))
		found := false
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			if len(f) > 7 && strings.HasSuffix(f[1], tt.local) && strings.HasSuffix(f[2], tt.remote) {
				found = true
				if f[7] != tt.uid {
					t.Errorf("%s belongs to %s, want %s", tt.what, f[7], tt.uid)
				}
			}
		}
		if !found {
			t.Errorf("%s is not there:\n%s", tt.what, table)
		}
	}
}

func TestAnIdentityThatCannotBeHad(t *testing.T) {
	ns := ForTest(t)
	// The last ID stands for none: no process can have it.
	const nobody = 1<<32 - 1
	if err := ns.DoAs(nobody, nobody, func() error { return nil }); !errors.Is(err, unix.EPERM) {
		t.Errorf("do as: got %v, want %v", err, unix.EPERM)
	}
	if _, err := (Listeners{Identity: Identity{UID: nobody}}).Serve(t.Context(), ns); !errors.Is(err, unix.EPERM) {
		t.Errorf("serve: got %v, want %v", err, unix.EPERM)
	}
	if _, err := (Probe{UID: nobody}).Send(t.Context(), ns, time.Second); !errors.Is(err, unix.EPERM) {
		t.Errorf("send: got %v, want %v", err, unix.EPERM)
	}
}

func TestServeReportsAPortThatIsTaken(t *testing.T) {
	ns := ForTest(t)
	l := Listeners{Name: "x", TCP: []uint16{79, 80}}
	serve(t, ns, l)
	if _, err := (Listeners{Name: "y", TCP: []uint16{81, 80}}).Serve(t.Context(), ns); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("got %v, want %v", err, unix.EADDRINUSE)
	}
	// Port 81 has been given back.
	serve(t, ns, Listeners{Name: "z", TCP: []uint16{81}})
}

func TestAServerEndsWithItsContext(t *testing.T) {
	ns := ForTest(t)
	end := func() (took time.Duration) {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := Listeners{Name: "x", TCP: []uint16{80}, UDP: []uint16{53}}.Serve(ctx, ns)
		Must(t, err)
		conn, err := dialIn(ns, "tcp", "127.0.0.1:80") // the server must not wait until the client closes it
		Must(t, err)
		defer conn.Close()
		began := time.Now()
		cancel()
		Must(t, s.Close())
		return time.Since(began)
	}
	const tries = 5 // a busy machine may be slow once, a server that waits is slow each time
	took := end()
	for range tries - 1 {
		took = min(took, end())
	}
	if took > answerTimeout/2 {
		t.Errorf("it took at least %v", took)
	}
	probe := Probe{Proto: "tcp", Dst: netip.MustParseAddr("127.0.0.1"), DPort: 80}
	if got := send(t, ns, probe); got != "refused" {
		t.Errorf("afterwards a probe is %s", got)
	}
}

func TestAProbeEndsWithItsContext(t *testing.T) {
	a, _ := joined(t)
	for _, proto := range []string{"tcp", "udp"} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		began := time.Now()
		silent := Probe{Proto: proto, Dst: netip.MustParseAddr("192.0.2.3"), DPort: 80}
		_, err := silent.Send(ctx, a, time.Hour)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Minute {
			t.Errorf("%s: got %v after %v, want %v at once", proto, err, time.Since(began), context.DeadlineExceeded)
		}
	}
}

func dialIn(ns *Namespace, network, address string) (conn net.Conn, err error) {
	err = ns.Do(func() (err error) { conn, err = net.DialTimeout(network, address, time.Minute); return err })
	return conn, err
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	nobody := Probe{Proto: "tcp", Dst: netip.MustParseAddr("127.0.0.1"), DPort: 80}
	if err := nobody.Await(ctx, ForTest(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
}

// What answers may be something else than a Server.
func TestAProbeThatMeetsAStranger(t *testing.T) {
	for _, tt := range []struct{ why, says, want string }{
		{"it closes without a word", "", "closed"},
		{"it speaks otherwise", "HTTP/1.1 400 Bad Request\r\n\r\n", "error:"},
		{"it breaks off", `{"land":`, "error:"},
		{"it says too much", `{"land":"` + strings.Repeat("x", 2*datagramSize), "error:"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			ns := ForTest(t)
			var ln net.Listener
			Must(t, ns.Do(func() (err error) { ln, err = net.Listen("tcp4", "127.0.0.1:80"); return err }))
			defer ln.Close()
			go func() {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte(tt.says))
				_ = conn.Close()
			}()
			got := send(t, ns, Probe{Proto: "tcp", Dst: netip.MustParseAddr("127.0.0.1"), DPort: 80})
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func BenchmarkProbe(b *testing.B) {
	ns := ForTest(b)
	serve(b, ns, Listeners{Name: "x", TCP: []uint16{80}})
	p := Probe{Proto: "tcp", Dst: netip.MustParseAddr("127.0.0.1"), DPort: 80}
	for b.Loop() {
		send(b, ns, p)
	}
}
