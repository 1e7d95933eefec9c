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
