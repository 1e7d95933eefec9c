// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sendTimeout is shorter than the first retransmission of a SYN.
const sendTimeout = 400 * time.Millisecond

func serve(t testing.TB, ns *Namespace, l Listeners) {
	t.Helper()
	s, err := l.Serve(t.Context(), ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func send(t testing.TB, ns *Namespace, p Probe) string {
	t.Helper()
	fate, err := p.Send(t.Context(), ns, sendTimeout)
	if err != nil {
		t.Fatal(err)
	}
	return fate.String()
}

// joined is two namespaces, a with 192.0.2.1 and 2001:db8::1, and b with .2 and ::2, joined by links
// of their names.
func joined(t testing.TB) (a, b *Namespace) {
	t.Helper()
	a, b = ForTest(t), ForTest(t)
	Must(t, Veth(a, "a", b, "b"))
	prefix := netip.MustParsePrefix
	Must(t,
		a.AddAddress("a", prefix("192.0.2.1/24")), a.AddAddress("a", prefix("2001:db8::1/64")), a.Up("a"),
		b.AddAddress("b", prefix("192.0.2.2/24")), b.AddAddress("b", prefix("2001:db8::2/64")), b.Up("b"),
	)
	return a, b
}

// await waits for the link to a UDP listener to carry packets of both families.
func await(t testing.TB, ns *Namespace, port uint16, to ...string) {
	t.Helper()
	for _, dst := range to {
		Must(t, Probe{Proto: "udp", Dst: netip.MustParseAddr(dst), DPort: port}.Await(t.Context(), ns))
	}
}

// id is what the kernel calls the namespace that a file stands for.
func id(t testing.TB, path string) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(path, err)
	}
	return stat.Ino
}
