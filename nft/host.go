package nft

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"golang.org/x/sys/unix"
)

// Host is what of the namespace decides about packets beside its tables: links
// and addresses, and the whole of its routing. Its sockets are [Sockets].
func (c *Conn) Host(ctx context.Context) (sim.Host, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var h sim.Host
	err := again(ctx, func() error {
		h = sim.Host{}
		for _, read := range []func(context.Context, *sim.Host) error{
			c.hostLinks, c.hostLookups, c.hostPaths, c.hostForwards,
		} {
			if err := read(ctx, &h); err != nil {
				return err
			}
		}
		return nil
	})
	return h, err
}

// hostLinks reads the links and their addresses.
func (c *Conn) hostLinks(ctx context.Context, h *sim.Host) (err error) {
	if h.Links, err = c.links(ctx); err != nil {
		return err
	}
	addresses, err := c.addresses(ctx, 0)
	for _, a := range addresses {
		for i := range h.Links {
			if int(h.Links[i].Index) == a.Index {
				h.Links[i].Addresses = append(h.Links[i].Addresses, a.Prefix)
			}
		}
	}
	return err
}

func linkName(h *sim.Host, index uint32) string {
	for _, l := range h.Links {
		if uint32(l.Index) == index {
			return l.Name
		}
	}
	return ""
}

// hostLookups dumps all policy rules, in the order in which they are asked.
func (c *Conn) hostLookups(ctx context.Context, h *sim.Host) error {
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		err := c.ofFamily(ctx, unix.RTM_GETRULE, f, fibRuleHeader, "policy rules", func(data []byte) error {
			l, err := liftLookup(f, data)
			h.PolicyRules = append(h.PolicyRules, l)
			return err
		})
		if err != nil {
			return err
		}
	}
	slices.SortStableFunc(h.PolicyRules, func(a, b sim.PolicyRule) int { return cmp.Compare(a.Priority, b.Priority) })
	return nil
}

// liftLookup lifts a policy rule (struct fib_rule_hdr of linux/fib_rules.h).
func liftLookup(f rules.Family, data []byte) (sim.PolicyRule, error) {
	a, err := nl.Decode(data[fibRuleHeader:])
	if err != nil {
		return sim.PolicyRule{}, err
	}
	const dstLen, srcLen, tos, action, flags, invert = 1, 2, 3, 7, 8, 2
	l := sim.PolicyRule{
		Family: f, Priority: a.Native32(unix.FRA_PRIORITY), Table: a.Native32(unix.FRA_TABLE),
		Mark: rules.Mark(a.Native32(unix.FRA_FWMARK)), Mask: rules.Mark(a.Native32(unix.FRA_FWMASK)),
		In: a.Text(unix.FRA_IIFNAME),
		To: livePrefix(a.Take(unix.FRA_DST), data[dstLen]), From: livePrefix(a.Take(unix.FRA_SRC), data[srcLen]),
	}
	a.Take(unix.FRA_PROTOCOL)
	suppress := a.Take(unix.FRA_SUPPRESS_PREFIXLEN) // told always, -1 for none
	suppresses := suppress != nil && ^nl.Native32(suppress) != 0
	l.Not = nl.Native32(data[flags:fibRuleHeader])&invert != 0
	if !a.AllTaken() || suppresses || data[tos] != 0 || data[action] != unix.FR_ACT_TO_TBL {
		strange := fmt.Sprintf("the policy rule of priority %d says more than weir knows of", l.Priority)
		if l.Not {
			return sim.PolicyRule{Family: f, Priority: l.Priority, Unsupported: strange}, nil // it may take any packet
		}
		l.Unsupported = strange
	}
	return l, nil
}

// livePrefix is a prefix of rtnetlink's, not valid where there is no address.
func livePrefix(addr []byte, bits byte) netip.Prefix {
	a, ok := netip.AddrFromSlice(addr)
	if !ok {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, int(bits))
}

const routeHeader = 12 // struct rtmsg of linux/rtnetlink.h

