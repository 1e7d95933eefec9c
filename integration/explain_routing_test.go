// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExplainFollowsRouting: by which interface a packet leaves and from which
// address, explain tells as the kernel does it, whatever the policy rules say.
func TestExplainFollowsRouting(t *testing.T) {
	t.Parallel()
	program := newCLI(t)
	for _, tt := range []struct {
		why   string
		setup []string
		mark  int
		to    netip.Addr
	}{
		{"a rule that is inverted takes what it does not name", []string{"rule add not fwmark 0x51 table 100 priority 500"}, 0, far},
		{"and what it names it leaves", []string{"rule add not fwmark 0x51 table 100 priority 500"}, 0x51, far},
		{"a throw route goes on with the next rule", []string{"route add throw 203.0.113.0/24 table 100", "rule add table 100 priority 500"}, 0, far},
		{"a connection's route is looked up again, from its address", []string{"rule add from 192.0.2.2 table 100 priority 500"}, 0, far},
		{"the source is of the gateway's subnet", []string{"address add 198.18.0.2/24 dev eth0", "route replace default via 198.18.0.1"}, 0, far},
		{"a nexthop object says the interface", []string{"nexthop add id 7 via 198.51.100.1 dev eth1", "route add 203.0.113.0/24 nhid 7"}, 0, far},
		{"no address is this host", nil, 0, netip.IPv4Unspecified()},
		{"no connection is opened to a multicast address", nil, 0, netip.MustParseAddr("224.0.0.1")},
		{"nor to a broadcast address", nil, 0, netip.MustParseAddr("192.0.2.255")},
	} {
		c := program.elsewhere(t)
		for _, command := range append([]string{
			"link add eth0 type veth peer name away0", "link add eth1 type veth peer name away1",
			"address add 192.0.2.2/24 dev eth0", "address add 198.51.100.2/24 dev eth1",
			"link set eth0 up", "link set away0 up", "link set eth1 up", "link set away1 up",
			"route add default via 192.0.2.1", "route add default via 198.51.100.1 table 100",
		}, tt.setup...) {
			c.ip(command)
		}
		to := netip.AddrPortFrom(tt.to, 443)
		answer := c.run("explain", "--live", "--mark", fmt.Sprint(tt.mark), "tcp", to.String())
		from, out := c.opened(to, tt.mark)
		if !from.IsValid() {
			answer.want(t, 0).prints(t, "lost: network is unreachable")
			continue
		}
		fate := "leaves by " + out
		if out == "lo" {
			fate = "delivered to 127.0.0.1:443"
		}
		answer.want(t, 0)
		if !strings.Contains(answer.out, fmt.Sprintf("tcp %s -> ", from)) || !strings.Contains(answer.out, fate) {
			t.Errorf("%s: it came from %s by %s, and explain says\n%s", tt.why, from, out, answer.out)
		}
	}
}

var far = netip.MustParseAddr("203.0.113.7")

// opened opens a connection, and tells the address that the kernel gave it and the
// interface that its first packet left by; no address where the network is
// unreachable.
func (c *cli) opened(to netip.AddrPort, mark int) (from netip.Addr, out string) {
	c.Helper()
	c.nft(`table ip seen {
	counter lo { }
	counter eth0 { }
	counter eth1 { }
	chain postrouting {
		type filter hook postrouting priority 0
		tcp flags == syn counter name meta oifname map { "lo" : "lo", "eth0" : "eth0", "eth1" : "eth1" }
	}
}`)
	c.do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
			return err
		}
		switch err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); {
		case errors.Is(err, unix.ENETUNREACH):
			return nil
		case !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.ECONNREFUSED):
			return fmt.Errorf("connect to %s: %w", to, err)
		}
		local, err := unix.Getsockname(fd)
		if err == nil {
			from = netip.AddrFrom4(local.(*unix.SockaddrInet4).Addr)
		}
		return err
	})
	for _, link := range []string{"lo", "eth0", "eth1"} {
		if strings.Contains(c.must("", "nft", "list", "counter", "ip", "seen", link), "packets 1 ") {
			out = link
		}
	}
	c.nft("delete table ip seen")
	return from, out
}
