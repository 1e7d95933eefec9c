// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/sys/unix"
)

// captureWays are the ways in which traffic is captured, as commands.
var captureWays = []struct {
	name   string
	config string // for apply, or
	args   []string
	tunnel bool // captures what comes in by TPROXY
}{
	{"redirect", "mode: sidecar\nproxy: {uids: [1337], gids: [1337]}\n", nil, false},
	{"tproxy", "mode: sidecar\nproxy: {uids: [1337], gids: [1337]}\ninbound: {via: tproxy}\n", nil, true},
	{"dns", "mode: sidecar\nproxy: {uids: [1337], gids: [1337]}\ndns: {capture: all}\n", nil, false},
	{"loopback is captured too", "mode: sidecar\nproxy: {uids: [1337], gids: [1337]}\noutbound: {includeCIDRs: [0.0.0.0/0, \"::/0\", 127.0.0.0/8]}\n", nil, false},
	{"ambient", "", []string{"ambient", "pod", "apply", "--v6", "--dns"}, false},
	{"istio-init redirect", "", append([]string{"istio-init"}, injected("REDIRECT")...), false},
	{"istio-init tproxy", "", append([]string{"istio-init"}, injected("TPROXY")...), true},
}

func (p *realPod) capture(number int) outcome {
	p.Helper()
	c := captureWays[number]
	if c.config != "" {
		return p.feed("version: 1\n"+c.config, "apply", "--config", "-")
	}
	return p.run(c.args...)
}

// opened is an open connection, with both ends in hand.
type opened struct {
	name           string
	client, server *net.TCPConn
}

// open connects and accepts.
func (p *realPod) open(name string, from *scratch.Namespace, uid uint32, ln *net.TCPListener, to netip.AddrPort) *opened {
	p.Helper()
	client, err := dialAs(from, uid, uid, netip.Addr{}, to)
	if err != nil {
		p.Fatalf("%s: %v", name, err)
	}
	p.Cleanup(func() { client.Close() })
	if err := ln.SetDeadline(time.Now().Add(eventPatience)); err != nil {
		p.Fatal(err)
	}
	server, err := ln.AcceptTCP()
	if err != nil {
		p.Fatalf("%s: %v", name, err)
	}
	p.Cleanup(func() { server.Close() })
	return &opened{name, client, server}
}

// says sends a word from one end to the other.
func says(from, to *net.TCPConn, word string) error {
	return saysWithin(eventPatience, from, to, word)
}

