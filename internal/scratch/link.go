// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/jsimonetti/rtnetlink/v2/driver"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Veth joins two namespaces by a pair of links, nameA in a and nameB in b, both down. The pair goes
// with either namespace.
func Veth(a *Namespace, nameA string, b *Namespace, nameB string) error {
	err := vethPair(a, nameA, b, nameB)
	if err != nil {
		return fmt.Errorf("veth %s to %s: %w", nameA, nameB, err)
	}
	return nil
}

func vethPair(a *Namespace, nameA string, b *Namespace, nameB string) error {
	indexA, err := a.freeIndex()
	if err != nil {
		return err
	}
	indexB, err := b.freeIndex()
	if err != nil {
		return err
	}
	// The kernel takes a link for the lower half of another, whose rise is urgent, if the indices of
	// the two ends differ. Else IPv6 may wait a second for it (linkwatch_urgent_event, Linux 6.18).
	if indexA == indexB {
		indexB++
	}
	return a.routing(func(c *rtnetlink.Conn) error {
		return c.Link.New(&rtnetlink.LinkMessage{
			Index: indexA,
			Attributes: &rtnetlink.LinkAttributes{
				Name: nameA,
				Info: &rtnetlink.LinkInfo{Kind: "veth", Data: &driver.Veth{PeerInfo: &rtnetlink.LinkMessage{
					Index: indexB,
					Attributes: &rtnetlink.LinkAttributes{
						Name:  nameB,
						NetNS: rtnetlink.NetNSForFD(uint32(b.file.Fd())),
					},
				}}},
			},
		})
	})
}

// freeIndex is an index above those of all links in the namespace.
func (n *Namespace) freeIndex() (uint32, error) {
	highest := 0
	err := n.Do(func() error {
		links, err := net.Interfaces()
		for _, l := range links {
			highest = max(highest, l.Index)
		}
		return err
	})
	return uint32(highest) + 1, err
}

// Up sets a link up.
func (n *Namespace) Up(link string) error {
	err := n.withLink(link, func(c *rtnetlink.Conn, index uint32) error {
		return c.Link.Set(&rtnetlink.LinkMessage{Index: index, Flags: unix.IFF_UP, Change: unix.IFF_UP})
	})
	if err != nil {
		return fmt.Errorf("set %s up: %w", link, err)
	}
	return nil
}

// AddAddress gives a link an address with the length of its on-link prefix. IPv6 addresses are usable
// at once: no other host is on the link, so none is asked (no duplicate address detection).
func (n *Namespace) AddAddress(link string, address netip.Prefix) error {
	ip := net.IP(address.Addr().AsSlice())
	msg := &rtnetlink.AddressMessage{
		Family:       family(address.Addr()),
		PrefixLength: uint8(address.Bits()),
		Attributes:   &rtnetlink.AddressAttributes{Address: ip, Local: ip},
	}
	if address.Addr().Is6() {
		msg.Attributes.Flags = unix.IFA_F_NODAD
	}
	err := n.withLink(link, func(c *rtnetlink.Conn, index uint32) error {
		msg.Index = index
		return c.Address.New(msg)
	})
	if err != nil {
		return fmt.Errorf("add address %s to %s: %w", address, link, err)
	}
	return nil
}

// routing runs f on a thread inside the namespace with a connection to its links and routes.
func (n *Namespace) routing(f func(*rtnetlink.Conn) error) error {
	return n.Do(func() error {
		c, err := rtnetlink.Dial(nil)
		if err != nil {
			return fmt.Errorf("open route netlink: %w", err)
		}
		defer c.Close()
		// The kernel's own words for a refusal, where it has some; older ones have none to give.
		_ = c.SetOption(netlink.ExtendedAcknowledge, true)
		return f(c)
	})
}

// withLink is routing with the index of a link; no name stands for no link, and index 0.
func (n *Namespace) withLink(name string, f func(c *rtnetlink.Conn, index uint32) error) error {
	return n.routing(func(c *rtnetlink.Conn) error {
		if name == "" {
			return f(c, 0)
		}
		link, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		return f(c, uint32(link.Index))
	})
}

// family is the kernel's number for the family of an address.
func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
