// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/continuity"
	"github.com/weir-mesh/weir/internal/sockdiag"
	"github.com/weir-mesh/weir/rules"
)

func socketOf(state byte, local, remote string) sockdiag.Socket {
	s := sockdiag.Socket{State: state, Options: true}
	s.Local = netip.MustParseAddrPort(local)
	if remote != "" {
		s.Remote = netip.MustParseAddrPort(remote)
	}
	return s
}

const tcpCloseWait = 8 // of include/net/tcp_states.h

func TestWhichClientsAreTaken(t *testing.T) {
	pod := []sockdiag.Socket{
		socketOf(sockdiag.Listen, "0.0.0.0:15001", ""), socketOf(sockdiag.Listen, "0.0.0.0:8080", ""),
		socketOf(sockdiag.Established, "10.0.0.5:40000", "192.0.2.1:80"), socketOf(sockdiag.Established, "127.0.0.1:15001", "10.0.0.5:40000"),
		socketOf(sockdiag.Established, "10.0.0.5:40001", "192.0.2.1:80"),
		socketOf(sockdiag.Established, "10.0.0.5:40002", "10.0.0.5:8080"), socketOf(sockdiag.Established, "10.0.0.5:8080", "10.0.0.5:40002"),
		socketOf(sockdiag.Established, "10.0.0.5:8080", "203.0.113.7:5000"),
		socketOf(tcpCloseWait, "10.0.0.5:40003", "10.0.0.5:8080"), // whose other end is gone
		socketOf(sockdiag.Established, "[fd00::5]:40004", "[2001:db8::1]:80"), socketOf(sockdiag.Established, "[::1]:15001", "[fd00::5]:40004"),
	}
	here := takenHere(pod)
	for _, row := range []struct {
		why   string
		local string
		want  bool
	}{
		{"the proxy has the other end", "10.0.0.5:40000", true},
		{"the proxy has the other end, IPv6", "[fd00::5]:40004", true},
		{"the other end is elsewhere", "10.0.0.5:40001", false},
		{"both ends are here, and see each other", "10.0.0.5:40002", false},
		{"a server is not a client, whatever is connected to it", "10.0.0.5:8080", false},
		{"the other end closed", "10.0.0.5:40003", false},
	} {
		for _, s := range pod {
			if s.Local == netip.MustParseAddrPort(row.local) && here.client(s) != row.want {
				t.Errorf("%s: %s is taken: %t, want %t", row.why, row.local, !row.want, row.want)
			}
		}
	}
}

func TestWhatIsRemembered(t *testing.T) {
	syn := socketOf(sockdiag.SynSent, "10.0.0.5:40000", "192.0.2.1:80")
	syn.Resend = 700 * time.Millisecond
	late := syn
	late.Resend = time.Hour
	for _, row := range []struct {
		why    string
		socket sockdiag.Socket
		open   bool
		want   time.Duration
	}{
		{"until its SYN goes out again, which is captured", syn, true, 800 * time.Millisecond},
		{"no SYN waits for longer than two minutes", late, true, resendAtMost + resendSlack},
		{"an open one, longer than conntrack remembers it", socketOf(sockdiag.Established, "10.0.0.5:8080", "192.0.2.1:80"), true, continuity.OpenTimeout},
		{"a half-closed one", socketOf(tcpCloseWait, "10.0.0.5:8080", "192.0.2.1:80"), true, continuity.OpenTimeout},
		{"one that still comes in", socketOf(sockdiag.SynRecv, "10.0.0.5:8080", "192.0.2.1:80"), true, continuity.OpenTimeout},
		{"both ends closed", socketOf(sockdiag.TimeWait, "10.0.0.5:8080", "192.0.2.1:80"), false, 0},
		{"a listener", socketOf(sockdiag.Listen, "10.0.0.5:8080", ""), false, 0},
	} {
		if row.socket.Open() != row.open {
			t.Errorf("%s: open is %t", row.why, row.socket.Open())
		}
		if row.open && remembered(row.socket) != row.want {
			t.Errorf("%s: %s, want %s", row.why, remembered(row.socket), row.want)
		}
	}
}

