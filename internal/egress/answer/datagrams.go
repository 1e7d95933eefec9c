// SPDX-License-Identifier: Apache-2.0

//go:build linux

package answer

import (
	"context"
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

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
