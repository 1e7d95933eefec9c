// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/rules"
)

// TestTraceCountsWhatIsLost: who does not read in time learns how much was lost.
func TestTraceCountsWhatIsLost(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	trace, err := StartTrace(t.Context(), 0, TraceOptions{
		Hooks: []rules.Hook{rules.Output}, Rate: 100_000,
		Match: []rules.Node{rules.Daddr.Is(netip.MustParsePrefix("127.0.0.0/8")), rules.UDPDport.Is(9)},
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("udp4", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	const sent = 20_000
	for range sent {
		_, _ = conn.Write(nil) // refused: nothing listens
	}
	var told int
	for {
		events, err := trace.Receive(time.Now().Add(200 * time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 && told > 0 {
			break
		}
		for _, e := range events {
			if e.Own && e.Handle != 0 {
				told++
			}
		}
	}
	lost, err := trace.Lost()
	if err != nil {
		t.Fatal(err)
	}
	matched, traced, err := trace.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d matched, %d traced, %d told, %d notifications lost", matched, sent, traced, told, lost)
	if matched == 0 || told >= int(traced) || lost == 0 {
		t.Errorf("%d matched, %d are traced, %d were told of, %d notifications are lost", matched, traced, told, lost)
	}
	if err := trace.Close(); err != nil {
		t.Error(err)
	}
	if left := nftList(t, "ruleset"); left != "" {
		t.Errorf("the trace left\n%s", left)
	}
}

func TestPacketHeader(t *testing.T) {
	v4 := []byte{0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 192, 0, 2, 7}
	tcp := []byte{0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0x02}
	v6 := append([]byte{0x60, 0, 0, 0, 0, 8, 17, 64}, append(netip.MustParseAddr("fd00::1").AsSlice(), netip.MustParseAddr("fd00::2").AsSlice()...)...)
	for _, tt := range []struct {
		why                string
		family             uint64
		network, transport []byte
		want               PacketHeader
	}{
		{"TCP over IPv4", 2, v4, tcp, PacketHeader{rules.TCP, netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("192.0.2.7:80"), 2, 60}},
		{"UDP over IPv6", 10, v6, tcp[:4], PacketHeader{rules.UDP, netip.MustParseAddrPort("[fd00::1]:40000"), netip.MustParseAddrPort("[fd00::2]:80"), 0, 48}},
		{"a header cut short", 2, v4[:19], tcp, PacketHeader{}},
		{"no transport", 2, v4, nil, PacketHeader{rules.TCP, netip.MustParseAddrPort("10.0.0.1:0"), netip.MustParseAddrPort("192.0.2.7:0"), 0, 60}},
		{"another family", 7, v4, tcp, PacketHeader{}},
	} {
		if got := packetHeader(tt.family, tt.network, tt.transport); got != tt.want {
			t.Errorf("%s: read %+v, want %+v", tt.why, got, tt.want)
		}
	}
}

// TestTraceCountsWhileOthersCommit: what others do to their tables is no matter.
func TestTraceCountsWhileOthersCommit(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	trace, err := StartTrace(t.Context(), 0, TraceOptions{Hooks: []rules.Hook{rules.Output}, Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	var manyChains strings.Builder // than one message of the kernel's holds
	for i := range 300 {
		fmt.Fprintf(&manyChains, "; add chain inet many c%d", i)
	}
	if err := nftLoad("add table inet many" + manyChains.String()); err != nil {
		t.Fatal(err)
	}
	other := &rules.Table{Name: "other", Chains: []*rules.Chain{{Name: "c"}}}
	addAndDelete := func(b *batch) {
		l := lower(b, other)
		l.addTable()
		l.addAll(other, nil)
		l.deleteTable()
	}
	whileAnother(t, 300, addAndDelete, func(*Conn) {
		if _, _, err := trace.Counts(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if err := trace.Close(); err != nil {
		t.Error(err)
	}
}
