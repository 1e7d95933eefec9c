// SPDX-License-Identifier: Apache-2.0

//go:build linux

package answer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// ErrNoUpstream is that no server is known to pass queries on to.
var ErrNoUpstream = errors.New("no upstream DNS server is known")

// forward passes a query on, and the answer back.
func (s *Server) forward(ctx context.Context, query []byte, network string) ([]byte, error) {
	if len(s.Upstream) == 0 {
		return nil, ErrNoUpstream
	}
	var wrong []error
	for _, server := range s.Upstream {
		answer, err := s.ask(ctx, query, network, server)
		if err == nil {
			return answer, nil
		}
		wrong = append(wrong, fmt.Errorf("upstream %s: %w", server, err))
	}
	return nil, errors.Join(wrong...)
}

// ask asks one server, and takes its answer to this very question: anything else is another's.
func (s *Server) ask(ctx context.Context, query []byte, network string, server netip.AddrPort) ([]byte, error) {
	dialer := net.Dialer{Control: s.Options.Control, Timeout: patience}
	conn, err := dialer.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if network == "tcp" {
		if err := writeFramed(conn, query); err != nil {
			return nil, err
		}
		answer, err := readFramed(conn)
		if err == nil && !answers(query, answer) {
			err = errors.New("it answered another question")
		}
		return answer, err
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	for b := make([]byte, maxMessage); ; {
		n, err := conn.Read(b)
		if err != nil {
			return nil, err
		}
		if answers(query, b[:n]) {
			return b[:n], nil
		}
	}
}

// answers reports whether a message answers a query: it has its number and its question.
func answers(query, answer []byte) bool {
	var p, a dnsmessage.Parser
	asked, err := p.Start(query)
	if err != nil {
		return false
	}
	head, err := a.Start(answer)
	if err != nil || !head.Response || head.ID != asked.ID {
		return false
	}
	q, err := p.Question()
	if err != nil {
		return false
	}
	same, err := a.Question()
	if err != nil { // a refusal may come without it
		return head.RCode != dnsmessage.RCodeSuccess
	}
	return same.Type == q.Type && same.Class == q.Class && strings.EqualFold(same.Name.String(), q.Name.String())
}
