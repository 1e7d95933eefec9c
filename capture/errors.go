// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"github.com/weir-mesh/weir/capture/internal/policy"
	"github.com/weir-mesh/weir/nft"
)

var (
	// ErrHostNetwork is that an apply would capture the whole machine: the namespace is
	// the machine's initial one, and [Options] do not say that it is meant.
	ErrHostNetwork = policy.ErrHostNetwork

	// ErrLoopbackDown is that lo is down in a pod of mode ambient-pod, which runs already:
	// nobody brings it up later. Of a sidecar, whose rules may come first, it is
	// Report.LoopbackDown.
	ErrLoopbackDown = policy.ErrLoopbackDown

	// ErrEmptyState is that there is nothing to apply: the state of [OfState] holds
	// nothing, or the Capture is [OfTable]'s. To take away what is there, call Remove.
	ErrEmptyState = nft.ErrEmptyState

	// ErrNoProbeSet is that the table holds no set of the pods whose probes are exempt:
	// an apply of mode ambient-host makes it.
	ErrNoProbeSet = policy.ErrNoProbeSet
)
