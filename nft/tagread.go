// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

const (
	keysAtOnce  = 64      // that one request asks for: their answers must fit the socket's buffer
	maxTagLines = 1 << 16 // of one tag that are read
)

// readTag reads the elements of a tag by their keys, which count from 1, up to the
// first that is not there. Any program may have a set by the tag's name, with as
// many elements in it as it likes: it is dumped only where the kernel counts few, which
// is 0 where it does not count.
func (c *Conn) readTag(ctx context.Context, of familyTable, s *rules.Set, count uint64) error {
	if 0 < count && count <= keysAtOnce {
		err := c.readElements(ctx, of, s)
		s.Elements = tagLines(s.Elements)
		return err
	}
	shape := Tag{}.set()
	for next := 1; next <= maxTagLines; next += keysAtOnce {
		var entries []byte
		for i := range keysAtOnce {
			entries = appendElement(entries, shape, tagLine(next+i, ""))
		}
		err := c.getElements(ctx, of, s.Name, entries, func(list []element) error {
			joinElements(s, list)
			return nil
		})
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return nil // no more lines, no such set, or none that has such keys
		case err != nil:
			return fmt.Errorf("set %s: read the tag: %w", s.Name, err)
		case !signed(s):
			return nil // another program's
		}
	}
	return nil
}

// tagLines are those of a dumped set that readTag would find by their keys.
func tagLines(all []rules.Element) []rules.Element {
	slices.SortFunc(all, byKey)
	for i, e := range all {
		if !slices.Equal(e.Key, tagLine(i+1, "").Key) {
			return all[:i]
		}
	}
	return all
}

// getElements asks for elements by their keys, and visits what the kernel has of
// them, up to the first that is not there: then the error is ENOENT.
func (c *Conn) getElements(ctx context.Context, of familyTable, set string, entries []byte, visit func([]element) error) error {
	return nl.Permission(c.nf.Execute(ctx, getElements(of, set, entries), func(m netlink.Message) error {
		a, err := payload(m)
		if err != nil {
			return err
		}
		list, err := liftElements(a.Take(unix.NFTA_SET_ELEM_LIST_ELEMENTS))
		if err != nil {
			return err
		}
		return visit(list)
	}))
}

// getElements is a request for elements of a set by their keys, which the kernel
// answers with a message each, and an acknowledgement.
func getElements(of familyTable, set string, entries []byte) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: nfType(unix.NFT_MSG_GETSETELEM), Flags: netlink.Request | netlink.Acknowledge},
		Data: of.request(func(ae *netlink.AttributeEncoder) {
			ae.String(unix.NFTA_SET_ELEM_LIST_SET, set)
			ae.Bytes(unix.NLA_F_NESTED|unix.NFTA_SET_ELEM_LIST_ELEMENTS, entries)
		}),
	}
}
