// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/rules"
)

// Feature is a part of nftables that a kernel may lack.
type Feature struct {
	Name     string
	Option   string // of the kernel's configuration, or the version that first had it
	For      string // the part of weir that needs it
	Optional bool   // weir does without it, or with what needs it alone missing

	table *rules.Table // is refused where the feature is missing, or
	flags uint32       // a table of these flags is, or
	typ   int          // a message of this type for a table that is not there
}

// Trial is what became of a feature: Err is nil where the kernel has it.
type Trial struct {
	Feature
	Err error
}

const trialTable = "weir-trial"

// Message and flag that golang.org/x/sys/unix lacks, from
// linux/netfilter/nf_tables.h.
const (
	nftMsgDestroyTable = 26 // NFT_MSG_DESTROYTABLE
	tablePersist       = 4  // NFT_TABLE_F_PERSIST
)

// Features are what the modes and the commands need of nftables, and what they
// use where it is there.
func Features() []Feature {
	port := rules.Port(15001)
	mark := rules.CTMark.SetFromMasked(rules.MetaMark, 0xfff)
	return []Feature{
		{Name: "tables of family inet", Option: "CONFIG_NF_TABLES_INET", For: "everything", table: trial(nil)},
		{Name: "sets of ranges", Option: "CONFIG_NF_TABLES", For: "ports and prefixes", table: withSet(rules.TCPDport.Type())},
		{Name: "sets of ranges over several fields", Option: "Linux 5.6 or later", For: "concatenated keys", Optional: true, table: withSet(rules.IPDaddr.Type(), rules.TCPDport.Type())},
		{Name: "chains of type nat", Option: "CONFIG_NFT_NAT", For: "capture by redirect", table: trial(&rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT})},
		{Name: "chains of type route", Option: "CONFIG_NF_TABLES_INET", For: "tproxy and ambient pods", table: trial(&rules.Base{Type: rules.RouteType, Hook: rules.Output, Priority: rules.PriorityMangle})},
		{Name: "redirect", Option: "CONFIG_NFT_REDIR", For: "capture by redirect", table: trial(nil, rules.L4Proto.Is(rules.TCP), rules.RedirectTo(port))},
		{Name: "tproxy", Option: "CONFIG_NFT_TPROXY", For: "inbound.via tproxy", Optional: true, table: trial(nil, rules.L4Proto.Is(rules.TCP), rules.TProxy{Port: port})},
		{Name: "socket", Option: "CONFIG_NFT_SOCKET", For: "inbound.via tproxy", Optional: true, table: trial(nil, rules.SocketTransparent.Is(true))},
		{Name: "socket cgroupv2", Option: "CONFIG_NFT_SOCKET of Linux 5.13 or later", For: "owners by cgroup", Optional: true, table: trial(nil, opaqueExprs(&expr.Socket{Key: expr.SocketKeyCgroupv2, Level: 1, Register: firstRegister}))},
		{Name: "fib", Option: "CONFIG_NFT_FIB_INET", For: "inbound.via tproxy, host traffic of ambient nodes", Optional: true, table: trial(nil, rules.FibDaddr.Type().Is(2))},
		{Name: "ct mark", Option: "CONFIG_NFT_CT, CONFIG_NF_CONNTRACK_MARK", For: "tproxy and ambient pods", table: trial(nil, mark)},
		{Name: "ct zone", Option: "CONFIG_NFT_CT, CONFIG_NF_CONNTRACK_ZONES", For: "capture of DNS", table: trial(nil, rules.CTZone.Set(1))},
		{Name: "notrack", Option: "CONFIG_NFT_CT", For: "capture without conntrack", Optional: true, table: trial(nil, rules.NoTrack{})},
		{Name: "meta skuid", Option: "CONFIG_NF_TABLES", For: "owners by user and group", table: trial(nil, rules.SkUID.Is(1337))},
		{Name: "counter", Option: "CONFIG_NF_TABLES (CONFIG_NFT_COUNTER before Linux 5.18)", For: "everything", table: trial(nil, rules.Counter{})},
		{Name: "snat", Option: "CONFIG_NFT_NAT", For: "probes of ambient nodes", Optional: true, table: trial(nil, rules.L4Proto.Is(rules.TCP), rules.SNAT{To: netip.AddrFrom4([4]byte{169, 254, 7, 127})})},
		{Name: "dnat", Option: "CONFIG_NFT_NAT", For: "dns.to", Optional: true, table: trial(&rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT}, rules.NFProto.Is(rules.IPv4), rules.DNAT{To: netip.AddrFrom4([4]byte{127, 0, 0, 1})})},
		{Name: "nftrace with a limit", Option: "CONFIG_NFT_LIMIT", For: "weir trace", Optional: true, table: trial(nil, limitNode(1), traceNode())},
		{Name: "tables that go with their owner", Option: "Linux 5.12 or later", For: "the lock of applies, weir trace", Optional: true, flags: tableOwner},
		{Name: "tables that outlive their owner", Option: "Linux 6.9 or later", For: "nothing yet", Optional: true, flags: tableOwner | tablePersist},
		{Name: "destroy commands", Option: "Linux 6.3 or later", For: "nothing yet", Optional: true, typ: nftMsgDestroyTable},
	}
}

