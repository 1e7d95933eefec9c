package capture

import (
	"context"
	"fmt"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// RefuseHost is ErrHostNetwork in the machine's initial network namespace, with what
// would happen to everything on it; for work that is allowed there only if the whole
// machine is meant. It is an error too that the namespace cannot be told.
func RefuseHost(ns *netns.Namespace, effect string) error {
	host, err := ns.IsHost()
	switch {
	case err != nil:
		return reaching(err)
	case host:
		return fmt.Errorf("%w: %s", ErrHostNetwork, effect)
	}
	return nil
}

// allowHost keeps an example from capturing a whole machine. It reports whether an
// apply that is allowed does so.
func (c *Capture) allowHost() (host bool, err error) {
	switch {
	case c.config.Mode == modes.ModeAmbientHost:
		return false, nil
	case c.options.HostNetwork:
		host, err := c.ns.IsHost()
		return host && err == nil, nil
	}
	return false, RefuseHost(c.ns, "applying here would capture the traffic of everything on it")
}

// loopbackDown reports whether lo is down where that matters, and may come up later: a
// sidecar's init container may run before whoever sets it up. A pod of ambient mode
// has run for long, so there it is an error.
func (c *Capture) loopbackDown(ctx context.Context, w wanted) (down bool, err error) {
	if !c.needsLoopback(w.state) {
		return false, nil
	}
	if w.lo == nil {
		lo, err := c.ns.Loopback(ctx)
		if err != nil {
			return false, err
		}
		w.lo = &lo
	}
	if !w.lo.Up && c.config.Mode == modes.ModeAmbientPod {
		return false, ErrLoopbackDown
	}
	return !w.lo.Up, nil
}

func (c *Capture) needsLoopback(state rules.State) bool {
	if c.state != nil {
		return delivers(state)
	}
	return c.config.Mode == modes.ModeSidecar || c.config.Mode == modes.ModeAmbientPod
}

// delivers reports whether a ruleset brings packets to sockets by lo: by redirect, or
// by a route.
func delivers(state rules.State) bool {
	if len(state.Routes) > 0 {
		return true
	}
	for _, chain := range state.Table.Chains {
		for _, rule := range chain.Rules {
			for _, node := range rule.Nodes {
				if _, ok := node.(rules.Redirect); ok {
					return true
				}
			}
		}
	}
	return false
}

// downgrade reports whether an apply by a program of that version changed what a
// newer one wrote; false where that cannot be told.
func downgrade(version string, r nft.Result) bool {
	idle := r.Outcome == nft.Unchanged || r.Outcome == nft.Absent
	return !idle && r.Previous != nil && olderThan(version, r.Previous.Version)
}
