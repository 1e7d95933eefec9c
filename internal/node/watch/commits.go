// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"fmt"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"golang.org/x/sys/unix"
)

// commits gathers nftables' notifications: those of a commit end with its generation.
type commits struct {
	to   Listener
	open map[ID]*Change
}

const (
	nfHeader  = 4  // struct nfgenmsg of linux/netfilter/nfnetlink.h
	maxTables = 16 // of a change that are told
)

var nftObjects = map[uint16]Object{
	unix.NFT_MSG_NEWTABLE: Table, unix.NFT_MSG_DELTABLE: Table,
	unix.NFT_MSG_NEWCHAIN: Chain, unix.NFT_MSG_DELCHAIN: Chain,
	unix.NFT_MSG_NEWRULE: Rule, unix.NFT_MSG_DELRULE: Rule,
	unix.NFT_MSG_NEWSET: Set, unix.NFT_MSG_DELSET: Set,
	unix.NFT_MSG_NEWSETELEM: Element, unix.NFT_MSG_DELSETELEM: Element,
}

func (c *commits) take(id ID, m netlink.Message) {
	if len(m.Data) < nfHeader || uint16(m.Header.Type)>>8 != unix.NFNL_SUBSYS_NFTABLES {
		return
	}
	a, err := nl.Decode(m.Data[nfHeader:])
	if err != nil {
		return
	}
	now := c.open[id]
	if now == nil {
		now = &Change{ID: id, Tables: map[string]bool{}}
		c.open[id] = now
	}
	kind := uint16(m.Header.Type) & 0xff
	if kind != unix.NFT_MSG_NEWGEN {
		if object, known := nftObjects[kind]; known {
			now.Objects = with(now.Objects, object)
		}
		if len(now.Tables) < maxTables { // the table is the first attribute of every message
			now.Tables[fmt.Sprintf("%d %s", m.Data[0], a.Text(unix.NFTA_TABLE_NAME))] = true
		}
		return
	}
	delete(c.open, id)
	now.Generation = uint32(a.Number(unix.NFTA_GEN_ID))
	now.PID = uint32(a.Number(unix.NFTA_GEN_PROC_PID))
	now.Writer = a.Text(unix.NFTA_GEN_PROC_NAME)
	now.Port = m.Header.PID
	c.to.Changed(*now)
}
