// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// movingConn is a socket that can change its port, as one behind a NAT that forgot it. It wants all
// answers to come from the server's address.
type movingConn struct {
	server netip.AddrPort
	mu     sync.Mutex
	conn   *net.UDPConn
	moved  int
	closed bool
	stray  error
}

func (m *movingConn) move() error {
	next, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		_ = m.conn.Close()
		m.moved++
	}
	m.conn = next
	return nil
}

func (m *movingConn) moves() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.moved
}

func (m *movingConn) wrong() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stray
}

func (m *movingConn) now() *net.UDPConn {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conn
}

// ReadFrom goes on with the next socket where one was closed by a move.
func (m *movingConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		conn := m.now()
		n, from, err := conn.ReadFromUDPAddrPort(b)
		if err == nil && netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) != m.server {
			m.mu.Lock()
			m.stray = fmt.Errorf("an answer came from %s, want %s", from, m.server)
			m.mu.Unlock()
		}
		m.mu.Lock()
		moved := !m.closed && conn != m.conn
		m.mu.Unlock()
		if errors.Is(err, net.ErrClosed) && moved {
			continue
		}
		return n, net.UDPAddrFromAddrPort(m.server), err
	}
}

func (m *movingConn) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := m.now().WriteTo(b, to)
	if errors.Is(err, net.ErrClosed) {
		return m.now().WriteTo(b, to) // moved meanwhile
	}
	return n, err
}

func (m *movingConn) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return m.conn.Close()
}

func (m *movingConn) LocalAddr() net.Addr                { return m.now().LocalAddr() }
func (m *movingConn) SetDeadline(t time.Time) error      { return m.now().SetDeadline(t) }
func (m *movingConn) SetReadDeadline(t time.Time) error  { return m.now().SetReadDeadline(t) }
func (m *movingConn) SetWriteDeadline(t time.Time) error { return m.now().SetWriteDeadline(t) }
