// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nl

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// These dump what every namespace has, which takes no privilege.

func dumpRequest(typ uint16) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(typ), Flags: netlink.Request | netlink.Dump},
		Data:   make([]byte, unix.SizeofIfInfomsg),
	}
}

func openRoute(t *testing.T) *Socket {
	t.Helper()
	sockets, err := Open(0, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Close(sockets...); err != nil {
			t.Error(err)
		}
	})
	return sockets[0]
}

func count(ctx context.Context, s *Socket, typ uint16) (n int, err error) {
	return n, s.Execute(ctx, dumpRequest(typ), func(netlink.Message) error { n++; return nil })
}

// TestGivenUp: a dump that is not read to its end is passed over by the next,
// which the kernel would refuse else.
func TestGivenUp(t *testing.T) {
	s := openRoute(t)
	whole, err := count(t.Context(), s, unix.RTM_GETADDR)
	if err != nil || whole == 0 {
		t.Skipf("no addresses to dump: %v", err)
	}
	enough := errors.New("enough")
	for _, tt := range []struct {
		why    string
		giveUp func() error
		want   error
	}{
		{"a visit fails", func() error {
			return s.Execute(t.Context(), dumpRequest(unix.RTM_GETADDR), func(netlink.Message) error { return enough })
		}, enough},
		{"the context ends between two parts", func() error {
			ctx, stop := context.WithCancel(t.Context())
			return s.Execute(ctx, dumpRequest(unix.RTM_GETADDR), func(netlink.Message) error { stop(); return nil })
		}, context.Canceled},
	} {
		if err := tt.giveUp(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.why, err)
		}
		if !s.halfRead {
			t.Errorf("%s: the dump has ended", tt.why)
		}
		if n, err := count(t.Context(), s, unix.RTM_GETADDR); err != nil || n != whole {
			t.Errorf("%s: then %d addresses of %d, %v", tt.why, n, whole, err)
		}
	}
}

// TestTruncated: what does not fit is told, and fits the next time.
func TestTruncated(t *testing.T) {
	s := openRoute(t)
	whole, err := count(t.Context(), s, unix.RTM_GETLINK)
	if err != nil || whole == 0 {
		t.Skipf("no links to dump: %v", err)
	}
	s.part = make([]byte, 64)
	if _, err := count(t.Context(), s, unix.RTM_GETLINK); !errors.Is(err, ErrTruncated) {
		t.Errorf("an answer that does not fit: %v", err)
	}
	for range 8 { // each time there is room for what did not fit
		n, err := count(t.Context(), s, unix.RTM_GETLINK)
		if errors.Is(err, ErrTruncated) {
			continue
		}
		if err != nil || n != whole {
			t.Errorf("then %d links of %d, %v", n, whole, err)
		}
		return
	}
	t.Error("it never fits")
}

// TestNamespace opens a socket elsewhere, and the thread stays where it was.
func TestNamespace(t *testing.T) {
	ns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Skip(err)
	}
	defer ns.Close()
	before, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := Open(int(ns.Fd()), unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPERM) {
		t.Skipf("a namespace cannot be entered: %v", err)
	}
	if err != nil || len(sockets) != 2 {
		t.Fatalf("%d sockets, %v", len(sockets), err)
	}
	if err := Close(sockets...); err != nil {
		t.Error(err)
	}
	if after, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || after != before {
		t.Errorf("the thread is in %s, %v; it was in %s", after, err, before)
	}
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := Open(int(file.Fd()), unix.NETLINK_ROUTE); !errors.Is(err, unix.EINVAL) {
		t.Errorf("no namespace: %v", err)
	}
}
