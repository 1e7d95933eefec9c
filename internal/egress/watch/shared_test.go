// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"net/netip"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/egress/names"
	"github.com/weir-mesh/weir/internal/sockdiag"
	"github.com/weir-mesh/weir/rules"
)

var (
	shop = netip.MustParseAddrPort("203.0.113.2:443")
	pod1 = netip.MustParseAddr("192.0.2.1")
)

func named(s *shared, port uint16, name string) sockdiag.Ends {
	at := sockdiag.Ends{Local: netip.AddrPortFrom(pod1, port), Remote: shop}
	s.claim(names.Claim{Tuple: names.Tuple{Proto: uint8(rules.TCP), Src: at.Local, Dst: at.Remote}, Name: name, By: names.BySNI}, "1000")
	return at
}

func socket(at sockdiag.Ends, cookie, sent, received uint64) sockdiag.Socket {
	return sockdiag.Socket{Ends: at, Cookie: cookie, Traffic: sockdiag.Traffic{Known: true, Sent: sent, Received: received}}
}

func (s *shared) ofShop(name string) share { return s.of(Destination{rules.TCP, shop, "1000"}, name) }

// TestEndsThatAreNotHeard: a connection that two lists in a row lack is over. What it was last
// seen to have moved stays.
func TestEndsThatAreNotHeard(t *testing.T) {
	s := newShared()
	at := named(s, 40000, "a.example")
	s.moved(socket(at, 1, 10, 20))
	for _, tt := range []struct {
		why  string
		open bool
		want int
	}{
		{"it is open", true, 1},
		{"one list lacks it", false, 1},
		{"the next has it again", true, 1},
		{"one list lacks it", false, 1},
		{"two lists lack it", false, 0},
	} {
		s.age(map[sockdiag.Ends]bool{at: tt.open})
		if len(s.flows) != tt.want {
			t.Errorf("%s: %d flows are remembered", tt.why, len(s.flows))
		}
	}
	if got, want := s.ofShop("a.example"), (share{1, 1, 10, 20}); got != want || s.Lost {
		t.Errorf("it moved %+v, counted %+v, lost %t", want, got, s.Lost)
	}
}

// TestNoRoomIsSaid: connections that have no room are said to be missing.
func TestNoRoomIsSaid(t *testing.T) {
	s := newShared()
	for i := range maxFlows {
		s.flows[sockdiag.Ends{Local: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1), Remote: shop}] = &flow{}
	}
	named(s, 1, "late.example")
	if len(s.flows) != maxFlows || !s.Lost {
		t.Errorf("%d flows, said %t", len(s.flows), s.Lost)
	}
	s = newShared()
	closed := make([]sockdiag.Socket, maxClosed+1)
	s.end(closed, time.Unix(1, 0))
	if len(s.early) != maxClosed || !s.Lost {
		t.Errorf("%d wait for their names, said %t", len(s.early), s.Lost)
	}
}

// TestAnotherConnectionOfAPort: its bytes do not begin where those of the last ended, and a name
// that comes after the end is in time for a while.
func TestAnotherConnectionOfAPort(t *testing.T) {
	s, now := newShared(), time.Unix(1, 0)
	at := named(s, 40000, "a.example")
	s.moved(socket(at, 1, 1000, 2000)) // its end is not heard
	named(s, 40000, "b.example")
	s.moved(socket(at, 2, 10, 20))
	s.end([]sockdiag.Socket{socket(at, 2, 11, 22)}, now)
	if a, b := s.ofShop("a.example"), s.ofShop("b.example"); a != (share{1, 0, 1000, 2000}) || b != (share{1, 1, 11, 22}) || len(s.flows) != 0 {
		t.Errorf("a: %+v, b: %+v, %d flows", a, b, len(s.flows))
	}
	s.end([]sockdiag.Socket{socket(at, 3, 5, 5)}, now)
	named(s, 40000, "c.example")
	s.end(nil, now.Add(time.Second))
	if c := s.ofShop("c.example"); c != (share{1, 1, 5, 5}) || len(s.flows) != 0 || len(s.early) != 0 {
		t.Errorf("c: %+v, %d flows, %d wait", c, len(s.flows), len(s.early))
	}
	s.end([]sockdiag.Socket{socket(at, 4, 7, 7)}, now)
	if s.end(nil, now.Add(2*nameWait)); len(s.early) != 0 {
		t.Errorf("%d wait for a name that does not come", len(s.early))
	}
}
