// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package rtnl reads what rtnetlink(7) lists. It knows nothing of what it is read
// for.
package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"golang.org/x/sys/unix"
)

const (
	// Loopback is the index of lo, the same in every namespace (LOOPBACK_IFINDEX of
	// net/flow.h).
	Loopback = 1

	// AddressProtocol is the attribute that says who added an address, since Linux 5.18
	// (IFA_PROTO of linux/if_addr.h).
	AddressProtocol = 11

	// RuleHeader, RouteHeader and NetconfHeader are the lengths of struct fib_rule_hdr
	// of linux/fib_rules.h, of struct rtmsg of linux/rtnetlink.h, and of struct
	// netconfmsg of linux/netconf.h with its padding, in bytes.
	RuleHeader    = 12
	RouteHeader   = 12
	NetconfHeader = 4
)

// Each visits what is listed of one family, each object under a header of so many
// bytes that begins with the family: nothing where the kernel has none of it. The data
// is the visit's to keep. The subject is for messages.
func Each(ctx context.Context, s *nl.Socket, typ uint16, family byte, header int, subject string, visit func(data []byte) error) error {
	request := make([]byte, header)
	request[0] = family
	var msgs []netlink.Message
	err := nl.Dump(ctx, s, typ, request, nl.Collect(&msgs))
	if Absent(err) {
		return nil
	}
	for _, m := range msgs {
		if err == nil && len(m.Data) >= header && m.Data[0] == family {
			err = visit(m.Data)
		}
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", subject, err)
	}
	return nil
}

// Absent reports whether the kernel answered a dump with the errno of a family or a
// table that is not there.
func Absent(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.ENOENT)
}

// Address is an address of an interface.
type Address struct {
	netip.Prefix
	Index    int   // of the interface
	Protocol uint8 // who added it, 0 where that is not known
}

// Addresses lists the addresses of one interface, of all where the index is 0, in the
// kernel's order: IPv4 first, then by interface.
func Addresses(ctx context.Context, s *nl.Socket, index uint32) ([]Address, error) {
	request := binary.NativeEndian.AppendUint32(make([]byte, 4), index) // struct ifaddrmsg of linux/if_addr.h
	var out []Address
	err := nl.Dump(ctx, s, unix.RTM_GETADDR, request, func(m netlink.Message) error {
		if len(m.Data) < unix.SizeofIfAddrmsg {
			return nl.ErrShort
		}
		a, err := nl.Decode(m.Data[unix.SizeofIfAddrmsg:])
		if err != nil {
			return err
		}
		ip := a.Take(unix.IFA_LOCAL) // of a point-to-point link, IFA_ADDRESS is the peer's
		if ip == nil {
			ip = a.Take(unix.IFA_ADDRESS)
		}
		if addr, ok := netip.AddrFromSlice(ip); ok {
			const bits = 1
			out = append(out, Address{netip.PrefixFrom(addr.Unmap(), int(m.Data[bits])), int(nl.Native32(m.Data[4:8])), uint8(a.Number(AddressProtocol))})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return out, nil
}
