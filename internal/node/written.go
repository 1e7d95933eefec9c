// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
)

// written looks at a namespace of which it is not known what it should be: what weir wrote there, such as by
// an init container, is to stay until weir changes it.
func (w *look) written(ctx context.Context) keep.Result {
	w.pod.need(nil)
	c, err := capture.OfTable(w.ns, modes.DefaultTable, capture.Options{Conflicts: w.order.Foreign})
	if err != nil {
		return keep.Result{Err: err}
	}
	defer c.Close()
	v, err := c.Verify(ctx)
	if err != nil {
		return keep.Result{Err: err}
	}
	accepted := w.pod.acceptedState()
	switch {
	case v.Absent && (accepted == nil || w.byWeir()):
		if accepted != nil { // removed on purpose
			w.forget()
		}
		w.pod.accept(nil, "")
		w.uncount(ctx)
		w.pod.set(func(s *Status) { s.State, s.Wrong, s.Mode = StateLeft, nil, "" })
		return keep.Result{Generation: v.Generation}
	case v.Clean():
		live, _, err := c.Live(ctx)
		if err != nil {
			return keep.Result{Err: err}
		}
		result := found(v)
		if first := w.otherThanFirst(live.Tag.Hash); first != "" {
			result.Differences = []string{rules.Difference{Where: "table inet " + modes.DefaultTable, Want: "state " + first + ", which was here first",
				Have: "state " + live.Tag.Hash + ", with a tag that another program than weir wrote"}.String()}
			return w.asFirst(ctx, accepted, result)
		}
		w.note(live.Tag.Hash)
		w.pod.accept(&live.State, live.Tag.Version)
		w.pod.set(func(s *Status) { s.Mode = "as written" })
		result.Generation = v.Generation
		w.count(ctx, live.State, &result)
		return result
	}
	return w.asFirst(ctx, accepted, found(v))
}

// otherThanFirst is the hash of what was written into a pod first, where it holds another state now that weir is not known
// to have written: a pod that may change its rules can write a tag too. "" otherwise.
func (w *look) otherThanFirst(hash string) string {
	known := w.pod.snapshot()
	if !known.IsPod() || w.pod.acceptedState() != nil && w.byWeir() {
		return ""
	}
	if first := w.Written.Noted(known.Container); first != hash {
		return first
	}
	return ""
}

// asFirst puts back what was accepted, where that is ordered.
func (w *look) asFirst(ctx context.Context, accepted *rules.State, result keep.Result) keep.Result {
	if accepted == nil {
		w.pod.set(func(s *Status) { s.Mode = "" })
	}
	if accepted == nil || !w.order.Heal {
		return result
	}
	again, err := capture.OfState(w.ns, *accepted, capture.Options{WriteSysctls: true})
	if err != nil {
		result.Err = err
		return result
	}
	defer again.Close()
	w.heal(ctx, again, &result)
	return result
}

// byWeir reports whether nothing else than weir is known to have changed the namespace.
func (w *look) byWeir() bool {
	return len(w.order.Writers) > 0 && !slices.ContainsFunc(w.order.Writers, func(name string) bool { return !strings.HasPrefix(name, "weir") })
}
