// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"net"
	"os"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/scratch"
)

// TestNoTCP: the kernel counts every socket that an apply must know of.
func TestNoTCP(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	c := dialKernel(t)
	list := func(want bool, why string) {
		t.Helper()
		asked := false
		c.diag.Asked = func(netlink.Message) { asked = true }
		defer func() { c.diag.Asked = nil }()
		if got := c.noTCP(); got != want {
			t.Errorf("%s: there is none: %t", why, got)
		}
		sockets, err := c.tcpSockets(t.Context())
		if err != nil || asked == want || len(sockets) > 0 == want {
			t.Errorf("%s: %d sockets, asked %t, %v", why, len(sockets), asked, err)
		}
	}
	list(true, "a namespace without sockets")
	for _, network := range []string{"tcp4", "tcp6"} {
		l, err := net.Listen(network, "")
		if err != nil {
			t.Skip(err)
		}
		list(false, network+" listens")
		a, err := net.Dial(network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		list(false, network+" is open, and nothing listens")
		a.Close()
		list(false, network+" is half closed by a socket without owner")
		b.Close()
	}
	from, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	elsewhere, err := scratch.NewNamespace()
	if err != nil {
		t.Skip(err)
	}
	defer elsewhere.Close()
	l, err := net.Listen("tcp4", "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = elsewhere.Do(func() error {
		c, err := Open(int(from.Fd()))
		if err != nil {
			return err
		}
		defer c.Close()
		if sockets, err := c.tcpSockets(t.Context()); err != nil || len(sockets) == 0 {
			t.Errorf("from a thread in a namespace without sockets another's are not seen: %v, %v", sockets, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
