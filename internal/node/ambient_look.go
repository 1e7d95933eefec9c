// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/mesh"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/modes"
)

// ambient looks at the namespace of a pod of the ambient mesh.
func (w *look) ambient(ctx context.Context, d mesh.Decision, described mesh.Pod) (result keep.Result) {
	addresses, err := addressesIn(ctx, w.ns)
	if err != nil {
		return keep.Result{Err: err}
	}
	d.Outcome, d.Config = mesh.Captured, w.Ambient.Settings.Config(described)
	w.pod.set(func(s *Status) { s.Mode = d.Config.Mode })
	look := func() { result = w.captured(ctx, d, described.Spec != nil) }
	present, err := w.hasTable(ctx)
	if err != nil {
		return keep.Result{Err: err}
	}
	if present { // healed whether or not the proxy is there: it may be starting again
		look()
	}
	limited, cancel := context.WithTimeout(ctx, enrolTime)
	defer cancel()
	err = w.Ambient.Enrol(limited, w.Ambient.pod(w.Agent, described, addresses), w.ns, func(context.Context) error {
		if !present {
			look()
		}
		return result.Err
	})
	if err != nil {
		result.Err = err
	}
	return result
}

func (w *look) hasTable(ctx context.Context) (bool, error) {
	c, err := capture.OfTable(w.ns, modes.DefaultTable, capture.Options{})
	if err != nil {
		return false, err
	}
	defer c.Close()
	live, _, err := c.Live(ctx)
	return err == nil && live.State.Table != nil, err
}

// leaveAmbient takes a pod out of the mesh that lives on.
func (w *look) leaveAmbient(ctx context.Context, uid string) error {
	c, err := capture.OfTable(w.ns, modes.DefaultTable, capture.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	report, err := c.Remove(ctx)
	w.senders = append(w.senders, report.Ports...)
	if err != nil {
		return err
	}
	w.pod.accept(nil, "")
	return w.Ambient.Release(ctx, uid)
}