// trial is a table with a base chain, where there is one, and a rule that no
// packet reaches: what the kernel lacks it refuses all the same.
func trial(base *rules.Base, nodes ...rules.Node) *rules.Table {
	t := &rules.Table{Name: trialTable}
	if base != nil {
		t.Chains = append(t.Chains, &rules.Chain{Name: "base", Base: base})
	}
	if len(nodes) > 0 {
		c := &rules.Chain{Name: "unreached"}
		c.Add("", nodes...)
		t.Chains = append(t.Chains, c)
	}
	return t
}

func withSet(key ...rules.DataType) *rules.Table {
	return &rules.Table{Name: trialTable, Sets: []*rules.Set{{Name: "ranges", Key: key, Interval: true}}}
}

// opaqueExprs are expressions that the model has no node for.
func opaqueExprs(exprs ...expr.Any) rules.Opaque {
	var list []expression
	for _, e := range exprs {
		list = append(list, expression{raw: marshal(e)})
	}
	return opaque(list)
}

// traceNode has the kernel tell what becomes of the packet: `meta nftrace set 1`.
func traceNode() rules.Node {
	return opaqueExprs(&expr.Immediate{Register: firstRegister, Data: []byte{1}},
		&expr.Meta{Key: expr.MetaKeyNFTRACE, SourceRegister: true, Register: firstRegister})
}

// limitNode passes at most so many packets a second.
func limitNode(rate uint32) rules.Node {
	return opaqueExprs(&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(rate), Unit: expr.LimitTimeSecond, Burst: rate})
}

// Try tries each feature in the connection's namespace and takes it out again.
// That can load modules of the kernel and switch conntrack on: a scratch
// namespace is the place for it. The error is one that kept it from trying.
func (c *Conn) Try(ctx context.Context, features []Feature) ([]Trial, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Trial
	for _, f := range features {
		err := c.try(ctx, f)
		if errors.Is(err, ErrNotPermitted) || ctx.Err() != nil {
			return nil, err
		}
		out = append(out, Trial{f, err})
	}
	return out, nil
}

func (c *Conn) try(ctx context.Context, f Feature) error {
	add, remove := &batch{}, &batch{}
	l := lower(add, &rules.Table{Name: trialTable})
	switch {
	case f.typ != 0:
		l.add(change{typ: f.typ, where: f.Name, kind: "table", data: l.object(nil)})
		return c.commit(ctx, add, 0)
	case f.flags != 0:
		l.add(newTable(l, f.flags, netlink.Create))
	default:
		l = lower(add, f.table)
		l.addTable()
		l.addAll(f.table, nil)
	}
	if err := c.commit(ctx, add, 0); err != nil {
		return err
	}
	lower(remove, &rules.Table{Name: trialTable}).deleteTable()
	if err := c.commit(ctx, remove, 0); err != nil {
		return fmt.Errorf("take the trial of %s away: %w", f.Name, err)
	}
	return nil
}
