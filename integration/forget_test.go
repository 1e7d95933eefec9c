// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// remembered has connection tracking know a TCP connection, by conntrack(8)'s words for its state and for what is
// translated.
func (n *namespace) remembered(from, to netip.AddrPort, state string, more ...string) {
	n.Helper()
	n.must("", tool(n, "conntrack", "conntrack"), append([]string{"-I", "-p", "tcp", "-s", from.Addr().String(), "-d", to.Addr().String(),
		"--sport", strconv.Itoa(int(from.Port())), "--dport", strconv.Itoa(int(to.Port())), "-t", "600", "--state", state, "-u", "SEEN_REPLY,ASSURED"}, more...)...)
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
				p.do(func() error {
					if err := connectBetween(from, to); err != nil && !errors.Is(err, unix.ECONNRESET) {
						return fmt.Errorf("the proxy did not take it: %w", err)
					}
					return nil
				})
				if n := p.arrived(); n > 0 {
					t.Errorf("%d packets reached the destination", n)
				}
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

// TestBridgedConnectionsOfAZoneGoOn: what the namespace bridges in a zone of its own may have addresses that are also the
// namespace's; its connections are no sockets here, and live.
func TestBridgedConnectionsOfAZoneGoOn(t *testing.T) {
	host, client, server := newNamespace(t), newNamespace(t), newNamespace(t)
	host.ip("link set lo up")
	host.ip("addr add 192.0.2.1/32 dev lo")
	host.ip("link add br0 type bridge")
	host.ip("link set br0 up")
	for i, n := range []*namespace{client, server} {
		port := "port" + strconv.Itoa(i)
		host.ip("link add " + port + " type veth peer name eth0 netns /proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(n.file.Fd())))
		host.ip("link set " + port + " master br0 up")
		n.ip("link set eth0 up")
		n.ip(fmt.Sprintf("addr add 192.0.2.%d/24 dev eth0", i+1))
	}
	if err := host.try(func() error {
		return os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1"), 0)
	}); err != nil {
		t.Skipf("bridges are not filtered (br_netfilter): %v", err)
	}
	host.nft(`
		add table inet tenant
		add chain inet tenant zone { type filter hook prerouting priority -300; }
		add rule inet tenant zone iifname br0 ct zone set 5
		add chain inet tenant forward { type filter hook forward priority 0; policy drop; }
		add rule inet tenant forward ct state established accept
		add rule inet tenant forward tcp flags & (syn | ack) == syn accept
	`)
	var listener, sends, receives int
	server.do(func() (err error) { listener, err = listenTransparent(); return err })
	t.Cleanup(func() { unix.Close(listener) })
	client.do(func() (err error) {
		if sends, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(unix.SetsockoptTimeval(sends, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 3}),
			unix.Connect(sends, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 2}, Port: int(outboundPort)}))
	})
	t.Cleanup(func() { unix.Close(sends) })
	receives, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(receives) })
	if _, err := host.session().Apply(context.Background(), slips[0].a); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(sends, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(receives, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Read(receives, make([]byte, 8)); n != 1 {
		t.Errorf("the connection does not go on: %v", err)
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
	p.do(func() error {
		if err := connectBetween(from, to); err != nil && !errors.Is(err, unix.ECONNRESET) {
			return fmt.Errorf("the proxy did not take it: %w", err)
		}
		return nil
	})
	if n := p.arrived(); n > 0 {
		t.Errorf("%d packets reached the destination", n)
	}
}
