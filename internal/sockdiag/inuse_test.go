// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sockdiag

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/scratch"
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

// TestNoTCPHere: the kernel counts every socket that it lists, and what is not known to
// have none is not taken for it.
func TestNoTCPHere(t *testing.T) {
	n, err := scratch.NewNamespace()
	if errors.Is(err, fs.ErrPermission) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	check := func(want bool, why string) {
		t.Helper()
		if got := NoTCPHere(); got != want {
			t.Errorf("%s: it has none: %t", why, got)
		}
		sockets, err := nl.Open(0, unix.NETLINK_SOCK_DIAG)
		if err != nil {
			t.Fatal(err)
		}
		defer nl.Close(sockets...)
		listed, err := TCP(t.Context(), sockets[0])
		if err != nil || len(listed) == 0 != want {
			t.Errorf("%s: %d sockets are listed, %v", why, len(listed), err)
		}
	}
	err = n.Do(func() error {
		check(true, "a namespace without sockets")
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		check(false, "a listener")
		return l.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}
