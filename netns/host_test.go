// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"golang.org/x/sys/unix"
)

// TestHostAndSockets reads of a namespace what decides about packets beside its
// tables.
func TestHostAndSockets(t *testing.T) {
	n := newScratch(t)
	ipRoute(t, n, "link set lo up", "link add eth0 type veth peer name away", "address add 192.0.2.2/24 dev eth0", "link set eth0 up", "link set away up",
		"route add default via 192.0.2.1", "route add blackhole 198.51.100.0/24", "route add local 0.0.0.0/0 dev lo table 77",
		"rule add priority 50 fwmark 0x1/0xf lookup 77", "rule add priority 60 uidrange 5-6 lookup 77", "rule add priority 70 iif eth0 from 203.0.113.0/24 lookup 77",
		"rule add priority 80 not fwmark 0x1 lookup 77", "rule add priority 90 not fwmark 0x1 uidrange 5-6 lookup 77")
	h, err := n.Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	eth0 := h.Links[slices.IndexFunc(h.Links, func(l sim.Link) bool { return l.Name == "eth0" })]
	if !slices.Contains(eth0.Addresses, netip.MustParsePrefix("192.0.2.2/24")) {
		t.Errorf("eth0 is read as %+v", eth0)
	}
	rule := func(priority uint32) sim.PolicyRule {
		return h.PolicyRules[slices.IndexFunc(h.PolicyRules, func(l sim.PolicyRule) bool { return l.Family == rules.IPv4 && l.Priority == priority })]
	}
	if got, want := rule(50), (sim.PolicyRule{Family: rules.IPv4, Priority: 50, Mark: 1, Mask: 0xf, Table: 77}); got != want {
		t.Errorf("a rule of a mark is read as %+v", got)
	}
	if got := rule(60); got.Unsupported == "" {
		t.Errorf("a rule of users is read as %+v, which is not all", got)
	}
	if got, want := rule(70), (sim.PolicyRule{Family: rules.IPv4, Priority: 70, In: "eth0", From: netip.MustParsePrefix("203.0.113.0/24"), Table: 77}); got != want {
		t.Errorf("a rule of an interface is read as %+v", got)
	}
	if got, want := rule(80), (sim.PolicyRule{Family: rules.IPv4, Priority: 80, Mark: 1, Mask: ^rules.Mark(0), Not: true, Table: 77}); got != want {
		t.Errorf("an inverted rule is read as %+v", got)
	}
	if got := rule(90); got.Unsupported == "" || got.Mask != 0 || got.Not {
		t.Errorf("an inverted rule of users may take any packet, and is read as %+v", got)
	}
	for _, want := range []sim.Route{
		{Table: 254, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: rules.Unicast, Out: "eth0", Via: netip.MustParseAddr("192.0.2.1")},
		{Table: 254, Dst: netip.MustParsePrefix("198.51.100.0/24"), Type: 6},
		{Table: 77, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: rules.Local, Out: "lo"},
		{Table: 255, Dst: netip.MustParsePrefix("192.0.2.2/32"), Type: rules.Local, Out: "eth0", Src: netip.MustParseAddr("192.0.2.2")},
	} {
		if !slices.Contains(h.Routes, want) {
			t.Errorf("no route is read as %+v, of\n%+v", want, h.Routes)
		}
	}

	transparent := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1)
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, 7)
		})
	}}
	for _, l := range []struct {
		config        net.ListenConfig
		network, addr string
	}{{transparent, "tcp4", "0.0.0.0:15006"}, {net.ListenConfig{}, "tcp4", "127.0.0.1:8080"}, {net.ListenConfig{}, "tcp", ":9090"}} {
		listener, err := listenIn(t, n, l.config, l.network, l.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
	}
	sockets, err := n.Sockets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	uid := rules.UID(os.Getuid())
	for _, want := range []sim.Socket{
		{Proto: rules.TCP, Local: netip.MustParseAddrPort("0.0.0.0:15006"), Transparent: true, Mark: 7, UID: uid, NoGID: true},
		{Proto: rules.TCP, Local: netip.MustParseAddrPort("127.0.0.1:8080"), UID: uid, NoGID: true},
		{Proto: rules.TCP, Local: netip.MustParseAddrPort("0.0.0.0:9090"), UID: uid, NoGID: true},
		{Proto: rules.TCP, Local: netip.MustParseAddrPort("[::]:9090"), UID: uid, NoGID: true},
	} {
		same := func(s sim.Socket) bool {
			return s.Proto == want.Proto && s.Local == want.Local && s.Remote == want.Remote && s.Transparent == want.Transparent && s.Mark == want.Mark && s.UID == want.UID && s.NoGID
		}
		if !slices.ContainsFunc(sockets, same) {
			t.Errorf("no socket is read as %+v, of\n%+v", want, sockets)
		}
	}
}

func listenIn(t *testing.T, n *Namespace, config net.ListenConfig, network, addr string) (l net.Listener, err error) {
	err = n.Inside(func() error {
		l, err = config.Listen(t.Context(), network, addr)
		return err
	})
	return l, err
}
