// SPDX-License-Identifier: Apache-2.0

//go:build linux

package trace

import (
	"strconv"
	"strings"
	"time"

	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// Packet is a packet's path through the chains, until it is queued somewhere or
// leaves.
type Packet struct {
	Number      int       `json:"packet"`
	Time        time.Time `json:"time"`
	Again       bool      `json:"again"` // it matched before and comes back, over lo for example
	Protocol    string    `json:"protocol"`
	Source      string    `json:"source"`
	Destination string    `json:"destination"`
	Flags       string    `json:"flags,omitempty"`
	Length      int       `json:"length"`
	In          string    `json:"in,omitempty"`
	Out         string    `json:"out,omitempty"`
	Mark        uint32    `json:"mark,omitempty"`
	UID         *uint32   `json:"uid,omitempty"` // of the socket here that sends it; nil: none, or it has ended
	Steps       []Step    `json:"steps"`

	id      uint32
	met     bool // the end of the trace's own chain
	ports   bool // its protocol has them
	unasked bool // it is beyond the number asked for, or another program's
	last    time.Time
}

// Step is a rule that the packet matched, or the policy of a chain.
type Step struct {
	Family  string `json:"family"`
	Table   string `json:"table"`
	Chain   string `json:"chain"`
	Foreign bool   `json:"foreign"`        // the table is not weir's
	Rule    int    `json:"rule,omitempty"` // from 1; 0 for a policy, or for a rule that is gone
	Reason  string `json:"reason,omitempty"`
	Text    string `json:"text,omitempty"`
	Verdict string `json:"verdict"`
}

// describe takes from a notification what it says of the packet itself; the first
// that says something holds.
func (p *Packet) describe(e nft.TraceEvent, links map[int]string) {
	if h := e.Packet; h.Known() && p.Source == "" {
		p.Protocol = rules.L4Proto.Type().Format(rules.RangeOf(h.Proto).Lo)
		p.Source, p.Destination = h.Src.String(), h.Dst.String()
		p.ports = h.Src.Port() != 0 || h.Dst.Port() != 0
		if h.Src.Port() == 0 && h.Dst.Port() == 0 {
			p.Source, p.Destination = h.Src.Addr().String(), h.Dst.Addr().String()
		}
		p.Flags, p.Length = tcpFlags(h.TCPFlags), h.Length
	}
	if p.In == "" {
		p.In = linkName(e.IIf, links)
	}
	if p.Out == "" {
		p.Out = linkName(e.OIf, links)
	}
	if e.Mark != 0 {
		p.Mark = e.Mark
	}
}

// connection tells connections apart, by either side's packets.
func (p *Packet) connection() string {
	return p.Protocol + " " + min(p.Source, p.Destination) + " " + max(p.Source, p.Destination)
}

func linkName(index uint32, links map[int]string) string {
	if index == 0 {
		return ""
	}
	if name, ok := links[int(index)]; ok {
		return name
	}
	return "interface " + strconv.FormatUint(uint64(index), 10)
}

func tcpFlags(flags uint8) string {
	var words []string
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"} {
		if flags&(1<<i) != 0 {
			words = append(words, name)
		}
	}
	return strings.Join(words, " ")
}
