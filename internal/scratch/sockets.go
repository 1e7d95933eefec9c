// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"context"
	"errors"
	"net"
	"slices"

	"golang.org/x/sys/unix"
)

// sockets are the open listeners of a server.
type sockets struct {
	tcp []*net.TCPListener
	udp []*net.UDPConn
}

// open opens all listeners from the calling thread. What it opened stays open if it fails.
func (s *sockets) open(ctx context.Context, l Listeners) error {
	if l.Only != "6" {
		if err := s.openFamily(ctx, l, "4", "0.0.0.0"); err != nil {
			return err
		}
	}
	if l.Only == "4" {
		return nil
	}
	err := s.openFamily(ctx, l, "6", "::")
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil
	}
	return err
}

func (s *sockets) openFamily(ctx context.Context, l Listeners, family, any string) error {
	for _, port := range l.TCP {
		if err := s.openTCP(ctx, "tcp"+family, address(any, port), l.options(port)); err != nil {
			return err
		}
	}
	for _, port := range l.UDP {
		if err := s.openUDP(ctx, "udp"+family, address(any, port), l.options(port)); err != nil {
			return err
		}
	}
	return nil
}

func (s *sockets) openTCP(ctx context.Context, network, address string, options socketOptions) error {
	config := net.ListenConfig{Control: options.control}
	config.SetMultipathTCP(false) // an MPTCP socket does not tell the original destination
	ln, err := config.Listen(ctx, network, address)
	if err != nil {
		return err
	}
	s.tcp = append(s.tcp, ln.(*net.TCPListener))
	return nil
}

func (s *sockets) openUDP(ctx context.Context, network, address string, options socketOptions) error {
	options.pktinfo, options.origdst = true, options.transparent
	config := net.ListenConfig{Control: options.control}
	conn, err := config.ListenPacket(ctx, network, address)
	if err != nil {
		return err
	}
	s.udp = append(s.udp, conn.(*net.UDPConn))
	return nil
}

func (s *sockets) close() {
	for _, ln := range s.tcp {
		_ = ln.Close()
	}
	for _, conn := range s.udp {
		_ = conn.Close()
	}
}

// options is what the socket of one port is opened with.
func (l Listeners) options(port uint16) socketOptions {
	return socketOptions{mark: l.Identity.Mark, transparent: slices.Contains(l.Transparent, port)}
}