// hostPaths dumps the routes of every table.
func (c *Conn) hostPaths(ctx context.Context, h *sim.Host) error {
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		err := c.ofFamily(ctx, unix.RTM_GETROUTE, f, routeHeader, "routes", func(data []byte) error {
			p, err := liftPath(f, data, h)
			h.Routes = append(h.Routes, p)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func liftPath(f rules.Family, data []byte, h *sim.Host) (sim.Route, error) {
	a, err := nl.Decode(data[routeHeader:])
	if err != nil {
		return sim.Route{}, err
	}
	const dstLen, srcLen, tos, table, typ = 1, 2, 3, 4, 7
	p := sim.Route{Table: uint32(data[table]), Type: rules.AddrType(data[typ]), Metric: a.Native32(unix.RTA_PRIORITY),
		Out: linkName(h, a.Native32(unix.RTA_OIF)), Dst: livePrefix(a.Take(unix.RTA_DST), data[dstLen])}
	if !p.Dst.IsValid() {
		p.Dst = netip.PrefixFrom(map[rules.Family]netip.Addr{rules.IPv4: netip.IPv4Unspecified(), rules.IPv6: netip.IPv6Unspecified()}[f], 0)
	}
	if own := a.Take(unix.RTA_TABLE); own != nil {
		p.Table = nl.Native32(own)
	}
	if src, ok := netip.AddrFromSlice(a.Take(unix.RTA_PREFSRC)); ok {
		p.Src = src
	}
	if via, ok := netip.AddrFromSlice(a.Take(unix.RTA_GATEWAY)); ok {
		p.Via = via
	}
	nowhere := p.Type == rules.Unicast && p.Out == "" // a nexthop object
	if nowhere || a.Has(unix.RTA_MULTIPATH) || a.Has(unix.RTA_ENCAP) || data[srcLen] != 0 || data[tos] != 0 {
		p.Unsupported = fmt.Sprintf("the route to %s in table %d says more than weir knows of", p.Dst, p.Table)
	}
	return p, nil
}

const netconfHeader = 4 // struct netconfmsg of linux/netconf.h, padded

// hostForwards reads whether each link's packets are passed on, and how strict it
// is about where a packet comes from, by netlink: there may be no /proc.
func (c *Conn) hostForwards(ctx context.Context, h *sim.Host) error {
	const ifindex, forwarding, rpFilter, all = 1, 2, 3, ^uint32(0) // NETCONFA_* of linux/netconf.h
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		strict, forwards := map[uint32]uint32{}, map[uint32]bool{}
		err := c.ofFamily(ctx, unix.RTM_GETNETCONF, f, netconfHeader, "network settings", func(data []byte) error {
			a, err := nl.Decode(data[netconfHeader:])
			index := a.Native32(ifindex)
			forwards[index] = a.Native32(forwarding) != 0
			strict[index] = a.Native32(rpFilter)
			return err
		})
		if err != nil {
			return err
		}
		for i := range h.Links {
			l := &h.Links[i]
			decides := all // of IPv6; of IPv4 each link's own
			if f == rules.IPv4 {
				decides = uint32(l.Index)
				l.ReversePath = sim.ReversePath(max(strict[all], strict[decides]))
			}
			if forwards[decides] {
				l.Forwards = append(l.Forwards, f)
			}
		}
	}
	return nil
}

// Sockets lists the sockets that are open in the calling thread's network
// namespace or, where netns is not 0, in the one that the file descriptor names,
// over sock_diag(7). Which group and which cgroups opened them it does not tell.
func Sockets(ctx context.Context, netns int) ([]sim.Socket, error) {
	sockets, err := nl.Open(netns, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("netlink: open a socket: %w", permission(err))
	}
	defer nl.Close(sockets...)
	var out []sim.Socket
	err = again(ctx, func() error {
		out = nil
		for _, proto := range []rules.Proto{rules.TCP, rules.UDP} {
			for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
				s, err := openSockets(ctx, sockets[0], f, proto)
				if err != nil {
					return fmt.Errorf("list sockets: %w", err)
				}
				out = append(out, s...)
			}
		}
		return nil
	})
	return out, err
}

func openSockets(ctx context.Context, conn *nl.Socket, f rules.Family, proto rules.Proto) ([]sim.Socket, error) {
	msgs, err := dump(ctx, conn, unix.SOCK_DIAG_BY_FAMILY, diagRequest(f, proto))
	if absent(err) {
		return nil, nil
	}
	var out []sim.Socket
	for _, m := range msgs {
		s, err := liftSocket(proto, m.Data)
		if err != nil {
			return nil, err
		}
		out = append(out, s...)
	}
	return out, err
}

// Layout of struct inet_diag_req_v2 and struct inet_diag_msg of
// linux/inet_diag.h, and attributes that golang.org/x/sys/unix lacks.
const (
	diagRequestSize = 56
	diagMessageSize = 72
	diagMark        = 15 // INET_DIAG_MARK
	diagSockopt     = 22 // INET_DIAG_SOCKOPT, since Linux 5.11
	diagSKV6Only    = 11 // INET_DIAG_SKV6ONLY
)

func diagRequest(f rules.Family, proto rules.Proto) []byte {
	b := make([]byte, diagRequestSize)
	b[0], b[1] = byte(f), byte(proto)
	binary.NativeEndian.PutUint32(b[4:], ^uint32(0)) // sockets in every state
	return b
}

// liftSocket is the socket of a message; one of IPv6 that takes IPv4 too is two.
func liftSocket(proto rules.Proto, data []byte) ([]sim.Socket, error) {
	if len(data) < diagMessageSize {
		return nil, nl.ErrShort
	}
	a, err := nl.Decode(data[diagMessageSize:])
	if err != nil {
		return nil, err
	}
	const sport, dport, src, dst, uid = 4, 6, 8, 24, 64
	size := map[byte]int{unix.AF_INET: 4, unix.AF_INET6: 16}[data[0]]
	if size == 0 {
		return nil, nil
	}
	end := func(addr, port int) netip.AddrPort {
		ip, _ := netip.AddrFromSlice(data[addr : addr+size])
		return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(data[port:]))
	}
	const transparent = 1 << 5 // of struct inet_diag_sockopt
	s := sim.Socket{Proto: proto, Local: end(src, sport), UID: rules.UID(nl.Native32(data[uid : uid+4])), Mark: rules.Mark(a.Native32(diagMark)), NoGID: true}
	if options := a.Take(diagSockopt); len(options) > 0 {
		s.Transparent = options[0]&transparent != 0
	}
	if remote := end(dst, dport); remote.Port() != 0 {
		s.Remote = remote
	}
	only := a.Take(diagSKV6Only)
	if s.Remote.IsValid() || s.Local.Addr() != netip.IPv6Unspecified() || len(only) > 0 && only[0] != 0 {
		return []sim.Socket{s}, nil
	}
	both := s
	both.Local = netip.AddrPortFrom(netip.IPv4Unspecified(), s.Local.Port())
	return []sim.Socket{s, both}, nil
}
