// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/sys/unix"
)

// removeLastRule takes the last rule of a chain away, as any program could.
func removeLastRule(ns *scratch.Namespace, table, chain string) error {
	return ns.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		t := &nftables.Table{Name: table, Family: nftables.TableFamilyINet}
		rules, err := c.GetRules(t, &nftables.Chain{Name: chain, Table: t})
		if err != nil {
			return err
		}
		if len(rules) == 0 {
			return fmt.Errorf("chain %s holds no rule", chain)
		}
		if err := c.DelRule(rules[len(rules)-1]); err != nil {
			return err
		}
		return c.Flush()
	})
}

// snapshot is what a namespace holds of the kinds that weir writes, one line an
// object, as the kernel tells it.
func snapshot(ns *scratch.Namespace) ([]string, error) {
	var lines []string
	err := ns.Do(func() error {
		for _, d := range []struct {
			name     string
			protocol int
			request  uint16
			header   int // bytes of the request's fixed part
		}{
			{"table", unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE, 4},
			{"policy rule", unix.NETLINK_ROUTE, unix.RTM_GETRULE, 12},
			{"route", unix.NETLINK_ROUTE, unix.RTM_GETROUTE, unix.SizeofRtMsg},
			{"address", unix.NETLINK_ROUTE, unix.RTM_GETADDR, unix.SizeofIfAddrmsg},
		} {
			objects, err := list(d.protocol, d.request, d.header)
			if err != nil {
				return fmt.Errorf("list each %s: %w", d.name, err)
			}
			for _, o := range objects {
				lines = append(lines, d.name+" "+o)
			}
		}
		return nil
	})
	slices.Sort(lines)
	return lines, err
}

func list(protocol int, request uint16, header int) ([]string, error) {
	c, err := netlink.Dial(protocol, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	msgs, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(request), Flags: netlink.Request | netlink.Dump},
		Data:   make([]byte, header),
	})
	if err != nil {
		return nil, err
	}
	lines := make([]string, len(msgs))
	for i, m := range msgs {
		lines[i] = fmt.Sprintf("%x", withoutTimes(request, m.Data))
	}
	return lines, nil
}

// withoutTimes leaves out when a route or address was last changed or used.
func withoutTimes(request uint16, data []byte) []byte {
	header, times := unix.SizeofRtMsg, uint16(unix.RTA_CACHEINFO)
	switch request {
	case unix.RTM_GETROUTE:
	case unix.RTM_GETADDR:
		header, times = unix.SizeofIfAddrmsg, unix.IFA_CACHEINFO
	default:
		return data
	}
	attributes, err := netlink.UnmarshalAttributes(data[header:])
	if err != nil {
		return data
	}
	kept := slices.DeleteFunc(attributes, func(a netlink.Attribute) bool { return a.Type == times })
	rest, err := netlink.MarshalAttributes(kept)
	if err != nil {
		return data
	}
	return append(slices.Clone(data[:header]), rest...)
}
