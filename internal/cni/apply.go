// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cni

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
)

// engine is the capture of a pod's namespace. Close closes both.
type engine struct {
	*capture.Capture
	ns *netns.Namespace
}

func (e engine) Close() {
	e.Capture.Close()
	e.ns.Close()
}

// open opens the namespace of a request and the capture that was decided.
func (r *request) open(ctx context.Context, d decision) (engine, error) {
	ns, err := netns.Open(r.Netns)
	if err != nil {
		return engine{}, fmt.Errorf("network namespace %s: %w", r.Netns, err)
	}
	k, err := NewCapture(ctx, ns, d.Decision, r.resolvers, capture.Options{LoopbackLater: true})
	if err != nil {
		ns.Close()
		return engine{}, err
	}
	return engine{k, ns}, nil
}

// notCaptured is why an apply failed, for a runtime.
func (r *request) notCaptured(d decision, err error) error {
	remedy := "run weir doctor on the node"
	var rejected *nft.RejectedError
	switch {
	case errors.Is(err, capture.ErrHostNetwork):
		return failure(codeNotCaptured, "set hostNetwork: false, or leave the pod alone", "%s is not captured: it shares the machine's own network, in which its traffic cannot be told apart", r.pod)
	case errors.Is(err, nft.ErrNotPermitted), errors.Is(err, netns.ErrNotEntered):
		remedy = "run the container runtime with CAP_NET_ADMIN and CAP_SYS_ADMIN"
	case errors.As(err, &rejected):
		remedy = "run weir doctor on the node: the kernel lacks what this configuration needs"
	case errors.Is(err, context.DeadlineExceeded):
		remedy = "the node is too slow, or another program keeps changing the pod's ruleset; the kubelet tries again by itself"
	case isConfig(err):
		remedy = "correct it and create the pod again"
		if d.Explain != nil {
			err = d.Explain(err)
		}
	}
	return failure(codeNotCaptured, remedy, "%s is not captured: %s", r.pod, told(err))
}

func isConfig(err error) bool {
	for _, e := range problems.List(err) {
		var wrong *modes.ConfigError
		if errors.As(e, &wrong) {
			return true
		}
	}
	return false
}
