// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"log/slog"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/node"
	"github.com/weir-mesh/weir/internal/node/escapes"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/internal/node/kubeapi"
	"github.com/weir-mesh/weir/internal/node/metrics"
)

// Modes of a repair, as Istio's agent has them; heal captures the pod in place.
const (
	repairHeal   = "heal"
	repairDelete = "delete"
	repairLabel  = "label"
)

// The label of Istio's agent for a pod that started without its capture.
const (
	unrepairedLabel = "cni.istio.io/uninitialized"
	unrepairedValue = "true"
)

// repairer deletes or labels pods that started without their capture, which was made in place all the same.
type repairer struct {
	mode   string
	client *kubeapi.Client
	counts *metrics.Metrics
	log    *slog.Logger
	jobs   chan inventory.Pod
}

const maxRepairs = 256 // that wait

func (r *repairer) Found(p inventory.Pod, _ node.Status, f keep.Finding) {
	if !f.First || !f.Healed || f.Outcome != "created" || !p.IsPod() {
		return
	}
	select {
	case r.jobs <- p:
	default: // it is captured, and in the log
	}
}

func (*repairer) Applied(capture.Report, error)                     {}
func (*repairer) Escaped(inventory.Pod, node.Status, escapes.Count) {}
func (*repairer) Overrun()                                          {}

func (r *repairer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-r.jobs:
			var err error
			if r.mode == repairDelete {
				err = r.client.Delete(ctx, p.Namespace, p.Name, p.UID)
			} else {
				err = r.client.Label(ctx, p.Namespace, p.Name, p.UID, unrepairedLabel, unrepairedValue)
			}
			r.counts.Repaired(r.mode, err)
			if err != nil {
				r.log.Error("a pod was not repaired", "mode", r.mode, "pod", p.String(), "error", err)
			}
		}
	}
}
