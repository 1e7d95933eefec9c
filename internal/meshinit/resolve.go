//go:build linux

package meshinit

import (
	"context"
	"errors"
	"net/netip"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// Resolved is what arguments mean in a network namespace.
type Resolved struct {
	Config      modes.Config
	Environment modes.Environment // as far as the configuration asks for it
	Warnings    []string          // where the namespace makes the arguments mean something else
}

// Resolve is the configuration that the arguments mean in a namespace, and what is known of the
// namespace. The error is an [ArgumentError], or says what could not be read.
func (a *Arguments) Resolve(ctx context.Context, ns *netns.Namespace) (r Resolved, err error) {
	if r.Environment, err = capture.FileEnvironment(ctx, ns, modes.Lookups{Users: a.Users}); err != nil {
		return r, err
	}
	if r.Config, err = a.Meaning(r.Environment); err != nil {
		return r, ArgumentError{err}
	}
	if err := capture.LookUp(ctx, ns, &r.Environment, r.Config.Lookups()); err != nil {
		return r, err
	}
	if a.Missing != nil {
		r.Warnings = a.Missing(&r.Config, r.Environment)
	}
	return r, r.readInterfaces(ctx, a, ns)
}

// readInterfaces fills in what the namespace's interfaces tell. Where it cannot be entered IPv6 is
// disabled, if they decide.
func (r *Resolved) readInterfaces(ctx context.Context, a *Arguments, ns *netns.Namespace) error {
	if a.HasIPv6 != nil {
		r.Config.IPv6 = "disabled"
	}
	addresses, err := ns.Addresses(ctx)
	switch {
	case errors.Is(err, netns.ErrNotEntered):
		return nil // an apply says so
	case err != nil:
		return err
	}
	var others []netip.Addr
	for _, at := range addresses {
		if !at.Loopback() {
			others = append(others, at.Addr())
		}
	}
	if a.HasIPv6 != nil && a.HasIPv6(others) {
		r.Config.IPv6 = "enabled"
	}
	lo, err := ns.Loopback(ctx)
	r.Environment.LoopbackIPv6 = lo.IPv6
	return err
}
