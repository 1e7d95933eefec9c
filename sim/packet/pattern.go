// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// Pattern is which packets are meant, by protocol and destination. The zero
// Pattern is every packet.
type Pattern struct {
	Proto rules.Proto  // 0: any
	To    netip.Prefix // not valid: any address
	Zone  string       // of a link-local address, the interface; "": none is named
	Ports rules.Range  // empty: any port
}

// Parse reads a pattern: a protocol and a destination, which is an address or a
// prefix with or without ports. The error says every problem.
func Parse(text string) (Pattern, error) {
	words := strings.Fields(text)
	if len(words) != 2 {
		return Pattern{}, fmt.Errorf("%q is not a packet (want a protocol and a destination, such as tcp 10.0.0.1:443)", text)
	}
	proto, err := parseProto(words[0])
	p := Pattern{Proto: proto}
	host, ports, hasPorts, splitErr := split(words[1])
	err = errors.Join(err, splitErr)
	if splitErr == nil && host != "" {
		var hostErr error
		p.To, p.Zone, hostErr = parseHost(host)
		err = errors.Join(err, hostErr)
	}
	if hasPorts {
		var portErr error
		p.Ports, portErr = parsePorts(ports)
		err = errors.Join(err, portErr)
	}
	if hasPorts && proto != 0 && proto != rules.TCP && proto != rules.UDP {
		err = errors.Join(err, fmt.Errorf("%s has no ports", words[0]))
	}
	if err != nil {
		return Pattern{}, err
	}
	return p, nil
}

func parseProto(word string) (rules.Proto, error) {
	for name, p := range map[string]rules.Proto{"tcp": rules.TCP, "udp": rules.UDP, "icmp": rules.ICMP, "icmpv6": rules.ICMPv6} {
		if word == name {
			return p, nil
		}
	}
	return 0, fmt.Errorf("%q is not a protocol (want tcp, udp, icmp or icmpv6)", word)
}

// split cuts a destination into its host and its ports. A host of IPv6 with
// ports stands in brackets.
func split(text string) (host, ports string, hasPorts bool, err error) {
	if rest, bracketed := strings.CutPrefix(text, "["); bracketed {
		host, rest, closed := strings.Cut(rest, "]")
		ports, hasPorts = strings.CutPrefix(rest, ":")
		if !closed || !strings.Contains(host, ":") || rest != "" && !hasPorts {
			return "", "", false, fmt.Errorf("%q is not a destination (want such as [2001:db8::1]:443)", text)
		}
		return host, ports, hasPorts, nil
	}
	if strings.Count(text, ":") > 1 {
		return text, "", false, nil
	}
	host, ports, hasPorts = strings.Cut(text, ":")
	return host, ports, hasPorts, nil
}

func parseHost(text string) (to netip.Prefix, zone string, err error) {
	if a, err := netip.ParseAddr(text); err == nil && !a.Is4In6() && (a.Zone() == "" || a.IsLinkLocalUnicast() && len(a.Zone()) <= rules.MaxIfName) {
		return netip.PrefixFrom(a.WithZone(""), a.BitLen()), a.Zone(), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, "", fmt.Errorf("%q is neither an address nor a prefix (want such as 10.0.0.1 or 2001:db8::/32; names are not resolved)", text)
	}
	return p.Masked(), "", nil
}

func parsePorts(text string) (rules.Range, error) {
	first, last, _ := strings.Cut(text, "-")
	lo, err := parsePort(first)
	hi, hiErr := parsePort(cmp.Or(last, first))
	if err = cmp.Or(err, hiErr); err != nil || lo > hi || strings.HasSuffix(text, "-") {
		return rules.Range{}, fmt.Errorf("%q is not a port (want 1-65535 or a range such as 8000-8100)", text)
	}
	return rules.RangeBetween(lo, hi), nil
}

func parsePort(text string) (rules.Port, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return rules.Port(n), err
}

// String is the pattern as Parse reads it.
func (p Pattern) String() string {
	host := ""
	if p.To.IsValid() {
		host = p.To.String()
		if p.To.IsSingleIP() {
			host = p.To.Addr().WithZone(p.Zone).String()
		}
	}
	text := map[rules.Proto]string{rules.TCP: "tcp", rules.UDP: "udp", rules.ICMP: "icmp", rules.ICMPv6: "icmpv6"}[p.Proto] + " "
	switch {
	case p.Ports == rules.Range{}:
		return text + host
	case p.To.IsValid() && p.To.Addr().Is6():
		host = "[" + host + "]"
	}
	return text + host + ":" + rules.TCPDport.Type().FormatRange(p.Ports)
}

// One is the packet that the pattern describes, if it describes one alone; else the error says
// what it leaves open. It has neither a socket nor an interface: say who sends it (Socket), or
// by which interface it comes (In).
func (p Pattern) One() (sim.Packet, error) {
	ported := p.Proto == rules.TCP || p.Proto == rules.UDP
	switch {
	case !p.To.IsValid() || !p.To.IsSingleIP():
		return sim.Packet{}, fmt.Errorf("%q is more than one destination (want one address)", p)
	case ported && p.Ports == rules.Range{}:
		with := p
		with.Ports = rules.RangeOf(rules.Port(443))
		return sim.Packet{}, fmt.Errorf("%q has no port (want such as %q)", p, with)
	case ported && !p.Ports.Single():
		return sim.Packet{}, fmt.Errorf("%q is more than one port (want one)", p)
	case p.TwoFamilies():
		return sim.Packet{}, fmt.Errorf("%q is of two families", p)
	}
	out := sim.Packet{Proto: p.Proto, Dst: netip.AddrPortFrom(p.To.Addr(), 0), Device: p.Zone}
	if ported {
		out.Dst = netip.AddrPortFrom(p.To.Addr(), uint16(p.Ports.Lo.Uint64()))
	}
	return out, nil
}

// TwoFamilies reports whether no packet has both the protocol and the address.
func (p Pattern) TwoFamilies() bool {
	return p.Proto == rules.ICMP && p.To.Addr().Is6() || p.Proto == rules.ICMPv6 && p.To.Addr().Is4()
}

// Matches reports whether the packet is one of those that are meant.
func (p Pattern) Matches(packet sim.Packet) bool {
	port := rules.RangeOf(rules.Port(packet.Dst.Port())).Lo
	return (p.Proto == 0 || p.Proto == packet.Proto) &&
		(!p.To.IsValid() || p.To.Contains(packet.Dst.Addr())) &&
		(p.Ports == rules.Range{} || p.Ports.Lo <= port && port <= p.Ports.Hi)
}
