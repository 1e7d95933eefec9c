// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/sys/unix"
)

// remembered has connection tracking know a TCP connection, by conntrack(8)'s words for its state and for what is
// translated.
func (n *namespace) remembered(from, to netip.AddrPort, state string, more ...string) {
	n.Helper()
	n.must("", tool(n, "conntrack", "conntrack"), append([]string{"-I", "-p", "tcp", "-s", from.Addr().String(), "-d", to.Addr().String(),
		"--sport", strconv.Itoa(int(from.Port())), "--dport", strconv.Itoa(int(to.Port())), "-t", "600", "--state", state, "-u", "SEEN_REPLY,ASSURED"}, more...)...)
}

// takes: the proxy takes a connection, and its destination sees nothing of it.
func (p *path) takes(from, to netip.AddrPort) {
	p.Helper()
	p.do(func() error {
		if err := connectBetween(from, to); err != nil && !errors.Is(err, unix.ECONNRESET) {
			return fmt.Errorf("the proxy did not take it: %w", err)
		}
		return nil
	})
	if n := p.arrived(); n > 0 {
		p.Errorf("%d packets reached the destination", n)
	}
}

// TestEndedConnectionsTakeNoneAlong: connection tracking remembers connections whose end it did not see, and those that
// were refused; later ones between the same ports are captured all the same.
func TestEndedConnectionsTakeNoneAlong(t *testing.T) {
	for i, row := range []struct {
		why, state string
		translated []string
	}{
		{why: "its end was not seen", state: "ESTABLISHED"},
		{why: "it was refused", state: "CLOSE"},
		{why: "its SYN was not answered", state: "SYN_SENT"},
		{why: "former rules took it to another port", state: "ESTABLISHED", translated: []string{"-r", "127.0.0.1", "-q", "10.50.1.1", "--reply-port-src", "9", "--reply-port-dst", "40003"}},
	} {
		for _, begin := range []string{"", "add table inet tracks { chain c { type filter hook output priority 0; ct state invalid counter; }; }"} {
			t.Run(fmt.Sprintf("%s, tracked by another: %t", row.why, begin != ""), func(t *testing.T) {
				p := newPath(t)
				if begin != "" {
					p.nft(begin)
				}
				from, to := netip.AddrPortFrom(netip.MustParseAddr("10.50.1.1"), uint16(40000+i)), netip.MustParseAddrPort("10.200.1.1:80")
				p.remembered(from, to, row.state, row.translated...)
				if _, err := p.session().Apply(context.Background(), slips[0].a); err != nil {
					t.Fatal(err)
				}
				p.takes(from, to)
			})
		}
	}
}

