// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The routing table and the nftables table of a namespace that catches everything.
const (
	catchAllRoutes   = 100
	catchAllPriority = 1
	catchAllTable    = "scratch"
)

// CatchAll makes the namespace play the rest of the world: TCP and UDP that arrives on one of the
// links, for whatever address and port, is delivered to port here, and is answered from the address
// and port that were asked. It can be called once.
func (n *Namespace) CatchAll(port uint16, links ...string) error {
	for _, world := range []netip.Prefix{
		netip.PrefixFrom(netip.IPv4Unspecified(), 0),
		netip.PrefixFrom(netip.IPv6Unspecified(), 0),
	} {
		for _, link := range links {
			err := n.AddRule(Rule{IPv6: world.Addr().Is6(), IIf: link, Table: catchAllRoutes, Priority: catchAllPriority})
			if err != nil {
				return fmt.Errorf("catch all: %w", err)
			}
		}
		if err := n.AddRoute(Route{Dst: world, Local: true, Table: catchAllRoutes}); err != nil {
			return fmt.Errorf("catch all: %w", err)
		}
	}
	if err := n.redirectArriving(port, links); err != nil {
		return fmt.Errorf("catch all: redirect: %w", err)
	}
	return nil
}

// redirectArriving turns the destination of new flows from links into an address of the namespace
// itself. Delivery by the local route alone would do for the packet that arrives, but not for its
// answer: the kernel does not send from an address that only another table calls local.
func (n *Namespace) redirectArriving(port uint16, links []string) error {
	return n.Do(func() error {
		c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(fitsSelect))
		if err != nil {
			return err
		}
		defer c.CloseLasting()
		table := c.AddTable(&nftables.Table{Name: catchAllTable, Family: nftables.TableFamilyINet})
		arriving := c.AddChain(&nftables.Chain{
			Name: "arriving", Table: table,
			Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
		})
		for _, link := range links {
			for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
				c.AddRule(&nftables.Rule{Table: table, Chain: arriving, Exprs: []expr.Any{
					&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
					&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: paddedName(link)},
					&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
					&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
					&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
					&expr.Redir{RegisterProtoMin: 1},
				}})
			}
		}
		return c.Flush()
	})
}

// paddedName is a link's name in the kernel's length; a shorter one would match as a prefix.
func paddedName(link string) []byte {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, link)
	return name
}

// fitsSelect refuses a socket that the nftables library would panic over: it waits for answers with
// select(2), which knows no descriptor past 1023.
func fitsSelect(c *netlink.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return controlled(raw, func(fd int) error {
		if fd >= unix.FD_SETSIZE {
			return fmt.Errorf("netlink socket: descriptor %d: %w (want one below %d)", fd, unix.EMFILE, unix.FD_SETSIZE)
		}
		return nil
	})
}
