package nft

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
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
	var out []Address
	err := again(ctx, func() (err error) {
		out, err = c.addresses(ctx, 0)
		return err
	})
	return out, err
}

// addresses are those of one interface, 0 for all.
func (c *Conn) addresses(ctx context.Context, index uint32) ([]Address, error) {
	request := binary.NativeEndian.AppendUint32(make([]byte, 4), index) // struct ifaddrmsg of linux/if_addr.h
	msgs, err := dump(ctx, c.route, unix.RTM_GETADDR, request)
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
			more, err := nl.Decode(m.Data[unix.SizeofIfAddrmsg:])
			if err != nil {
				return nil, fmt.Errorf("list addresses: %w", err)
			}
			out = append(out, Address{netip.PrefixFrom(addr.Unmap(), int(a.PrefixLength)), int(a.Index), uint8(more.Number(ifaProto))})
		}
	}
	return out, nil
}

// Loopback is what lo is like.
type Loopback struct {
	Up   bool // while it is down nothing that is redirected arrives
	IPv6 bool // it takes IPv6 addresses: there is IPv6, and net.ipv6.conf.lo.disable_ipv6 is 0
}

// Loopback looks at lo, by netlink: there may be no /proc.
func (c *Conn) Loopback(ctx context.Context) (Loopback, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	request := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(request[4:], loopbackIndex)
	msgs, err := execute(ctx, c.route, netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request},
		Data:   request,
	})
	if err == nil && (len(msgs) != 1 || len(msgs[0].Data) < unix.SizeofIfInfomsg) {
		err = nl.ErrShort
	}
	if err != nil {
		return Loopback{}, fmt.Errorf("look at lo: %w", err)
	}
	lo := msgs[0].Data
	ipv6, err := takesIPv6(lo[unix.SizeofIfInfomsg:])
	return Loopback{Up: nl.Native32(lo[8:12])&unix.IFF_UP != 0, IPv6: ipv6}, err
}

// LinkNames are the names of the namespace's interfaces by their indices.
func (c *Conn) LinkNames(ctx context.Context) (map[int]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var links []sim.Link
	err := again(ctx, func() (err error) {
		links, err = c.links(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, l := range links {
		names[int(l.Index)] = l.Name
	}
	return names, nil
}

// links are the namespace's interfaces, without their addresses.
func (c *Conn) links(ctx context.Context) ([]sim.Link, error) {
	msgs, err := dump(ctx, c.route, unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg))
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var out []sim.Link
	for _, m := range msgs {
		if len(m.Data) < unix.SizeofIfInfomsg {
			return nil, fmt.Errorf("list links: %w", nl.ErrShort)
		}
		a, err := nl.Decode(m.Data[unix.SizeofIfInfomsg:])
		if err != nil {
			return nil, fmt.Errorf("list links: %w", err)
		}
		out = append(out, sim.Link{Name: a.Text(unix.IFLA_IFNAME), Index: rules.IfIndex(nl.Native32(m.Data[4:8]))})
	}
	return out, nil
}

// takesIPv6 reads IFLA_AF_SPEC / AF_INET6 / IFLA_INET6_CONF of a link.
func takesIPv6(link []byte) (bool, error) {
	const inet6Conf, disableIPv6 = 2, 26 // IFLA_INET6_CONF, DEVCONF_DISABLE_IPV6
	for _, typ := range []uint16{unix.IFLA_AF_SPEC, unix.AF_INET6, inet6Conf} {
		a, err := nl.Decode(link)
		if err != nil {
			return false, fmt.Errorf("look at lo: %w", err)
		}
		link = a.Take(typ)
	}
	at := disableIPv6 * 4
	return len(link) >= at+4 && binary.NativeEndian.Uint32(link[at:]) == 0, nil
}
