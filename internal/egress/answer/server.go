// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package answer is a DNS server for names that have virtual addresses. Whatever else it is asked it passes on to other
// servers and back, byte for byte.
package answer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/weir-mesh/weir/proxy"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	maxMessage = 1 << 16
	maxAtOnce  = 1024             // queries; those that come besides are not answered, and asked again by their clients
	patience   = 2 * time.Second  // with one upstream server
	idle       = 10 * time.Second // of a connection over TCP
)

// Server answers queries. Its fields are not changed while it serves.
type Server struct {
	// Addresses are those of a name, without its last dot and in lower case; false: it is passed on. An address that is
	// not valid is one that the name does not have.
	Addresses func(name string) (ipv4, ipv6 netip.Addr, is bool)

	TTL      time.Duration
	Upstream []netip.AddrPort // asked one after the other
	Options  proxy.SocketOptions
	Failed   func(error) // told of queries that no upstream server answered; may be nil
}

// Serve answers queries to a port of every address, over UDP and TCP, until ctx is done; ready is called once it listens.
func (s *Server) Serve(ctx context.Context, port uint16, ready func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	defer all.Wait()
	slots := make(chan struct{}, maxAtOnce)
	for _, f := range []struct{ suffix, address string }{{"4", "0.0.0.0"}, {"6", "[::]"}} {
		lc := net.ListenConfig{Control: s.Options.Control}
		address := fmt.Sprintf("%s:%d", f.address, port)
		udp, err := lc.ListenPacket(ctx, "udp"+f.suffix, address)
		if err != nil && f.suffix == "6" {
			continue // the kernel has no IPv6
		}
		if err != nil {
			return err
		}
		tcp, err := lc.Listen(ctx, "tcp"+f.suffix, address)
		if err != nil {
			return errors.Join(err, udp.Close())
		}
		context.AfterFunc(ctx, func() { _, _ = udp.Close(), tcp.Close() })
		all.Go(func() { cancel(s.serveUDP(ctx, udp.(*net.UDPConn), f.suffix == "6", slots)) })
		all.Go(func() { cancel(s.serveTCP(ctx, tcp, slots)) })
	}
	ready()
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// datagrams are a socket that answers from the address that was asked: of a redirected query that is the address of an
// interface, and by it the kernel finds the way back.
type datagrams interface {
	read(b []byte) (n int, from net.Addr, asked net.IP, err error)
	write(b []byte, to net.Addr, asked net.IP) error
}

type datagrams4 struct{ *ipv4.PacketConn }

func (d datagrams4) read(b []byte) (int, net.Addr, net.IP, error) {
	n, c, from, err := d.ReadFrom(b)
	if c == nil {
		return n, from, nil, err
	}
	return n, from, c.Dst, err
}

func (d datagrams4) write(b []byte, to net.Addr, asked net.IP) error {
	_, err := d.WriteTo(b, &ipv4.ControlMessage{Src: asked}, to)
	return err
}

type datagrams6 struct{ *ipv6.PacketConn }

func (d datagrams6) read(b []byte) (int, net.Addr, net.IP, error) {
	n, c, from, err := d.ReadFrom(b)
	if c == nil {
		return n, from, nil, err
	}
	return n, from, c.Dst, err
}

func (d datagrams6) write(b []byte, to net.Addr, asked net.IP) error {
	_, err := d.WriteTo(b, &ipv6.ControlMessage{Src: asked}, to)
	return err
}

func (s *Server) serveUDP(ctx context.Context, udp *net.UDPConn, six bool, slots chan struct{}) error {
	var conn datagrams
	if six {
		c := ipv6.NewPacketConn(udp)
		if err := c.SetControlMessage(ipv6.FlagDst, true); err != nil {
			return err
		}
		conn = datagrams6{c}
	} else {
		c := ipv4.NewPacketConn(udp)
		if err := c.SetControlMessage(ipv4.FlagDst, true); err != nil {
			return err
		}
		conn = datagrams4{c}
	}
	for b := make([]byte, maxMessage); ; {
		n, from, asked, err := conn.read(b)
		if err != nil {
			return err
		}
		query := append([]byte(nil), b[:n]...)
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		go func() {
			defer func() { <-slots }()
			if answer := s.answer(ctx, query, "udp"); answer != nil {
				_ = conn.write(answer, from, asked) // a client that has gone
			}
		}()
	}
}

func (s *Server) serveTCP(ctx context.Context, ln net.Listener, slots chan struct{}) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		go func() {
			defer func() { <-slots }()
			defer conn.Close()
			for {
				_ = conn.SetDeadline(time.Now().Add(idle))
				query, err := readFramed(conn)
				if err != nil {
					return
				}
				answer := s.answer(ctx, query, "tcp")
				if answer == nil || writeFramed(conn, answer) != nil {
					return
				}
			}
		}()
	}
}

// readFramed and writeFramed have a message behind its length (RFC 1035, section 4.2.2).
func readFramed(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(head[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeFramed(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

// answer is what a query gets, nil where it is none.
func (s *Server) answer(ctx context.Context, query []byte, network string) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil || head.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	if four, six, is := s.Addresses(name); is && q.Class == dnsmessage.ClassINET && head.OpCode == 0 {
		return s.virtual(head, q, four, six)
	}
	answer, err := s.forward(ctx, query, network)
	if err == nil {
		return answer
	}
	if s.Failed != nil {
		s.Failed(fmt.Errorf("%s: %w", name, err))
	}
	return message(head, q, dnsmessage.RCodeServerFailure, nil)
}

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