// saysWithin is says with another time.
func saysWithin(limit time.Duration, from, to *net.TCPConn, word string) error {
	end := time.Now().Add(limit)
	if err := errors.Join(from.SetDeadline(end), to.SetDeadline(end)); err != nil {
		return err
	}
	if _, err := io.WriteString(from, word); err != nil {
		return err
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(to, got); err != nil {
		return err
	}
	if string(got) != word {
		return fmt.Errorf("%q arrived as %q", word, got)
	}
	return nil
}

// lives reports whether both ends hear each other.
func (o *opened) lives(t testing.TB, when string) {
	t.Helper()
	if err := errors.Join(says(o.client, o.server, "ping"), says(o.server, o.client, "pong")); err != nil {
		t.Errorf("%s, %s: %v", o.name, when, err)
	}
}

// openEverywhere opens connections of both families in every direction, and halves
// of some.
func (p *realPod) openEverywhere() (whole []*opened, halves []func(t testing.TB, when string)) {
	p.Helper()
	for _, f := range families {
		any := map[string]string{"IPv4": "0.0.0.0", "IPv6": "[::]"}[f.name]
		loop := map[string]string{"IPv4": "127.0.0.1", "IPv6": "::1"}[f.name]
		at := func(a netip.Addr, ln net.Listener) netip.AddrPort {
			return netip.AddrPortFrom(a, plain(ln.Addr()).Port())
		}
		app, far := listenAs(p, p.pod, appID, appID, any+":0"), listenAs(p, p.far, 0, 0, any+":0")
		world := f.somewhere(1, plain(far.Addr()).Port())
		whole = append(whole,
			p.open(f.name+" inbound", p.far, 0, app, at(f.pod.Addr(), app)),
			p.open(f.name+" outbound", p.pod, appID, far, world),
			p.open(f.name+" of the proxy", p.pod, proxyID, far, world),
			p.open(f.name+" over a loopback address", p.pod, appID, app, at(netip.MustParseAddr(loop), app)),
			p.open(f.name+" to the own address", p.pod, appID, app, at(f.pod.Addr(), app)),
			p.open(f.name+" of the proxy to the own address", p.pod, proxyID, app, at(f.pod.Addr(), app)))
		out, in := p.open(f.name+" outbound, half closed", p.pod, appID, far, world), p.open(f.name+" inbound, half closed", p.far, 0, app, at(f.pod.Addr(), app))
		for _, o := range []*opened{out, in} {
			if err := errors.Join(o.client.CloseWrite(), o.server.SetReadDeadline(time.Now().Add(eventPatience))); err != nil {
				p.Fatal(err)
			}
			if _, err := o.server.Read(make([]byte, 1)); err != io.EOF {
				p.Fatalf("%s: %v, want the end", o.name, err)
			}
			halves = append(halves, func(t testing.TB, when string) {
				t.Helper()
				if err := says(o.server, o.client, "still here"); err != nil {
					t.Errorf("%s, %s: %v", o.name, when, err)
				}
			})
		}
	}
	// A socket of IPv6 takes IPv4 too, and what it sends is IPv4.
	mapped := listenAs(p, p.pod, appID, appID, ":0")
	whole = append(whole, p.open("IPv4 at a socket of IPv6", p.far, 0, mapped, netip.AddrPortFrom(families[0].pod.Addr(), plain(mapped.Addr()).Port())))
	return whole, halves
}

// TestFirstApplyKeepsConnections applies where connections are open. None is reset,
// whatever captures and whether or not conntrack knew them; new ones are captured, and
// of those nothing leaves past the proxy once conntrack forgets them.
func TestFirstApplyKeepsConnections(t *testing.T) {
	for number, c := range captureWays {
		for _, conntrack := range []string{"off", "on"} {
			t.Run(c.name+", conntrack "+conntrack, func(t *testing.T) {
				p := newRealPod(t)
				if conntrack == "on" {
					p.nft("table inet other { chain in { type filter hook input priority 0; ct state established counter; }; }")
				}
				whole, halves := p.openEverywhere()
				all := func(when string) {
					t.Helper()
					for _, o := range whole {
						o.lives(t, when)
					}
					for _, half := range halves {
						half(t, when)
					}
				}
				all("before")
				p.capture(number).want(t, 0)
				all("after the apply")
				p.forgetFlows()
				all("after conntrack forgot all")
				p.capturedStays(t, whole[1])
				p.capture(number).want(t, 0) // again: nothing is to do
				all("after the second apply")
			})
		}
	}
}

// forgetFlows empties conntrack.
func (p *realPod) forgetFlows() {
	p.Helper()
	p.must("", tool(p, "conntrack", "conntrack"), "-F")
}

// capturedStays opens a connection that is captured, has conntrack forget it, and
// looks at the wire for what is sent then. Another connection, which is not captured,
// shows that the wire was looked at.
func (p *realPod) capturedStays(t *testing.T, leaves *opened) {
	t.Helper()
	for _, f := range families {
		any := map[string]string{"IPv4": "0.0.0.0", "IPv6": "[::]"}[f.name]
		proxy := listenAs(t, p.pod, proxyID, proxyID, any+":15001")
		o := p.open(f.name+" captured", p.pod, appID, proxy, f.somewhere(7, 80))
		o.lives(t, "as it was opened")
		wire := sniff(t, p.far, "far0")
		p.forgetFlows()
		if _, err := io.WriteString(o.client, "secret "+f.name); err != nil && !errors.Is(err, unix.ECONNRESET) {
			t.Error(err)
		}
		if err := says(leaves.client, leaves.server, "told to all "+f.name); err != nil {
			t.Error(err)
		}
		wire.until(t, "told to all "+f.name)
		if wire.saw("secret " + f.name) {
			t.Errorf("%s: a captured connection's data left past the proxy", f.name)
		}
		proxy.Close()
	}
}

// sniffer sees every frame of a link.
type sniffer struct {
	mu     sync.Mutex
	frames bytes.Buffer
}

func sniff(t testing.TB, ns *scratch.Namespace, link string) *sniffer {
	t.Helper()
	var f *os.File
	err := ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), "packets")
		i, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		const everything = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00 // in network order
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: i.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	s := &sniffer{}
	go func() {
		frame := make([]byte, 1<<16)
		for {
			n, err := f.Read(frame)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.frames.Write(frame[:n])
			s.mu.Unlock()
		}
	}()
	return s
}

func (s *sniffer) saw(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Contains(s.frames.Bytes(), []byte(text))
}

func (s *sniffer) until(t testing.TB, text string) {
	t.Helper()
	for end := time.Now().Add(eventPatience); !s.saw(text); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%q was not seen on the wire", text)
		}
	}
}
