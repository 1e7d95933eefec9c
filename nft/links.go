package nft

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"
)

// Address is an address of an interface.
type Address struct {
	netip.Prefix
	Index int // of the interface; 1 is lo

	protocol uint8 // who put it there, see rules.RouteProtocol; 0 where that is not known
}

// Loopback reports whether the address stands on lo.
func (a Address) Loopback() bool { return a.Index == loopbackIndex }

// Addresses are the namespace's addresses in the kernel's order: IPv4 first,
// then by interface.
func (c *Conn) Addresses(ctx context.Context) ([]Address, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	payload, err := (&rtnetlink.AddressMessage{}).MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return c.addresses(ctx, payload)
}

func (c *Conn) addresses(ctx context.Context, request []byte) ([]Address, error) {
	msgs, err := c.dump(ctx, c.route, unix.RTM_GETADDR, request)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []Address
	for _, m := range msgs {
		var a rtnetlink.AddressMessage
		if err := a.UnmarshalBinary(m.Data); err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		if a.Attributes == nil {
			continue
		}
		ip := a.Attributes.Local // of a point-to-point link, Address is the peer's
		if ip == nil {
			ip = a.Attributes.Address
		}
		if addr, ok := netip.AddrFromSlice(ip); ok {
			more, err := decode(m.Data[unix.SizeofIfAddrmsg:])
			if err != nil {
				return nil, fmt.Errorf("list addresses: %w", err)
			}
			out = append(out, Address{netip.PrefixFrom(addr.Unmap(), int(a.PrefixLength)), int(a.Index), uint8(more.number(ifaProto))})
		}
	}
	return out, nil
}

// LoopbackIPv6 reports whether lo takes IPv6 addresses: the kernel has IPv6 and
// net.ipv6.conf.lo.disable_ipv6 is 0. It is told by netlink, since there may be
// no /proc.
func (c *Conn) LoopbackIPv6(ctx context.Context) (bool, error) {
	lo, err := c.loopback(ctx)
	if err != nil || lo == nil {
		return false, err
	}
	return takesIPv6(lo[unix.SizeofIfInfomsg:])
}

// LoopbackUp reports whether lo carries packets. While it is down nothing that is
// redirected arrives.
func (c *Conn) LoopbackUp(ctx context.Context) (bool, error) {
	lo, err := c.loopback(ctx)
	if err != nil || lo == nil {
		return false, err
	}
	return binary.NativeEndian.Uint32(lo[8:])&unix.IFF_UP != 0, nil
}

// loopback is what the kernel tells of lo, from the ifinfomsg on; nil where there
// is none.
func (c *Conn) loopback(ctx context.Context) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	payload, err := (&rtnetlink.LinkMessage{}).MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("look at lo: %w", err)
	}
	msgs, err := c.dump(ctx, c.route, unix.RTM_GETLINK, payload)
	if err != nil {
		return nil, fmt.Errorf("look at lo: %w", err)
	}
	for _, m := range msgs {
		if len(m.Data) >= unix.SizeofIfInfomsg && binary.NativeEndian.Uint32(m.Data[4:]) == loopbackIndex {
			return m.Data, nil
		}
	}
	return nil, nil
}

// LinkNames are the names of the namespace's interfaces by their indices.
func (c *Conn) LinkNames(ctx context.Context) (map[int]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	payload, err := (&rtnetlink.LinkMessage{}).MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	msgs, err := c.dump(ctx, c.route, unix.RTM_GETLINK, payload)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	names := map[int]string{}
	for _, m := range msgs {
		if len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		a, err := decode(m.Data[unix.SizeofIfInfomsg:])
		if err != nil {
			return nil, fmt.Errorf("list links: %w", err)
		}
		names[int(int32(binary.NativeEndian.Uint32(m.Data[4:])))] = a.string(unix.IFLA_IFNAME)
	}
	return names, nil
}

// takesIPv6 reads IFLA_AF_SPEC / AF_INET6 / IFLA_INET6_CONF of a link.
func takesIPv6(link []byte) (bool, error) {
	const inet6Conf, disableIPv6 = 2, 26 // IFLA_INET6_CONF, DEVCONF_DISABLE_IPV6
	for _, typ := range []uint16{unix.IFLA_AF_SPEC, unix.AF_INET6, inet6Conf} {
		a, err := decode(link)
		if err != nil {
			return false, fmt.Errorf("look at lo: %w", err)
		}
		link = a.take(typ)
	}
	at := disableIPv6 * 4
	return len(link) >= at+4 && binary.NativeEndian.Uint32(link[at:]) == 0, nil
}
