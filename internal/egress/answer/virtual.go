// SPDX-License-Identifier: Apache-2.0

//go:build linux

package answer

import (
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// virtual answers for a name with virtual addresses. Of other types than addresses it has nothing, which is not the same
// as no such name.
func (s *Server) virtual(head dnsmessage.Header, q dnsmessage.Question, four, six netip.Addr) []byte {
	var body dnsmessage.ResourceBody
	switch {
	case q.Type == dnsmessage.TypeA && four.IsValid():
		body = &dnsmessage.AResource{A: four.As4()}
	case q.Type == dnsmessage.TypeAAAA && six.IsValid():
		body = &dnsmessage.AAAAResource{AAAA: six.As16()}
	default:
		return message(head, q, dnsmessage.RCodeSuccess, nil)
	}
	return message(head, q, dnsmessage.RCodeSuccess, []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: uint32(s.TTL / time.Second)}, Body: body}})
}

func message(head dnsmessage.Header, q dnsmessage.Question, code dnsmessage.RCode, answers []dnsmessage.Resource) []byte {
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: head.ID, Response: true, RecursionDesired: head.RecursionDesired, RecursionAvailable: true, RCode: code},
		Questions: []dnsmessage.Question{q}, Answers: answers}
	b, err := m.Pack()
	if err != nil {
		return nil // of a question that cannot be packed again
	}
	return b
}