func TestWhatARemoveResets(t *testing.T) {
	port := rules.RangeOf(rules.Port(15001))
	to := targets{ports: []rules.Range{port}, tproxy: true}
	own := map[netip.Addr]bool{netip.MustParseAddr("10.0.0.5"): true, netip.MustParseAddr("127.0.0.1"): true}
	transparent := func(s sockdiag.Socket) sockdiag.Socket { s.Transparent = true; return s }
	mute := socketOf(sockdiag.Established, "10.0.0.5:8080", "203.0.113.9:5000")
	mute.Options = false
	for _, row := range []struct {
		why                 string
		sockets             []sockdiag.Socket
		redirected, proxied int
		unknown             bool
	}{
		{"the proxy's end of what nat redirected", []sockdiag.Socket{socketOf(sockdiag.Established, "127.0.0.1:15001", "10.0.0.5:40000")}, 1, 0, false},
		{"who calls the listener itself", []sockdiag.Socket{socketOf(sockdiag.Established, "127.0.0.1:15001", "127.0.0.1:40000"), socketOf(sockdiag.Established, "127.0.0.1:40000", "127.0.0.1:15001")}, 0, 0, false},
		{"what TPROXY gave to a socket", []sockdiag.Socket{transparent(socketOf(sockdiag.Established, "10.0.0.5:8080", "203.0.113.7:5000"))}, 0, 1, false},
		{"the proxy's call in the client's name is the same one", []sockdiag.Socket{transparent(socketOf(sockdiag.Established, "203.0.113.7:6000", "10.0.0.5:8080")), socketOf(sockdiag.Established, "10.0.0.5:8080", "203.0.113.7:6000")}, 0, 0, false},
		{"a listener is not a connection", []sockdiag.Socket{transparent(socketOf(sockdiag.Listen, "10.0.0.5:15006", "")), socketOf(sockdiag.Listen, "127.0.0.1:15001", "")}, 0, 0, false},
		{"what has closed is reset no more", []sockdiag.Socket{socketOf(sockdiag.TimeWait, "127.0.0.1:15001", "10.0.0.5:40000")}, 0, 0, false},
		{"a kernel before 5.11 tells no options", []sockdiag.Socket{mute}, 0, 0, true},
	} {
		c := to.count(row.sockets, own)
		if c.Redirected != row.redirected || c.Proxied != row.proxied || (c.Uncounted != nil) != row.unknown {
			t.Errorf("%s: %d redirected, %d proxied, %v", row.why, c.Redirected, c.Proxied, c.Uncounted)
		}
	}
}

// keeping is a state whose nat keeps away from connections that are open.
func keeping() rules.State {
	t := &rules.Table{Name: "weir"}
	out := &rules.Chain{Name: "output", Base: &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT}}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		t.Sets = append(t.Sets, continuity.OpenSet(f))
		out.Rules = append(out.Rules, continuity.OpenRule(f))
	}
	out.Add("everything else goes to the proxy", rules.L4Proto.Is(rules.TCP), rules.RedirectTo(15001))
	t.Chains = append(t.Chains, out)
	return rules.State{Table: t}
}

// TestCommitsOfAFirstApply counts them: one where no socket is, two where one is, one
// more for every so many connections. What is there twice keeps its elements, and takes
// no guard again.
func TestCommitsOfAFirstApply(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	c := dialKernel(t)
	s := c.Session("weir", "test")
	commits := func(do func()) uint32 {
		before, err := c.generation(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		do()
		after, err := c.generation(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return after - before
	}
	apply := func(want rules.State, kept int) func() {
		return func() {
			t.Helper()
			r, err := s.change(t.Context(), want)
			if err != nil || r.Kept != kept || r.Unlisted != nil {
				t.Errorf("%+v, %v, want %d kept", r, err, kept)
			}
		}
	}
	if n := commits(apply(keeping(), 0)); n != 1 {
		t.Errorf("without a socket it took %d commits", n)
	}
	commits(apply(rules.State{}, 0))
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if n := commits(apply(keeping(), 0)); n != 2 {
		t.Errorf("with a listener it took %d commits", n)
	}
	commits(apply(rules.State{}, 0))
	const connections = elementsAtOnce/2 + 1 // an element for each direction
	for range connections {
		client, err := net.Dial("tcp4", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
	}
	if n := commits(apply(keeping(), connections)); n != 4 {
		t.Errorf("with %d connections it took %d commits", connections, n)
	}
	changed := keeping()
	changed.Table.Chains[0].Add("one more", rules.Return())
	commits(apply(changed, 0))
	live, err := c.Read(t.Context(), "weir")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(live.State.Table.Set(continuity.OpenSet(rules.IPv4).Name).Elements); n != 2*connections {
		t.Errorf("a replace kept %d elements of %d", n, 2*connections)
	}
}
