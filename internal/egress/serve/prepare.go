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
	"os"
	"time"

	"github.com/weir-mesh/weir/internal/egress/answer"
	"github.com/weir-mesh/weir/internal/egress/virtual"
	"github.com/weir-mesh/weir/netns"
)

// prepare reads what the settings name.
func (s *Server) prepare(ctx context.Context, ns *netns.Namespace) error {
	in := s.Settings
	if err := free(ctx, ns, in.Pool); err != nil {
		return err
	}
	addresses, err := ns.Addresses(ctx)
	if err != nil {
		return err
	}
	s.hasIPv6 = netns.HasIPv6(addresses)
	if s.upstream = in.Upstream; s.upstream == nil {
		resolvers, err := ns.Resolvers(ctx)
		if err != nil {
			return fmt.Errorf("find the resolvers of this namespace (or set serve.dns.upstream): %w", err)
		}
		const dns = 53
		for _, a := range resolvers {
			s.upstream = append(s.upstream, netip.AddrPortFrom(a, dns))
		}
	}
	s.resolver = &net.Resolver{PreferGo: true, Dial: s.dialResolver}
	if in.CA != "" {
		text, err := os.ReadFile(in.CA)
		if err != nil {
			return fmt.Errorf("serve.ca: %w", err)
		}
		s.roots = x509.NewCertPool()
		if !s.roots.AppendCertsFromPEM(text) {
			return fmt.Errorf("serve.ca: %s holds no certificate in PEM", in.CA)
		}
	}
	s.virtual, err = virtual.Load(in.State, in.Pool, in.Names(), time.Now())
	return err
}

// dialResolver connects to an upstream server in place of the one that resolv.conf names.
func (s *Server) dialResolver(ctx context.Context, network, _ string) (net.Conn, error) {
	dialer := net.Dialer{Control: ownSockets.Control}
	wrong := []error{answer.ErrNoUpstream}
	for _, server := range s.upstream {
		conn, err := dialer.DialContext(ctx, network, server.String())
		if err == nil {
			return conn, nil
		}
		wrong = append(wrong, err)
	}
	return nil, errors.Join(wrong...)
}

// lookup asks the upstream servers for the real addresses of a host. A virtual one is a lie, that would lead back here.
func (s *Server) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	found, err := s.resolver.LookupNetIP(ctx, "ip", name+".")
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range found {
		if a = a.Unmap(); !s.Settings.Pool.IPv4.Contains(a) && !s.Settings.Pool.IPv6.Contains(a) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: upstream servers give virtual addresses alone: %v", name, found)
	}
	return out, nil
}
