// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"github.com/weir-mesh/weir/sim/packet"
)

// Request is a packet as people and programs write it.
type Request struct {
	Packet string  `json:"packet"`           // protocol and destination, as [packet.Parse] reads them: "tcp 10.0.0.1:443"
	In     string  `json:"in,omitempty"`     // the interface that it arrives on; "": it is sent from this host
	From   string  `json:"from,omitempty"`   // its source, "ADDRESS" or "ADDRESS:PORT"; "": what the host gives it
	Device string  `json:"device,omitempty"` // the interface that its socket is bound to; "": that of its destination's zone (fe80::1%eth0), or none
	UID    *uint32 `json:"uid,omitempty"`    // the user that opened its socket; nil: 0
	GID    *uint32 `json:"gid,omitempty"`    // the group; nil: 0
	Mark   string  `json:"mark,omitempty"`   // its packet mark, "0x539"
	State  string  `json:"state,omitempty"`  // its state in conntrack: new, established, related, invalid, untracked; "": new
	CTMark string  `json:"ctMark,omitempty"` // the mark of its connection, which makes it established where State is ""
}

// Parse is the packet of a request. The error says everything that is wrong with it.
func (r Request) Parse() (sim.Packet, error) {
	var p sim.Packet
	var errs []error
	problem := func(err error) { errs = append(errs, err) }
	pattern, err := packet.Parse(r.Packet)
	if err == nil {
		p, err = pattern.One()
	}
	problem(err)
	parsed := err == nil
	p.In = r.In
	if r.In != "" && !isInterface(r.In) {
		problem(fmt.Errorf("%q is not an interface name (want at most %d bytes)", r.In, rules.MaxIfName))
	}
	if p.In == "" {
		p.Socket = &sim.Socket{Proto: p.Proto}
		if r.UID != nil {
			p.Socket.UID = rules.UID(*r.UID)
		}
		if r.GID != nil {
			p.Socket.GID = rules.GID(*r.GID)
		}
	} else if r.UID != nil || r.GID != nil {
		problem(fmt.Errorf("a packet that arrives on %s has no owner here", escape.Text(r.In)))
	}
	problem(r.bind(&p))
	p.Src, err = parseSource(r.From)
	problem(err)
	if r.In != "" && r.From == "" {
		problem(fmt.Errorf("a packet that arrives on %s needs a source address", escape.Text(r.In)))
	}
	if err == nil && parsed && p.Src.Addr().IsValid() && p.Src.Addr().Is4() != p.Dst.Addr().Is4() {
		problem(fmt.Errorf("%s and %s are of two families", p.Src.Addr(), p.Dst.Addr()))
	}
	p.Mark, err = parseMark(r.Mark)
	problem(err)
	p.CTMark, err = parseMark(r.CTMark)
	problem(err)
	p.State, err = parseCTState(r.State)
	problem(err)
	if r.CTMark != "" && p.State == 0 {
		p.State = rules.CTEstablished
	}
	return p, errors.Join(errs...)
}

// bind gives the packet the interface that its socket is bound to.
func (r Request) bind(p *sim.Packet) error {
	switch {
	case r.Device != "" && !isInterface(r.Device):
		return fmt.Errorf("%q is not an interface name (want at most %d bytes)", r.Device, rules.MaxIfName)
	case r.Device != "" && r.In != "":
		return fmt.Errorf("a packet that arrives on %s has no socket here that is bound to %s", escape.Text(r.In), escape.Text(r.Device))
	case r.Device != "" && p.Device != "" && p.Device != r.Device:
		return fmt.Errorf("its destination is on %s, and its socket bound to %s", escape.Text(p.Device), escape.Text(r.Device))
	case r.In != "":
		p.Device = "" // of a destination here
	case r.Device != "":
		p.Device = r.Device
	}
	return nil
}

const ephemeralPort = 40000 // of a source without a port

// isInterface reports whether an interface may have the name, as far as its length
// tells.
func isInterface(name string) bool { return name != "" && len(name) <= rules.MaxIfName }

func parseSource(text string) (netip.AddrPort, error) {
	if text == "" {
		return netip.AddrPortFrom(netip.Addr{}, ephemeralPort), nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" && !a.Is4In6() {
		return netip.AddrPortFrom(a, ephemeralPort), nil
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil || a.Addr().Zone() != "" || a.Addr().Is4In6() {
		return netip.AddrPort{}, fmt.Errorf("%q is not a source address (want such as 203.0.113.7 or 203.0.113.7:40000)", text)
	}
	return a, nil
}

func parseMark(text string) (rules.Mark, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a mark (want such as 0x539)", text)
	}
	return rules.Mark(n), nil
}

func parseCTState(text string) (rules.CTState, error) {
	states := map[string]rules.CTState{"": 0, "new": 0, "established": rules.CTEstablished, "related": rules.CTRelated,
		"invalid": rules.CTInvalid, "untracked": rules.CTUntracked}
	s, known := states[text]
	if !known {
		return 0, fmt.Errorf("%q is not a connection state (want new, established, related, invalid or untracked)", text)
	}
	return s, nil
}
