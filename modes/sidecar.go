// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// sidecar is the checked configuration of a proxy beside an application in one
// pod.
type sidecar struct {
	table    string
	families []rules.Family

	uids           []rules.Range
	gids           []rules.Range
	mark, markMask rules.Mark // no mask: no mark
	inbound        capture
	sources        []netip.Prefix // whose connections are left alone as they come in
	tunnel         []rules.Range  // the tunnel listener's port or ports, none where there is no listener
	ownCalls       bool           // the proxy's calls to its own pod go through the inbound listener
	ownPod         bool           // the application's go through the outbound one
	outbound       capture
	cidrs          cidrs
	linkLocal      bool          // captured too
	outboundPorts  []rules.Range // captured whatever the CIDRs say
	includeGIDs    []rules.Range
	everyGID       bool
	excludeGIDs    []rules.Range
	excludeUIDs    []rules.Range
	excluded       []excluded
	dns            dns
	exclude        []rules.IfName
	bound          []rules.Route // for what sockets send that are bound to an interface
	reroute        rerouted
	loopback       []netip.Prefix
	passthrough    []netip.Prefix
	lo             []netip.Prefix // to add to the loopback interface
	dropInvalid    bool
	routing        routing
	loopMark       rules.Mark
	loopMask       rules.Mark

	untracked         bool // conntrack: none
	udpOut, udpIn     capture
	resolverAddresses []netip.Prefix // that stand for dns.servers, one for each
}

// capture is one direction.
type capture struct {
	via     string
	port    rules.Range // the listener's: one, or those that the kernel may choose from
	all     bool
	include []rules.Range
	exclude []rules.Range
}

// first is the listener's port, and of several the first.
func (c capture) first() rules.Port { return rules.Port(c.port.Lo.Uint64()) }

func (c capture) redirect() rules.Redirect { return rules.Redirect{Ports: &c.port} }

type cidrs struct {
	all              bool
	include, exclude []netip.Prefix
	loopback         bool // a loopback address is included, as it is written: ::1/64 too
}

type dns struct {
	capture string
	port    rules.Port
	servers []netip.Prefix
	dnsScope
}

const (
	viaRedirect = "redirect"
	viaTProxy   = "tproxy"
	viaMarks    = "marks" // the marks of tproxy, without its capture
	viaNone     = "none"

	dnsNone    = "none"
	dnsServers = "servers"
	dnsAll     = "all"

	dnsPort rules.Port = 53
)

func (s *sidecar) ipv6() bool { return len(s.families) > 1 }

// noneCaptured reports whether a list holds prefixes, and none of a captured
// family.
func (s *sidecar) noneCaptured(list []netip.Prefix) bool {
	return len(list) > 0 && !slices.ContainsFunc(list, func(p netip.Prefix) bool {
		return slices.Contains(s.families, rules.AddressFamily(p.Addr()))
	})
}

// leavesOut reports whether a list holds prefixes of a family that is not captured.
func (s *sidecar) leavesOut(list []netip.Prefix) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool {
		return !slices.Contains(s.families, rules.AddressFamily(p.Addr()))
	})
}

// capturesInbound reports whether connections that come in go to the proxy.
func (s *sidecar) capturesInbound() bool {
	return s.inbound.via == viaRedirect || s.inbound.via == viaTProxy
}

// marks reports whether packets and connections get marks.
func (s *sidecar) marks() bool {
	return s.untracked || s.inbound.via == viaTProxy || s.inbound.via == viaMarks
}

func portText(p rules.Range) string { return rules.TCPDport.Type().FormatRange(p) }
