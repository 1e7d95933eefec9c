// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxytest

import (
	"errors"
	"fmt"
	"net/netip"
)

// fault is what the proxy's sockets show to be wrong, nil where nothing is.
func (a *attempt) fault() (fault, err error) {
	all, err := sockets(a.bench.pod.app)
	if err != nil {
		return nil, err
	}
	return errors.Join(a.transparent(all), a.onward(all)), nil
}

// listeners are those on a port.
func listeners(all []socket, port uint16) (out []socket) {
	for _, s := range all {
		if s.listens && s.local.Port() == port {
			out = append(out, s)
		}
	}
	return out
}

// familyServed tells whether a listener takes connections of the attempt's family.
func (a *attempt) familyServed(all []socket) error {
	ipv6 := a.dst.Addr().Is6()
	var others []netip.AddrPort
	for _, s := range listeners(all, a.side.Listen.Port()) {
		if s.serves(ipv6) {
			return nil
		}
		others = append(others, s.local)
	}
	other := "IPv6"
	if ipv6 {
		other = "IPv4"
	}
	return fmt.Errorf("the proxy listens on %s alone (%v): %s connections have no listener; listen on %s, which is both families",
		other, others, a.name6(), a.side.Listen)
}

func (f family) name6() string {
	if f.pod.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

// transparent tells whether TPROXY can divert to the listener, and its answers leave.
func (a *attempt) transparent(all []socket) error {
	if !a.side.Transparent {
		return nil
	}
	for _, s := range listeners(all, a.side.Listen.Port()) {
		if !s.serves(a.dst.Addr().Is6()) {
			continue
		}
		if s.mark&markMask == a.side.Mark&markMask {
			return fmt.Errorf("the proxy's listener on %s has mark %#x, and so have its connections: what they answer is diverted; mark the sockets alone that it dials with", s.local, s.mark)
		}
		if s.options && !s.transparent {
			return fmt.Errorf("the proxy's listener on %s is not transparent: TPROXY diverts nothing to it; set IP_TRANSPARENT (IPV6_TRANSPARENT on an IPv6 socket) before bind", s.local)
		}
	}
	return nil
}

// onward looks at the connections that the proxy opened to where the client was going.
func (a *attempt) onward(all []socket) error {
	var unmarked []socket
	count := 0
	for _, s := range all {
		if s.listens || s.remote != a.dst || s.local == a.client {
			continue
		}
		count++
		if s.mark&markMask != a.side.Mark&markMask {
			unmarked = append(unmarked, s)
		}
	}
	switch {
	case count >= circleSize:
		marks := "though they have the mark"
		if len(unmarked) > 0 {
			marks = fmt.Sprintf("their mark is %#x, want SO_MARK %#x before connect", unmarked[0].mark, a.side.Mark)
		}
		return fmt.Errorf("the proxy's onward connections are diverted again and come back to it, in a loop (%d to %s at once): %s", count, a.dst, marks)
	case a.side.KeepClient:
		for _, s := range unmarked {
			if s.opens {
				return fmt.Errorf("the proxy's onward connection to %s has mark %#x, want SO_MARK %#x before connect: the answers do not come back to it", a.dst, s.mark, a.side.Mark)
			}
		}
	}
	return nil
}
