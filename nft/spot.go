package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// maxSpotChecks is how many changed elements are read back one by one; after
// more the sets are dumped.
const maxSpotChecks = 64

func countElements(changes []rules.SetChange) int {
	n := 0
	for _, c := range changes {
		n += len(c.Add) + len(c.Delete)
	}
	return n
}

// elementsHold reads the changed elements back, at the generation of our own
// commit, or at one since which nothing of ours was changed: everything else is as it was read before. That they do not hold is no
// proof: the look-up of older kernels misses an element where one interval ends
// and the next starts (seen on 5.10 and 6.1, not on 6.18).
func (w *work) elementsHold(ctx context.Context, changes []rules.SetChange) (bool, error) {
	for _, c := range changes {
		for _, e := range c.Add {
			if ok, err := w.conn.holds(ctx, w.Table, c.Set, e); err != nil || !ok {
				return false, err
			}
		}
		for _, e := range c.Delete {
			if slices.ContainsFunc(c.Add, func(a rules.Element) bool { return startAlike(a, e) }) {
				continue // it is replaced: its start is there
			}
			if still, err := w.conn.holds(ctx, w.Table, c.Set, e); err != nil || still {
				return false, err
			}
		}
	}
	g, err := w.conn.generation(ctx)
	if err == nil && g != w.generation && !w.conn.quiet(ctx, w.generation, g) {
		err = errGeneration
	}
	w.generation = g
	return true, err
}

func startAlike(a, b rules.Element) bool {
	return slices.EqualFunc(a.Key, b.Key, func(x, y rules.Range) bool { return x.Lo == y.Lo })
}

// holds asks for one element, whose every part must come back as it was sent.
func (c *Conn) holds(ctx context.Context, table string, s *rules.Set, e rules.Element) (bool, error) {
	entries, err := list(appendElement(nil, s, e))
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		ok, err := c.holdsEntry(ctx, table, s, entry)
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

func (c *Conn) holdsEntry(ctx context.Context, table string, s *rules.Set, entry []byte) (bool, error) {
	one := attribute{typ: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, data: entry}.appendTo(nil)
	msgs, err := execute(ctx, c.nf, netlink.Message{
		Header: netlink.Header{Type: nfType(unix.NFT_MSG_GETSETELEM), Flags: netlink.Request},
		Data: request(table, func(ae *netlink.AttributeEncoder) {
			ae.String(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
			ae.Bytes(unix.NLA_F_NESTED|unix.NFTA_SET_ELEM_LIST_ELEMENTS, one)
		}),
	})
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("set %s: look an element up: %w", s.Name, err)
	}
	sent, err := liftElement(entry)
	if err != nil {
		return false, err
	}
	for _, m := range msgs {
		a, err := payload(m)
		if err != nil {
			return false, err
		}
		got, err := liftElements(a.Take(unix.NFTA_SET_ELEM_LIST_ELEMENTS))
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(got, func(g element) bool { return sent.same(g) }) {
			return true, nil
		}
	}
	return false, nil
}

func (e element) same(g element) bool {
	return slices.Equal(e.key, g.key) && slices.Equal(e.keyEnd, g.keyEnd) && e.end == g.end &&
		e.Comment == g.Comment && e.Verdict == g.Verdict && e.Timeout == g.Timeout
}
