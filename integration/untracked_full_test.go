// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// fillConntrack fills the table of the pod's namespace with assured entries, which none that is new
// displaces, and returns how many there are. The limit is the machine's, but each namespace has it for
// itself.
func (p *realPod) fillConntrack() (entries int) {
	p.Helper()
	err := p.pod.Do(func() error {
		text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
		if err != nil {
			return err
		}
		limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return err
		}
		c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		for entries < limit {
			var batch []netlink.Message
			for range min(100, limit-entries) {
				batch = append(batch, conntrackEntry(uint32(entries)))
				entries++
			}
			if _, err := c.SendMessages(batch); err != nil {
				return err
			}
		}
		if text, err = os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count"); err == nil && strings.TrimSpace(string(text)) != strconv.Itoa(limit) {
			err = fmt.Errorf("the table has %s entries of %d", strings.TrimSpace(string(text)), limit)
		}
		return err
	})
	if err != nil {
		p.Fatal(err)
	}
	return entries
}

// conntrackEntry makes an entry of a UDP flow (linux/netfilter/nfnetlink_conntrack.h).
func conntrackEntry(number uint32) netlink.Message {
	const (
		tupleOrig, tupleReply, status, timeout = 1, 2, 3, 7
		seenReply, assured, confirmed          = 1 << 1, 1 << 2, 1 << 3
	)
	a := netip.AddrFrom4([4]byte{10, byte(number >> 16), byte(number >> 8), byte(number)})
	b := netip.AddrFrom4([4]byte{172, 16, 0, 1})
	tuple := func(from, to netip.Addr, fromPort, toPort uint16) func(*netlink.AttributeEncoder) error {
		return func(e *netlink.AttributeEncoder) error {
			e.ByteOrder = binary.BigEndian
			e.Nested(1, func(e *netlink.AttributeEncoder) error {
				e.Bytes(1, from.AsSlice())
				e.Bytes(2, to.AsSlice())
				return nil
			})
			e.Nested(2, func(e *netlink.AttributeEncoder) error {
				e.ByteOrder = binary.BigEndian
				e.Uint8(1, unix.IPPROTO_UDP)
				e.Uint16(2, fromPort)
				e.Uint16(3, toPort)
				return nil
			})
			return nil
		}
	}
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	e.Nested(tupleOrig, tuple(a, b, 1000, 2000))
	e.Nested(tupleReply, tuple(b, a, 2000, 1000))
	e.Uint32(status, seenReply|assured|confirmed)
	e.Uint32(timeout, 3600)
	data, err := e.Encode()
	if err != nil {
		panic(err) // it has no variable part
	}
	return netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_CTNETLINK << 8, Flags: netlink.Request | netlink.Create | netlink.Excl},
		Data:   append([]byte{unix.AF_INET, 0, 0, 0}, data...),
	}
}

// TestUntrackedFullTable has the pod's table of connections full to its last entry: with connection
// tracking nothing new gets through, and without it everything does, both ways, whether or not
// a table of another program tracks.
func TestUntrackedFullTable(t *testing.T) {
	if !soak {
		t.Skip("fills a table of connections (WEIR_SOAK=1)")
	}
	const requests = 2000
	p := newRealPod(t)
	p.untracked(untrackedConfig)
	ways := p.untrackedWays()
	entries := p.fillConntrack()
	for _, tracks := range []string{"", "table inet tracks { chain c { type filter hook input priority 0; ct state invalid counter; }; }"} {
		if tracks != "" {
			p.nft(tracks)
		}
		for _, w := range ways {
			t.Run(fmt.Sprintf("%s, tracked by another: %t", w.name, tracks != ""), func(t *testing.T) { w.send(t, requests) })
		}
	}
	p.nft("delete table inet tracks")
	p.ok("remove")
	p.feed("mode: sidecar\nproxy: {uids: [1337]}\n", "apply", "-f", "-").want(t, 0)
	var group sync.WaitGroup
	var through atomic.Int64
	for _, w := range ways {
		for i := range 5 {
			group.Go(func() {
				var from netip.Addr
				if w.load.from != nil {
					from = w.load.from(i)
				}
				conn, err := dialAs(w.load.in, w.load.uid, w.load.gid, from, w.load.to(i))
				if err == nil {
					through.Add(1)
					conn.Close()
				} else if !errors.Is(err, os.ErrDeadlineExceeded) && !strings.Contains(err.Error(), "timeout") {
					t.Errorf("%s, tracked: %v, want a timeout", w.name, err)
				}
			})
		}
	}
	group.Wait()
	if through.Load() > 0 {
		t.Errorf("with connection tracking %d connections got through: the table is not full", through.Load())
	}
	t.Logf("%d entries", entries)
}