// TestWhatIsForgotten: only what had an end here, and has ended.
func TestWhatIsForgotten(t *testing.T) {
	n := newNamespace(t)
	n.ip("link set lo up")
	n.ip("addr add 198.18.0.2/24 dev lo")
	n.ip("addr add fd00:18::2/64 dev lo nodad")
	here, there := netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("203.0.113.7")
	here6, there6 := netip.MustParseAddr("fd00:18::2"), netip.MustParseAddr("fd00:99::7")
	open := netip.AddrPortFrom(here, 40000)
	var sockets []int
	n.do(func() error {
		listener, err := listenTransparent()
		if err != nil {
			return err
		}
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		sockets = append(sockets, listener, client)
		return errors.Join(err, unix.Bind(client, &unix.SockaddrInet4{Addr: here.As4(), Port: int(open.Port())}),
			unix.Connect(client, &unix.SockaddrInet4{Addr: here.As4(), Port: int(outboundPort)}))
	})
	t.Cleanup(func() {
		for _, fd := range sockets {
			unix.Close(fd)
		}
	})
	rows := []struct {
		why      string
		from, to netip.AddrPort
		state    string
		stays    bool
		more     []string
	}{
		{"opened here", netip.AddrPortFrom(here, 1001), netip.AddrPortFrom(there, 80), "ESTABLISHED", false, nil},
		{"opened here, IPv6", netip.AddrPortFrom(here6, 1002), netip.AddrPortFrom(there6, 80), "ESTABLISHED", false, nil},
		{"that came in", netip.AddrPortFrom(there, 1003), netip.AddrPortFrom(here, 80), "CLOSE", false, nil},
		{"that came in, IPv6", netip.AddrPortFrom(there6, 1004), netip.AddrPortFrom(here6, 80), "ESTABLISHED", false, nil},
		{"over lo", netip.AddrPortFrom(here, 1005), netip.AddrPortFrom(here, 80), "ESTABLISHED", false, nil},
		{"which both ends closed", netip.AddrPortFrom(here, 1006), netip.AddrPortFrom(there, 80), "TIME_WAIT", true, nil},
		{"that was forwarded", netip.AddrPortFrom(netip.MustParseAddr("172.17.0.2"), 1007), netip.AddrPortFrom(there, 80), "ESTABLISHED", true, nil},
		{"that is in a zone", netip.AddrPortFrom(here, 1008), netip.AddrPortFrom(there, 80), "ESTABLISHED", true, []string{"-w", "5"}},
		{"whose one direction is in a zone", netip.AddrPortFrom(here, 1009), netip.AddrPortFrom(there, 80), "ESTABLISHED", true, []string{"--orig-zone", "5"}},
		{"that is open", open, netip.AddrPortFrom(here, uint16(outboundPort)), "ESTABLISHED", true, nil},
	}
	for _, row := range rows {
		n.remembered(row.from, row.to, row.state, row.more...)
	}
	if _, err := n.session().Apply(context.Background(), slips[0].a); err != nil {
		t.Fatal(err)
	}
	flows := n.must("", tool(n, "conntrack", "conntrack"), "-L", "-f", "ipv4") + n.must("", tool(n, "conntrack", "conntrack"), "-L", "-f", "ipv6")
	for _, row := range rows {
		if stays := strings.Contains(flows, fmt.Sprintf("sport=%d ", row.from.Port())); stays != row.stays {
			t.Errorf("a connection %s is remembered: %t, want %t", row.why, stays, row.stays)
		}
	}
	if t.Failed() {
		t.Log(flows)
	}
}

// TestTrackedSYNIsCaptured: a connection that another program tracks, and whose SYN was not answered, is captured when
// it sends that again.
func TestTrackedSYNIsCaptured(t *testing.T) {
	p := newPath(t)
	p.peer.nft("insert rule inet judge c ip daddr 10.200.9.9 counter name arrived drop")
	p.nft("add table inet tracks { chain c { type filter hook output priority 0; ct state invalid counter; }; }")
	var client int
	p.do(func() (err error) {
		if client, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		err = unix.Connect(client, &unix.SockaddrInet4{Addr: [4]byte{10, 200, 9, 9}, Port: 80})
		if errors.Is(err, unix.EINPROGRESS) {
			return nil
		}
		return err
	})
	t.Cleanup(func() { unix.Close(client) })
	scratch.Eventually(t, "a SYN is sent", func() bool { return p.arrived() > 0 })
	if _, err := p.session().Apply(context.Background(), slips[0].a); err != nil {
		t.Fatal(err)
	}
	before := p.arrived()
	answered := []unix.PollFd{{Fd: int32(client), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(answered, 20_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n != 1 {
			t.Fatalf("no proxy answers the SYN that is sent again: %v", err)
		}
		break
	}
	if n := p.arrived() - before; n > 0 {
		t.Errorf("%d SYNs were sent past the proxy again", n)
	}
}

// TestAnothersRuleIsNoTracking: a rule that another program put into the former table, of which it is not known what it
// needs, does not keep what has ended from being forgotten.
func TestAnothersRuleIsNoTracking(t *testing.T) {
	p := newPath(t)
	s := p.session()
	if _, err := s.Apply(context.Background(), byMark()); err != nil {
		t.Fatal(err)
	}
	p.nft("add chain inet " + tableName + " more; add rule inet " + tableName + " more quota over 10 mbytes")
	from, to := netip.MustParseAddrPort("10.50.1.1:40200"), netip.MustParseAddrPort("10.200.1.1:80")
	p.remembered(from, to, "ESTABLISHED")
	if _, err := s.Apply(context.Background(), slips[0].a); err != nil {
		t.Fatal(err)
	}
	p.takes(from, to)
}
