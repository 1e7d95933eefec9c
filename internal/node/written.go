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
		w.pod.accept(nil, "")
		w.uncount(ctx)
		w.pod.set(func(s *Status) { s.State, s.Wrong, s.Mode = StateLeft, nil, "" })
		return keep.Result{Generation: v.Generation}
	case v.Clean():
		live, _, err := c.Live(ctx)
		if err != nil {
			return keep.Result{Err: err}
		}
		w.pod.accept(&live.State, live.Tag.Version)
		w.pod.set(func(s *Status) { s.Mode = "as written" })
		result := found(v)
		result.Generation = v.Generation
		w.count(ctx, live.State, &result)
		return result
	}
	result := found(v)
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
