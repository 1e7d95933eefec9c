//go:build linux

package nft

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func TestNoneInUse(t *testing.T) {
	for _, tt := range []struct {
		why, text string
		want      bool
	}{
		{"none", "sockets: used 3\nTCP: inuse 0 orphan 0 tw 4 alloc 2 mem 0\n", true},
		{"some", "TCP: inuse 12 orphan 0 tw 0 alloc 2 mem 0\n", false},
		{"the number ends the line, as for IPv6", "TCP: inuse 0\nUDP6: inuse 1\n", true},
		{"no such line", "UDP: inuse 0 mem 0\n", false},
		{"no number", "TCP: inuse x\n", false},
	} {
		path := filepath.Join(t.TempDir(), "sockstat")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := noneInUse(path, "TCP: inuse ", false); got != tt.want {
			t.Errorf("%s: %t", tt.why, got)
		}
	}
	if noneInUse("/nowhere", "TCP: inuse ", false) || !noneInUse("/nowhere", "TCP6: inuse ", true) {
		t.Error("a file that is not there tells nothing, but that there is no IPv6")
	}
}

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
	c.own = namespaceID{}
	if c.noTCP() {
		t.Error("a connection to an unknown namespace is certain of what is there")
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/1/ns/net", &st); err == nil {
		c.own = namespaceID{st.Dev, st.Ino}
		if c.noTCP() {
			t.Error("the thread is in another namespace")
		}
	}
}
