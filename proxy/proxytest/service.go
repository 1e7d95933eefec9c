// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxytest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

// Ports of the services, each of which shows one thing.
const (
	echoPort     = 8080 // greets, and sends back what it hears, to the end
	answerPort   = 8081 // hears all there is, then answers
	farewellPort = 8082 // says all it has to, then hears the rest
)

// Of what is sent in one piece: more than the buffers of two sockets hold.
const bulk = 4 << 20

func payload() []byte { return bytes.Repeat([]byte("0123456789abcdef"), bulk/16) }

const greeting, request, answer, farewell = "greeting\n", "request\n", "answer\n", "farewell\n"

// served is a connection as a service saw it.
type served struct {
	asked, peer netip.AddrPort
	heard       []byte
	err         error
}

func services() map[uint16]func(*net.TCPConn) ([]byte, error) {
	return map[uint16]func(*net.TCPConn) ([]byte, error){
		echoPort: func(c *net.TCPConn) ([]byte, error) {
			if _, err := io.WriteString(c, greeting); err != nil {
				return nil, err
			}
			_, err := io.Copy(c, c)
			return nil, err
		},
		answerPort: func(c *net.TCPConn) ([]byte, error) {
			heard, err := io.ReadAll(c)
			if err == nil {
				_, err = io.WriteString(c, answer)
			}
			return heard, err
		},
		farewellPort: func(c *net.TCPConn) ([]byte, error) {
			if _, err := io.WriteString(c, farewell); err != nil {
				return nil, err
			}
			if err := c.CloseWrite(); err != nil {
				return nil, err
			}
			return io.ReadAll(c)
		},
	}
}

// service is a listener of one namespace.
type service struct {
	ns      *scratch.Namespace
	port    uint16
	ln      *net.TCPListener
	served  chan served // the connections that have begun, and on answerPort and farewellPort have ended
	stop    context.CancelFunc
	running sync.WaitGroup
}

// maxServed is more connections than any test makes; a proxy in a circle makes no more.
const maxServed = 1024

func newService(ns *scratch.Namespace, port uint16, talk func(*net.TCPConn) ([]byte, error)) (*service, error) {
	s := &service{ns: ns, port: port, served: make(chan served, maxServed)}
	err := ns.Do(func() error {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false) // the connections are to be what the clients open
		ln, err := lc.Listen(context.Background(), "tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			s.ln = ln.(*net.TCPListener)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on port %d: %w", port, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.running.Go(func() {
		for {
			conn, err := s.ln.AcceptTCP()
			if err != nil {
				return
			}
			s.running.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				s.talk(conn, talk)
			})
		}
	})
	return s, nil
}

func (s *service) talk(conn *net.TCPConn, talk func(*net.TCPConn) ([]byte, error)) {
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	saw := served{asked: plain(conn.LocalAddr()), peer: plain(conn.RemoteAddr())}
	if s.port == echoPort {
		s.tell(saw) // while the connection lives, so that its sockets can be looked at
		_, _ = talk(conn)
		return
	}
	saw.heard, saw.err = talk(conn)
	s.tell(saw)
}

func (s *service) tell(saw served) {
	select {
	case s.served <- saw:
	default:
	}
}

// forget drops what earlier checks have left.
func (s *service) forget() {
	for len(s.served) > 0 {
		<-s.served
	}
}

func (s *service) close() error {
	err := s.ln.Close()
	s.stop()
	s.running.Wait()
	return err
}

// plain is a TCP address, of IPv4 as such.
func plain(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
