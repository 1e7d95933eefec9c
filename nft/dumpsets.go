// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/nftables/userdata"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// declaredSets are the declarations of a table's sets.
type declaredSets struct {
	named  []*rules.Set
	byName map[string]*rules.Set // all, by the name that lookups use
	counts map[string]uint64     // of elements, as kernels since about 6.16 tell; else there is none
}

// sets dumps the declarations of a table's sets. An anonymous set's own name is
// empty, and its elements are read: they are a part of the rule that looks them up.
func (c *Conn) sets(ctx context.Context, of familyTable) (d declaredSets, err error) {
	msgs, err := dump(ctx, c.nf, uint16(nfType(unix.NFT_MSG_GETSET)), of.request(nil))
	if err != nil {
		return d, fmt.Errorf("list sets: %w", err)
	}
	d.byName, d.counts = map[string]*rules.Set{}, map[string]uint64{}
	for _, m := range msgs {
		a, err := payload(m)
		if err != nil {
			return d, err
		}
		isAnonymous := slices.Clone(a).Number(unix.NFTA_SET_FLAGS)&unix.NFT_SET_ANONYMOUS != 0
		s := liftSet(a)
		d.byName[s.Name] = s
		if !isAnonymous {
			d.named = append(d.named, s)
			if a.Has(nftaSetCount) {
				d.counts[s.Name] = a.Number(nftaSetCount)
			}
			continue
		}
		if err := c.readElements(ctx, of, s); err != nil {
			return d, err
		}
		s.Name = ""
	}
	return d, nil
}

// liftSet is the declaration of a set. What the model does not know of it is
// said in Others.
func liftSet(a nl.Attributes) *rules.Set {
	flags := uint32(a.Number(unix.NFTA_SET_FLAGS))
	s := &rules.Set{
		Name:     a.Text(unix.NFTA_SET_NAME),
		Interval: flags&unix.NFT_SET_INTERVAL != 0,
		Dynamic:  flags&unix.NFT_SET_EVAL != 0,
		Expires:  flags&unix.NFT_SET_TIMEOUT != 0,
		Timeout:  milliseconds(a.Number(unix.NFTA_SET_TIMEOUT)),
		Sweep:    milliseconds(a.Number(unix.NFTA_SET_GC_INTERVAL)),
		Verdicts: flags&unix.NFT_SET_MAP != 0,
	}
	magic, length := uint32(a.Number(unix.NFTA_SET_KEY_TYPE)), uint32(a.Number(unix.NFTA_SET_KEY_LEN))
	s.Key = keyTypes(magic)
	if _, want := keyLayout(s.Key); len(s.Key) == 0 || want != length {
		s.Others = fmt.Sprintf("key of type %d and %d bytes", magic, length)
		s.Key = nil
	}
	if s.Verdicts && a.Number(unix.NFTA_SET_DATA_TYPE) != verdictDataType {
		s.Others += " data that is not a verdict"
	}
	const known = unix.NFT_SET_ANONYMOUS | unix.NFT_SET_CONSTANT | unix.NFT_SET_INTERVAL | unix.NFT_SET_MAP |
		unix.NFT_SET_TIMEOUT | unix.NFT_SET_EVAL | setConcat | setExpr
	if other := flags &^ known; other != 0 {
		s.Others += fmt.Sprintf(" flags 0x%x", other)
	}
	if flags&(unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT) == unix.NFT_SET_CONSTANT {
		s.Others += " flags constant"
	}
	if desc, err := nl.Decode(a.Take(unix.NFTA_SET_DESC)); err == nil && flags&unix.NFT_SET_ANONYMOUS == 0 {
		s.Size = uint32(desc.Number(unix.NFTA_SET_DESC_SIZE))
	}
	s.Others += liftSetExpressions(a, s)
	s.Live = userText(a.Take(unix.NFTA_SET_USERDATA), userdata.NFTNL_UDATA_SET_COMMENT) == reserved.LiveComment
	return s
}

// milliseconds are a time of the kernel's, which has none longer than a Duration
// can be.
func milliseconds(n uint64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
}

// liftSetExpressions notes what each element of the set has, and returns what the model
// does not know of it.
func liftSetExpressions(a nl.Attributes, s *rules.Set) (others string) {
	if a.Has(nftaSetExpressions) {
		return " several expressions an element"
	}
	raw := a.Take(nftaSetExpr)
	if raw == nil {
		return ""
	}
	e, err := nl.Decode(raw)
	name := e.Text(unix.NFTA_EXPR_NAME)
	switch {
	case err == nil && name == "counter":
		s.Counters = true
		return ""
	case err == nil && name == "quota":
		if s.Quota = liftQuota(e); s.Quota > 0 {
			return ""
		}
	}
	return " " + name + " an element"
}

// liftQuota is how many bytes a quota lets through, 0 where it is of another kind.
func liftQuota(e nl.Attributes) uint64 {
	a, err := nl.Decode(e.Take(unix.NFTA_EXPR_DATA))
	bytes, flags := a.Number(unix.NFTA_QUOTA_BYTES), a.Number(unix.NFTA_QUOTA_FLAGS)
	const over = 1 // NFT_QUOTA_F_INV
	if err != nil || flags&over != 0 {
		return 0
	}
	return bytes
}

// keyTypes are the parts of a key by nft's number, none where one is not known.
func keyTypes(magic uint32) []rules.DataType {
	var types []rules.DataType
	for ; magic != 0; magic >>= magicTypeBits {
		d, ok := typeByMagic(magic & (1<<magicTypeBits - 1))
		if !ok {
			return nil
		}
		types = append(types, d)
	}
	slices.Reverse(types)
	return types
}

// setTypes are the data types that a set may have as a key.
func setTypes() (all []rules.DataType) {
	for d := rules.DataType(1); d.Len() > 0; d++ {
		if d.String() != "" {
			all = append(all, d)
		}
	}
	return all
}

func typeByMagic(magic uint32) (rules.DataType, bool) {
	for _, d := range setTypes() {
		if m, _ := d.Magic(); m == magic {
			return d, true
		}
	}
	return 0, false
}
