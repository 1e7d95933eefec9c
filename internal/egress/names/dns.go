// SPDX-License-Identifier: Apache-2.0

package names

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	dnsPort  = 53
	maxAsked = 8192 // questions without an answer
	maxAddrs = 64   // of an answer
	maxEarly = 5 * time.Second
)

// Answer is what DNS said of a name.
type Answer struct {
	Name      string
	Addresses []netip.Addr
}

// question is one that was asked: its answer comes from there, to here, with that id.
type question struct {
	client, server netip.AddrPort
	proto          uint8
	id             uint16
	name           string
	typ            dnsmessage.Type
}

// dns reads a question or an answer.
func (r *Reader) dns(p Packet, now time.Time) {
	message := p.Data
	if p.Proto == protoTCP { // behind its length (RFC 1035, section 4.2.2)
		if len(message) < 2 || len(message)-2 < int(binary.BigEndian.Uint16(message)) {
			r.Counts.Incomplete++
			return
		}
		message = message[2 : 2+int(binary.BigEndian.Uint16(message))]
	}
	var parser dnsmessage.Parser
	header, err := parser.Start(message)
	if err != nil {
		r.Counts.Malformed++
		return
	}
	asked, err := parser.Question()
	if err != nil {
		r.Counts.Malformed++
		return
	}
	q := question{p.Src, p.Dst, p.Proto, header.ID, canonical(asked.Name.String()), asked.Type}
	if !header.Response {
		if len(r.asked) >= maxAsked {
			r.expire(now)
		}
		if len(r.asked) < maxAsked {
			r.asked[q] = now
		}
		return
	}
	q.client, q.server = p.Dst, p.Src
	if _, known := r.asked[q]; !known {
		if now.Sub(r.first) > maxEarly { // else it may have been asked for before
			r.Counts.Unasked++
		}
		return
	}
	delete(r.asked, q)
	if err := parser.SkipAllQuestions(); err != nil {
		r.Counts.Malformed++
		return
	}
	r.Counts.Answers++
	if a := (Answer{q.name, addressesOf(q.name, &parser)}); len(a.Addresses) > 0 {
		r.told(a)
	}
}

// addressesOf are the addresses that answers give to a name, by the names that they say it
// stands for: of another name they say nothing.
func addressesOf(name string, parser *dnsmessage.Parser) (out []netip.Addr) {
	names := map[string]bool{name: true}
	for len(out) < maxAddrs {
		h, err := parser.AnswerHeader()
		if err != nil {
			return out
		}
		owner := names[canonical(h.Name.String())]
		switch {
		case owner && h.Type == dnsmessage.TypeA:
			if a, err := parser.AResource(); err == nil {
				out = append(out, netip.AddrFrom4(a.A))
				continue
			}
		case owner && h.Type == dnsmessage.TypeAAAA:
			if a, err := parser.AAAAResource(); err == nil {
				out = append(out, netip.AddrFrom16(a.AAAA))
				continue
			}
		case owner && h.Type == dnsmessage.TypeCNAME:
			if c, err := parser.CNAMEResource(); err == nil {
				names[canonical(c.CNAME.String())] = true
				continue
			}
		}
		if parser.SkipAnswer() != nil {
			return out
		}
	}
	return out
}
