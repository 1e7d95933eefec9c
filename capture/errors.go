package capture

import (
	"errors"

	"github.com/weir-mesh/weir/nft"
)

var (
	// ErrHostNetwork is that an apply would capture the whole machine: the namespace is
	// the machine's initial one, and [Options] do not say that it is meant.
	ErrHostNetwork = errors.New("this is the machine's own network namespace")

	// ErrLoopbackDown is that lo is down where nothing else brings it up later.
	ErrLoopbackDown = errors.New("lo is down: " + loopbackDown + " (set it up first)")

	// ErrEmptyState is that there is nothing to apply: the state of [OfState] holds
	// nothing, or the Capture is [OfTable]'s. To take away what is there, call Remove.
	ErrEmptyState = nft.ErrEmptyState

	// ErrNoProbeSet is that the table holds no set of the pods whose probes are exempt:
	// an apply of mode ambient-host makes it.
	ErrNoProbeSet = errors.New("there is no probe set (weir ambient host apply makes it)")
)

const loopbackDown = "what is redirected would not reach the proxy"
