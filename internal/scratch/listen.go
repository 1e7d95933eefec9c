// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

const (
	// answerTimeout is how long a connection may take to be answered and closed by the client.
	answerTimeout = 10 * time.Second
	// answersAtOnce bounds the connections that one server holds; more wait in the listen queues.
	answersAtOnce = 512
	// datagramSize is what is read of a probe's datagram, and controlSize what comes beside it.
	datagramSize, controlSize = 2048, 256
)

// An Identity is the owner that a socket shows to the firewall, and the mark that its packets carry.
type Identity struct {
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	Mark uint32 `json:"mark"`
}

// Listeners says what a [Server] listens on: each port on every address of both families, or of one.
type Listeners struct {
	Name        string // what answers call the server: they come from NAME:PORT
	Identity    Identity
	TCP, UDP    []uint16
	Only        string   // "4" or "6": of that family alone
	Transparent []uint16 // ports of the above that accept traffic for foreign addresses (IP_TRANSPARENT)
}

// A Server answers connections and datagrams with which of its ports was reached, the original
// destination that it could recover, and the client that it saw. TCP clients are expected to read the
// answer and close.
type Server struct {
	name    string
	stop    context.CancelFunc
	running sync.WaitGroup
	slots   chan struct{} // one for each connection that is being answered
}

// Serve opens the listeners in a namespace and answers until ctx is done or the server is closed. IPv6
// is left out where the kernel has none.
func (l Listeners) Serve(ctx context.Context, ns *Namespace) (*Server, error) {
	opened := new(sockets)
	err := ns.DoAs(l.Identity.UID, l.Identity.GID, func() error { return opened.open(ctx, l) })
	if err != nil {
		opened.close()
		return nil, fmt.Errorf("listen as %s: %w", l.Name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &Server{name: l.Name, stop: cancel, slots: make(chan struct{}, answersAtOnce)}
	s.running.Go(func() { <-ctx.Done(); opened.close() })
	started := make(chan error, len(opened.tcp))
	for _, ln := range opened.tcp {
		s.running.Go(func() {
			// An accepted socket belongs to the thread that accepts it, not to the listener's owner.
			err := ns.DoAs(l.Identity.UID, l.Identity.GID, func() error {
				started <- nil
				s.accept(ctx, ln)
				return nil
			})
			if err != nil {
				started <- err
			}
		})
	}
	for _, conn := range opened.udp {
		s.running.Go(func() { s.echo(ctx, ns, l.Identity, conn) })
	}
	for range opened.tcp {
		err = errors.Join(err, <-started)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen as %s: %w", l.Name, err), s.Close())
	}
	return s, nil
}

// Placed are listeners and the namespace that they listen in.
type Placed struct {
	In *Namespace
	Listeners
}

// Servers are several of them.
type Servers []*Server

// ServeAll serves each, or none: the error is that of the first which cannot be opened.
func ServeAll(ctx context.Context, all ...Placed) (Servers, error) {
	var out Servers
	for _, l := range all {
		s, err := l.Serve(ctx, l.In)
		if err != nil {
			return nil, errors.Join(err, out.Close())
		}
		out = append(out, s)
	}
	return out, nil
}

// Close closes every one.
func (all Servers) Close() error {
	var errs []error
	for _, s := range all {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Close stops listening and waits until every answer under way has ended.
func (s *Server) Close() error {
	s.stop()
	s.running.Wait()
	return nil
}

// accept answers the connections of one listener until it is closed.
func (s *Server) accept(ctx context.Context, ln *net.TCPListener) {
	land := land(s.name, addrPort(ln.Addr()).Port())
	for {
		conn, err := ln.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			rest(ctx)
			continue
		}
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			_ = conn.Close()
			return
		}
		s.running.Go(func() {
			defer func() { <-s.slots }()
			respond(ctx, conn, land)
		})
	}
}

// respond tells a client what its listener sees of it. What goes wrong shows in the client's fate.
func respond(ctx context.Context, conn *net.TCPConn, land string) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	defer breakOff(ctx, conn)()
	local, peer := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	orig, err := originalDst(raw, local.Addr().Is6())
	if err != nil {
		orig = local // no NAT, or none that is known: then the socket's own address is what was asked for
	}
	text, err := json.Marshal(answer{Land: land, Orig: orig, Peer: peer.Addr()})
	if err != nil {
		return
	}
	if _, err := conn.Write(text); err != nil {
		return
	}
	// The client closes first, so that its port and not the listener's stays in TIME_WAIT.
	_, _ = conn.Read(make([]byte, 1))
	// Our FIN from one CPU could overtake the kernel's acknowledgement of the client's from another.
	// The client would acknowledge twice, and the second time get a reset, which leaves its trace in
	// the connection tracker.
	rest(ctx)
}

// echo answers the datagrams of one socket until it is closed. An answer that cannot be sent is one
// that the client does not get: a timeout.
func (s *Server) echo(ctx context.Context, ns *Namespace, as Identity, conn *net.UDPConn) {
	port := addrPort(conn.LocalAddr()).Port()
	land := land(s.name, port)
	datagram, control := make([]byte, datagramSize), make([]byte, controlSize)
	for {
		_, n, _, peer, err := conn.ReadMsgUDPAddrPort(datagram, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			rest(ctx)
			continue
		}
		text, err := json.Marshal(answer{Land: land, Peer: peer.Addr().Unmap()})
		if err != nil {
			continue
		}
		if asked := portAsked(control[:n]); asked.IsValid() && asked.Port() != port {
			_ = ns.DoAs(as.UID, as.GID, func() error { return answerFrom(ctx, asked, as.Mark, peer, text) })
			continue
		}
		_, _, _ = conn.WriteMsgUDPAddrPort(text, fromAddressAsked(control[:n]), peer)
	}
}

// land is how answers call a listener.
func land(name string, port uint16) string { return name + ":" + strconv.Itoa(int(port)) }

// rest waits a moment, for one: until a lack of descriptors has passed.
func rest(ctx context.Context) {
	select {
	case <-time.After(10 * time.Millisecond):
	case <-ctx.Done():
	}
}

// address is an address and a port as package net wants them.
func address(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// addrPort is the address of a TCP or UDP socket; IPv4 as such, however it is stored.
func addrPort(a net.Addr) netip.AddrPort {
	withPort, ok := a.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return netip.AddrPort{}
	}
	ap := withPort.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
