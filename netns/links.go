// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/rtnl"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"golang.org/x/sys/unix"
)

// LinkNames are the names of the namespace's interfaces by their indices.
func (n *Namespace) LinkNames(ctx context.Context) (map[int]string, error) {
	var all []sim.Link
	err := n.withRoute(ctx, func(s *nl.Socket) (err error) {
		all, _, err = links(ctx, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, l := range all {
		names[int(l.Index)] = l.Name
	}
	return names, nil
}

// SmallestMTU is the smallest maximum transmission unit of an interface other than lo, in
// bytes; 0 where there is none.
func (n *Namespace) SmallestMTU(ctx context.Context) (smallest int, err error) {
	err = n.withRoute(ctx, func(s *nl.Socket) error {
		return nl.Dump(ctx, s, unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg), func(m netlink.Message) error {
			a, err := linkAttributes(m)
			if err != nil {
				return err
			}
			mtu := int(a.Native32(unix.IFLA_MTU))
			if nl.Native32(m.Data[8:12])&unix.IFF_LOOPBACK == 0 && mtu > 0 && (smallest == 0 || mtu < smallest) {
				smallest = mtu
			}
			return nil
		})
	})
	if err != nil {
		return 0, fmt.Errorf("list links: %w", err)
	}
	return smallest, nil
}

// links are the namespace's interfaces, without their addresses, and what lo is like.
func links(ctx context.Context, s *nl.Socket) (out []sim.Link, lo Loopback, err error) {
	err = nl.Dump(ctx, s, unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg), func(m netlink.Message) error {
		a, err := linkAttributes(m)
		if err != nil {
			return err
		}
		own, err := settingsOf(a)
		if err != nil {
			return err
		}
		const acceptLocal, sourceMark, localnet = 23, 24, 26 // IPV4_DEVCONF_* of linux/ip.h
		out = append(out, sim.Link{Name: a.Text(unix.IFLA_IFNAME), Index: rules.IfIndex(nl.Native32(m.Data[4:8])), Down: nl.Native32(m.Data[8:12])&unix.IFF_UP == 0,
			Port: a.Has(unix.IFLA_MASTER), Localnet: own.isSet(localnet), AcceptLocal: own.isSet(acceptLocal), SourceMark: own.isSet(sourceMark)})
		if nl.Native32(m.Data[4:8]) == rtnl.Loopback {
			lo = own.loopback(m)
		}
		return nil
	})
	if err != nil {
		return nil, lo, fmt.Errorf("list links: %w", nl.Permission(err))
	}
	return out, lo, nil
}

// linkAttributes are those after struct ifinfomsg of linux/rtnetlink.h.
func linkAttributes(m netlink.Message) (nl.Attributes, error) {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return nil, nl.ErrShort
	}
	return nl.Decode(m.Data[unix.SizeofIfInfomsg:])
}

// Loopback is what lo is like.
type Loopback struct {
	Up   bool // while it is down nothing that is redirected arrives
	IPv6 bool // it takes IPv6 addresses: there is IPv6, and net.ipv6.conf.lo.disable_ipv6 is 0
}

// Loopback reads what lo is like, by netlink: there may be no /proc.
func (n *Namespace) Loopback(ctx context.Context) (Loopback, error) {
	var lo Loopback
	err := n.withRoute(ctx, func(s *nl.Socket) error {
		request := make([]byte, unix.SizeofIfInfomsg)
		binary.NativeEndian.PutUint32(request[4:], rtnl.Loopback)
		m := netlink.Message{Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request}, Data: request}
		return s.Execute(ctx, m, func(m netlink.Message) error {
			a, err := linkAttributes(m)
			if err != nil {
				return err
			}
			own, err := settingsOf(a)
			lo = own.loopback(m)
			return err
		})
	})
	if err != nil {
		return Loopback{}, fmt.Errorf("look at lo: %w", nl.Permission(err))
	}
	return lo, nil
}

// settings are those of one link, in the order of the kernel's numbers.
type settings struct{ inet, inet6 []byte }

// settingsOf reads IFLA_AF_SPEC of a link: IFLA_INET_CONF and IFLA_INET6_CONF.
func settingsOf(link nl.Attributes) (out settings, err error) {
	const inetConf, inet6Conf = 1, 2
	spec, err := nl.Decode(link.Take(unix.IFLA_AF_SPEC))
	if err != nil {
		return out, err
	}
	inet, err := nl.Decode(spec.Take(unix.AF_INET))
	if err != nil {
		return out, err
	}
	inet6, err := nl.Decode(spec.Take(unix.AF_INET6))
	return settings{inet.Take(inetConf), inet6.Take(inet6Conf)}, err
}

// isSet reports whether a setting of IPv4, which are numbered from 1, is not 0.
func (s settings) isSet(number int) bool {
	end := number * 4
	return len(s.inet) >= end && nl.Native32(s.inet[end-4:end]) != 0
}

// loopback is what a message about lo, with those settings, says.
func (s settings) loopback(m netlink.Message) Loopback {
	const disableIPv6 = 26 // DEVCONF_DISABLE_IPV6 of linux/ipv6.h, which are numbered from 0
	at := disableIPv6 * 4
	return Loopback{
		Up:   nl.Native32(m.Data[8:12])&unix.IFF_UP != 0,
		IPv6: len(s.inet6) >= at+4 && nl.Native32(s.inet6[at:at+4]) == 0,
	}
}
