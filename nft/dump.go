// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// tables is what the kernel holds of one owner's tables, and of other tables
// what a reader of weir's table should know.
type tables struct {
	own       *rules.Table
	leftover  bool
	tag       *Tag
	tagged    bool
	lock      *lockState // nil: there is none
	notOurs   []*NotOursError
	foreign   []ForeignChain
	otherTags []*Tag // of other tables that weir wrote
	alone     bool   // there is no other table
}

// request names a table of family inet in a dump request.
func request(table string, more func(*netlink.AttributeEncoder)) []byte {
	return familyTable{unix.NFPROTO_INET, table}.request(more)
}

func (t familyTable) request(more func(*netlink.AttributeEncoder)) []byte {
	return append(nfgen(t.family, 0), encode(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_TABLE_NAME, t.name)
		if more != nil {
			more(ae)
		}
	})...)
}

// readTables dumps the tables of one name and its helpers. The caller compares
// the generation before and after.
func (c *Conn) readTables(ctx context.Context, name string, with scope) (tables, error) {
	var t tables
	chains, err := c.chains(ctx)
	if err != nil {
		return t, err
	}
	heads, err := c.tableHeads(ctx, unix.AF_UNSPEC)
	if err != nil {
		return t, err
	}
	flags := flagsOf(heads)
	t.alone = true
	for of := range heads {
		t.alone = t.alone && isOwn(of, name)
	}
	if f, exists := flags[inet(reserved.Lock)]; exists {
		t.lock = &lockState{owned: f&tableOwner != 0, port: heads[inet(reserved.Lock)].owner}
	}
	for _, own := range []string{name, reserved.Next(name)} {
		f, exists := flags[inet(own)]
		if !exists {
			continue
		}
		table, tag, err := c.table(ctx, inet(own), f, chains[inet(own)], nil, with)
		if err != nil {
			return t, fmt.Errorf("table inet %s: %w", escape.Text(own), err)
		}
		ours := tag != nil && signed(tag)
		switch {
		case f&tableOwner != 0:
			holder := c.holder(ctx, heads[inet(own)].owner)
			t.notOurs = append(t.notOurs, &NotOursError{Table: own, Holder: &holder})
		case !ours:
			t.notOurs = append(t.notOurs, &NotOursError{Table: own, Lacks: "tag"})
		}
		if own == name {
			t.own, t.tagged = table, tag != nil
			if tag != nil {
				t.tag = parseTag(tag)
			}
		} else {
			t.leftover = ours
		}
	}
	t.foreign = foreignChains(chains, name)
	t.otherTags, err = c.tagsBeside(ctx, flags, name)
	return t, err
}

// tagsBeside are the tags of tables by other names that weir wrote too.
func (c *Conn) tagsBeside(ctx context.Context, flags map[familyTable]uint32, name string) ([]*Tag, error) {
	var out []*Tag
	for of := range flags {
		if of.family != unix.NFPROTO_INET || isOwn(of, name) {
			continue
		}
		s := &rules.Set{Name: reserved.Tag, Key: []rules.DataType{rules.MetaMark.Type()}}
		if err := c.readTag(ctx, of, s, 0); err != nil {
			return nil, fmt.Errorf("table inet %s: %w", of.name, err)
		}
		if tag := parseTag(s); tag != nil && signed(s) {
			out = append(out, tag)
		}
	}
	return out, nil
}

// isOwn reports whether a table is that of a name, or one of its helpers.
func isOwn(of familyTable, name string) bool {
	return of == inet(name) || of == inet(reserved.Next(name)) || of == inet(reserved.Lock)
}

type familyTable struct {
	family uint8
	name   string
}

func inet(table string) familyTable { return familyTable{unix.NFPROTO_INET, table} }

// tableHead is what the kernel lists of a table by itself.
type tableHead struct {
	flags  uint32
	owner  uint32 // the port id of the socket that it belongs to, 0 for none
	handle uint64 // tables that were made later have higher ones
}

// tableFlags are the flags of every table of a family, AF_UNSPEC for all.
func (c *Conn) tableFlags(ctx context.Context, family uint8) (map[familyTable]uint32, error) {
	heads, err := c.tableHeads(ctx, family)
	return flagsOf(heads), err
}

func flagsOf(heads map[familyTable]tableHead) map[familyTable]uint32 {
	flags := make(map[familyTable]uint32, len(heads))
	for key, h := range heads {
		flags[key] = h.flags
	}
	return flags
}

