// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"cmp"
	"context"
	"fmt"

	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

func (c *Conn) readElements(ctx context.Context, of familyTable, s *rules.Set) error {
	msgs, err := dump(ctx, c.nf, uint16(nfType(unix.NFT_MSG_GETSETELEM)), of.request(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
	}))
	if err != nil {
		return fmt.Errorf("set %s: list elements: %w", s.Name, err)
	}
	if err := liftSetElements(s, msgs); err != nil {
		return fmt.Errorf("set %s: %w", s.Name, err)
	}
	return nil
}

// liftSetElements gives a set the elements that a dump lists. A hash table that
// the kernel is resizing is listed from its start again (seen on 6.18); where the
// list goes on in a further message, that begins at the place of the other order,
// and passes over as many elements as it repeats.
func liftSetElements(s *rules.Set, msgs []netlink.Message) error {
	parts := make([][]element, 0, len(msgs))
	listed := 0
	for _, m := range msgs {
		a, err := payload(m)
		if err != nil {
			return err
		}
		part, err := liftElements(a.Take(unix.NFTA_SET_ELEM_LIST_ELEMENTS))
		if err != nil {
			return err
		}
		if len(part) > 0 {
			parts = append(parts, part)
		}
		listed += len(part)
	}
	all := pointers(parts...)
	if !s.Interval {
		all = once(all, func(e *element) string { return string(e.key) })
		// Packets add to a dynamic set at any time: it is never listed at one moment.
		if len(all) < listed && len(parts) > 1 && !s.Dynamic {
			return errGeneration
		}
	}
	joinListed(s, all)
	return nil
}

// pointers are those to elements, which are too large to be moved about.
func pointers(parts ...[]element) []*element {
	count := 0
	for _, part := range parts {
		count += len(part)
	}
	all := make([]*element, 0, count)
	for _, part := range parts {
		for i := range part {
			all = append(all, &part[i])
		}
	}
	return all
}

// element is an element as the kernel lists it.
type element struct {
	key, keyEnd []byte
	end         bool // the value after an interval's last
	counts      bool
	quota       uint64 // 0: none
	other       string // what the model does not know of it
	rules.Element
}

func liftElements(b []byte) (out []element, err error) {
	n := 0
	if err := nl.Walk(b, func(uint16, []byte) { n++ }); err != nil {
		return nil, err
	}
	out = make([]element, 0, n)
	var failed error
	err = nl.Walk(b, func(_ uint16, data []byte) {
		e, err := liftElement(data)
		failed = cmp.Or(failed, err)
		out = append(out, e)
	})
	return out, cmp.Or(err, failed)
}

func liftElement(b []byte) (e element, err error) {
	err = nl.Walk(b, func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			e.key = dataValue(data)
		case nftaSetElemKeyEnd:
			e.keyEnd = dataValue(data)
		case unix.NFTA_SET_ELEM_FLAGS:
			flags := nl.BigEndian(data)
			e.end = flags&unix.NFT_SET_ELEM_INTERVAL_END != 0
			switch {
			case flags&^(unix.NFT_SET_ELEM_INTERVAL_END|elemCatchall) != 0:
				e.other = fmt.Sprintf("flags 0x%x", flags)
			case flags&elemCatchall != 0:
				e.other = "a catch-all element"
			}
		case unix.NFTA_SET_ELEM_DATA:
			var ok bool
			if e.Verdict, ok = liftVerdict(data); !ok {
				e.other = "data that is not a verdict"
			}
		case unix.NFTA_SET_ELEM_TIMEOUT:
			e.Timeout = milliseconds(nl.BigEndian(data))
		case unix.NFTA_SET_ELEM_EXPIRATION:
			e.Expires = milliseconds(nl.BigEndian(data))
		case unix.NFTA_SET_ELEM_USERDATA:
			e.Comment = userText(data, userdata.NFTNL_UDATA_SET_ELEM_COMMENT)
		case unix.NFTA_SET_ELEM_EXPR:
			e.expression(data)
		case nftaSetElemPad:
		default:
			e.other = "an object or several expressions"
		}
	})
	return e, err
}

// expression is the counter or the quota of an element.
func (e *element) expression(data []byte) {
	if a, err := nl.Decode(data); err == nil && a.Text(unix.NFTA_EXPR_NAME) == "quota" {
		if e.quota = liftQuota(a); e.quota > 0 {
			return
		}
	}
	if e.Counter, e.counts = liftRule([][]byte{data}, nil, 0)[0].(rules.Counter); !e.counts {
		e.other = "an expression that is neither a counter nor a quota"
	}
}
