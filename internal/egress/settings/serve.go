// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weir-mesh/weir/internal/egress/virtual"
)

func (r *reader) serve(d document) *Serve {
	in := d.Serve
	s := &Serve{Port: cmp.Or(in.Port, Port), DNSPort: cmp.Or(in.DNS.Port, DNSPort), TTL: cmp.Or(time.Duration(in.DNS.TTL)*time.Second, TTL),
		State: cmp.Or(in.Virtual.State, State), CA: in.CA, Reroute: in.Interfaces.Reroute}
	switch s.Untracked = in.Conntrack == "none"; {
	case in.Conntrack != "" && in.Conntrack != "used" && !s.Untracked:
		r.problem("serve.conntrack", "%q (want used or none)", in.Conntrack)
	case s.Untracked && len(s.Reroute) > 0:
		r.problem("serve.conntrack", "none excludes serve.interfaces.reroute: the traffic of others is captured by connection tracking alone")
	}
	if s.PassQUIC = in.QUIC == "passed"; in.QUIC != "" && in.QUIC != "refused" && !s.PassQUIC {
		r.problem("serve.quic", "%q (want refused or passed)", in.QUIC)
	}
	if s.Port == s.DNSPort {
		r.problem("serve.dns.port", "is serve.port too: %d", s.Port)
	}
	for _, word := range in.DNS.Upstream {
		if word == "auto" && len(in.DNS.Upstream) == 1 {
			break
		}
		s.Upstream = append(s.Upstream, r.server(word))
	}
	s.Pool = virtual.Pool{IPv4: r.prefix("serve.virtual.ipv4", cmp.Or(in.Virtual.IPv4, IPv4), true), IPv6: r.prefix("serve.virtual.ipv6", cmp.Or(in.Virtual.IPv6, IPv6), false)}
	if len(in.Hosts) == 0 {
		r.problem("serve.hosts", "is missing")
	}
	if len(in.Hosts) > maxHosts {
		r.problem("serve.hosts", "has %d hosts, more than %d", len(in.Hosts), maxHosts)
		return s
	}
	seen := map[string]bool{}
	for i, h := range in.Hosts {
		key := fmt.Sprintf("serve.hosts[%d]", i)
		one := Host{strings.ToLower(strings.TrimSuffix(h.Name, ".")), h.Originate}
		switch {
		case !isName(strings.TrimPrefix(one.Name, "*.")):
			r.problem(key+".name", "%q is not a host name, nor a wildcard such as *.example.com", h.Name)
		case seen[one.Name]:
			r.problem(key+".name", "%q is there twice", one.Name)
		case one.wildcard() && len(one.Originate) > 0:
			r.problem(key+".originate", "a wildcard has no virtual address, to which plain HTTP would go")
		}
		for from, to := range one.Originate {
			if from == 0 || to == 0 {
				r.problem(key+".originate", "%d: %d: 0 is not a port", from, to)
			}
		}
		seen[one.Name] = true
		s.Hosts = append(s.Hosts, one)
	}
	return s
}

func (r *reader) server(word string) netip.AddrPort {
	const dns = 53
	if a, err := netip.ParseAddr(word); err == nil {
		return netip.AddrPortFrom(a, dns)
	}
	a, err := netip.ParseAddrPort(word)
	if err != nil {
		r.problem("serve.dns.upstream", "%q is not auto, an address, or an address and a port", word)
	}
	return a
}

func (r *reader) prefix(key, word string, four bool) netip.Prefix {
	p, err := netip.ParsePrefix(word)
	if err != nil || p.Addr().Is4() != four || p != p.Masked() || p.Addr().BitLen()-p.Bits() < 2 {
		r.problem(key, "%q is not a prefix of that family with room for names", word)
	}
	return p
}

// isName reports whether a word is a host name: labels of letters, digits, - and _ (RFC 1123, section 2.1).
func isName(name string) bool {
	if name == "" || len(name) > maxHostBytes {
		return false
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// Names are the hosts that have virtual addresses.
func (s *Serve) Names() (out []string) {
	for _, h := range s.Hosts {
		if !h.wildcard() {
			out = append(out, h.Name)
		}
	}
	return out
}

// RefusesQUIC reports whether QUIC is refused wherever it goes.
func (s *Serve) RefusesQUIC() bool { return s.HasWildcard() && !s.PassQUIC }

// HasWildcard reports whether names are to be told by what clients ask for.
func (s *Serve) HasWildcard() bool { return slices.ContainsFunc(s.Hosts, Host.wildcard) }