// tableHeads lists the tables of a family, AF_UNSPEC for all.
func (c *Conn) tableHeads(ctx context.Context, family uint8) (map[familyTable]tableHead, error) {
	heads := map[familyTable]tableHead{}
	err := nl.Dump(ctx, c.nf, uint16(nfType(unix.NFT_MSG_GETTABLE)), nfgen(family, 0), func(m netlink.Message) error {
		a, err := payload(m)
		if err != nil {
			return err
		}
		h := tableHead{flags: uint32(a.Number(unix.NFTA_TABLE_FLAGS)), handle: a.Number(nftaTableHandle)}
		if a.Has(nftaTableOwner) {
			h.owner = uint32(a.Number(nftaTableOwner))
		}
		heads[familyTable{m.Data[0], a.Text(unix.NFTA_TABLE_NAME)}] = h
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("nftables: list tables: %w", err)
	}
	return heads, nil
}

// table dumps one table; its tag's set, where there is one, stands apart. Handles
// takes the places of the rules by their handles, unless it is nil.
func (c *Conn) table(ctx context.Context, of familyTable, flags uint32, chains []*rules.Chain, handles map[uint64]RulePlace, with scope) (t *rules.Table, tag *rules.Set, err error) {
	t = &rules.Table{Name: of.name, Chains: chains, Dormant: flags&unix.NFT_TABLE_F_DORMANT != 0}
	declared, err := c.sets(ctx, of)
	if err != nil {
		return nil, nil, err
	}
	sets, known := declared.named, map[*rules.Set]bool{}
	if i := slices.IndexFunc(sets, isTagSet); i >= 0 {
		tag = sets[i]
		sets = slices.Delete(sets, i, i+1)
		count := declared.counts[tag.Name]
		if err := c.readTag(ctx, of, tag, count); err != nil {
			return nil, nil, err
		}
		known[tag] = count > 0 && uint64(len(tag.Elements)) == count
	}
	t.Sets = sets
	if with.elements != nil && with.elements(tag) {
		if tag != nil && signed(tag) {
			if !known[tag] {
				tag.Elements = nil // what weir did not write there is drift
			}
			sets = append(slices.Clip(sets), tag)
		}
		for _, s := range sets {
			count, told := declared.counts[s.Name]
			if known[s] || told && count == 0 && !s.Interval { // of half an interval the kernel counts none
				continue
			}
			isKnown, err := c.readWritten(ctx, of, s, count, with.written)
			if err == nil && !isKnown {
				err = c.readElements(ctx, of, s)
			}
			if err != nil {
				return nil, nil, err
			}
		}
	}
	if !with.rules {
		return t, tag, nil
	}
	if err := c.rules(ctx, of, t, declared.byName, handles); err != nil {
		return nil, nil, err
	}
	others, err := c.others(ctx, of)
	t.Others = append(t.Others, others...)
	return t, tag, err
}

// others are the stateful objects and flowtables of a table, in words.
func (c *Conn) others(ctx context.Context, of familyTable) ([]string, error) {
	var out []string
	for _, k := range []struct {
		msg           int
		kind          string
		table_, named uint16
	}{
		{unix.NFT_MSG_GETOBJ, "object", unix.NFTA_OBJ_TABLE, unix.NFTA_OBJ_NAME},
		{unix.NFT_MSG_GETFLOWTABLE, "flowtable", 1, 2}, // NFTA_FLOWTABLE_TABLE, _NAME
	} {
		msgs, err := dump(ctx, c.nf, uint16(nfType(k.msg)), of.request(nil))
		if err != nil {
			return nil, fmt.Errorf("list %ss: %w", k.kind, err)
		}
		for _, m := range msgs {
			a, err := payload(m)
			if err != nil {
				return nil, err
			}
			if of == (familyTable{m.Data[0], a.Text(k.table_)}) {
				out = append(out, k.kind+" "+a.Text(k.named))
			}
		}
	}
	return once(out, func(name string) string { return name }), nil // listed again as chains are
}

// families are those whose packets are of one.
var families = map[uint8]rules.Family{unix.NFPROTO_IPV4: rules.IPv4, unix.NFPROTO_IPV6: rules.IPv6}

var familyNames = map[uint8]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_NETDEV: "netdev"}
