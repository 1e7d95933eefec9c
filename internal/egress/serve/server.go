// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serve

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/egress/answer"
	"github.com/weir-mesh/weir/internal/egress/metrics"
	"github.com/weir-mesh/weir/internal/egress/names"
	"github.com/weir-mesh/weir/internal/egress/settings"
	"github.com/weir-mesh/weir/internal/egress/virtual"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/proxy"
	"golang.org/x/sys/unix"
)

// Evidence for hosts beside that of package watch.
const (
	ByVirtual = "vip" // its virtual address was called
	bySNI     = "sni"
	byAddress = "address"
)

const maxConns = 16 << 10

// Server serves named hosts in the namespace of the program.
type Server struct {
	Settings *settings.Serve
	App      string           // what metrics say of who calls
	Metrics  *metrics.Metrics // may be nil
	Failed   func(error)      // told of connections and queries that failed; may be nil

	virtual  *virtual.Table
	hasIPv6  bool
	upstream []netip.AddrPort
	resolver *net.Resolver
	roots    *x509.CertPool // nil: the system's
	http     *originator
}

// Run captures what the settings imply, and serves it until ctx is done; ready is called once both are so. What was
// captured is given up at the end. The error may be an [*InUseError], one of [virtual.Load] or one of
// [capture.Capture.Apply].
func (s *Server) Run(ctx context.Context, ns *netns.Namespace, options capture.Options, ready func()) (err error) {
	if err := s.prepare(ctx, ns); err != nil {
		return err
	}
	listener, err := proxy.Listen(ctx, netip.AddrPortFrom(netip.IPv6Unspecified(), s.Settings.Port), s.listenerOptions())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.http = newOriginator(s)
	defer s.http.close()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)
	listening := make(chan struct{})
	dns := answer.Server{Addresses: s.addresses, TTL: s.Settings.TTL, Upstream: s.upstream, Options: ownSockets, Failed: s.failed}
	running.Go(func() {
		cancel(dns.Serve(ctx, s.Settings.DNSPort, func() { close(listening) }))
	})
	tcp := proxy.Server{MaxConns: maxConns, Peek: s.peek, Handle: s.handle, Dial: s.dial, OnClose: s.closed}
	running.Go(func() { cancel(tcp.Serve(ctx, listener)) })
	select {
	case <-listening:
	case <-ctx.Done():
		return ended(ctx)
	}
	state, err := s.state(ctx, ns, options)
	if err != nil {
		return err
	}
	c, err := capture.OfState(ns, state, options)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Apply(ctx); err != nil {
		return err
	}
	defer func() {
		_, removed := c.Remove(context.WithoutCancel(ctx))
		err = errors.Join(err, removed)
	}()
	ready()
	<-ctx.Done()
	return ended(ctx)
}

func ended(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// listenerOptions are none with connection tracking. Without it every packet of the server's has its mark, and connections
// to other addresses are delivered.
func (s *Server) listenerOptions() proxy.SocketOptions {
	if !s.Settings.Untracked {
		return proxy.SocketOptions{}
	}
	return proxy.SocketOptions{Transparent: true, Mark: mark}
}

var ownSockets = proxy.SocketOptions{Mark: mark}

// addresses are those of a host, of IPv6 where the namespace has it: without a route there a client would fail.
func (s *Server) addresses(name string) (ipv4, ipv6 netip.Addr, is bool) {
	a, is := s.virtual.Of(name)
	if !s.hasIPv6 {
		a.IPv6 = netip.Addr{}
	}
	return a.IPv4, a.IPv6, is
}

// target is what a connection is for.
type target struct {
	series metrics.Series
	port   uint16 // plain HTTP goes there over TLS; 0: bytes are carried as they are
}

// peek finds out what a connection is for: by its virtual address, else by the name that the client asks for.
func (s *Server) peek(c proxy.ConnInfo, first []byte) (found any, more bool) {
	at := c.OriginalDst
	series := metrics.Series{App: s.App, Port: at.Port(), Proto: "tcp"}
	if name, is := s.virtual.Name(at.Addr()); is {
		series.Host, series.By = name, ByVirtual
		port := s.originate(name, at.Port())
		if port != 0 {
			series.Proto = "http"
		}
		return target{series, port}, false
	}
	name, more := names.ServerName(first)
	series.Host, series.By = name, bySNI
	if name == "" {
		series.Host, series.By = at.Addr().String(), byAddress
	}
	return target{series: series}, more
}

func (s *Server) originate(name string, port uint16) uint16 {
	for _, h := range s.Settings.Hosts {
		if h.Name == name {
			return h.Originate[port]
		}
	}
	return 0
}

// handle serves what is HTTP to go over TLS.
func (s *Server) handle(ctx context.Context, c *proxy.Conn) (handled bool, carried proxy.Bytes, err error) {
	t, _ := c.Peeked.(target)
	if t.port == 0 {
		return false, carried, nil
	}
	return true, carried, s.http.serve(ctx, c, t)
}

// dial connects to the host of a virtual address, at one of its real ones, or to where the client was going.
func (s *Server) dial(ctx context.Context, c proxy.ConnInfo) (*net.TCPConn, error) {
	t, _ := c.Peeked.(target)
	if s.Metrics != nil {
		s.Metrics.Moved(t.series, metrics.Traffic{Opened: 1})
	}
	if t.series.By != ByVirtual {
		if t.series.By == bySNI {
			return helloFollows.Dial(ctx, c)
		}
		return onward.Dial(ctx, c)
	}
	return s.connect(ctx, onward, c, t.series.Host, c.OriginalDst.Port())
}

// Connections to hosts are made by these: by the latter where a ClientHello is sent at once.
var (
	onward       = proxy.Dialer{Mark: mark}
	helloFollows = proxy.Dialer{Mark: mark, DataFollows: true}
)

// connect connects to a host at one of its real addresses.
func (s *Server) connect(ctx context.Context, dialer proxy.Dialer, c proxy.ConnInfo, host string, port uint16) (*net.TCPConn, error) {
	addresses, err := s.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var wrong []error
	for _, a := range addresses {
		c.OriginalDst = netip.AddrPortFrom(a, port)
		conn, err := dialer.Dial(ctx, c)
		if err == nil {
			return conn, nil
		}
		wrong = append(wrong, err)
	}
	return nil, errors.Join(wrong...)
}

func (s *Server) closed(c proxy.ConnInfo, carried proxy.Bytes, err error) {
	t, known := c.Peeked.(target)
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) { // which peers do as they like
		s.failed(fmt.Errorf("connection of %s to %s (%s): %w", c.Client, c.OriginalDst, t.series.Host, err))
	}
	if known && t.port == 0 && s.Metrics != nil {
		s.Metrics.Moved(t.series, metrics.Traffic{Closed: 1, Sent: uint64(carried.FromClient), Received: uint64(carried.FromUpstream)})
	}
}

func (s *Server) failed(err error) {
	if s.Failed != nil {
		s.Failed(err)
	}
}
