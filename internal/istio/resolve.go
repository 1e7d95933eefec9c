package istio

import (
	"context"
	"errors"
	"net/netip"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// Resolve is the configuration that the arguments mean in a namespace, and what is known of the
// namespace. IPv6 is disabled where the
// namespace cannot be entered. The error joins everything that is
// wrong with the values, or says what could not be read.
func (a *Arguments) Resolve(ctx context.Context, ns *netns.Namespace) (modes.Config, modes.Environment, error) {
	env, err := capture.FileEnvironment(ctx, ns, modes.Lookups{Users: a.proxyUID == ""})
	if err != nil {
		return modes.Config{}, env, err
	}
	c, err := a.Config(env)
	if err != nil {
		return c, env, ArgumentError{err}
	}
	if err := capture.LookUp(ctx, ns, &env, c.Lookups()); err != nil {
		return c, env, err
	}
	c.IPv6 = "disabled"
	addresses, err := ns.Addresses(ctx)
	switch {
	case errors.Is(err, netns.ErrNotEntered):
		return c, env, nil // an apply says so
	case err != nil:
		return c, env, err
	}
	if a.HasIPv6(addresses) {
		c.IPv6 = "enabled"
	}
	lo, err := ns.Loopback(ctx)
	env.LoopbackIPv6 = lo.IPv6
	return c, env, err
}

// ArgumentError is that arguments do not parse, or mean nothing; it joins all that is wrong with them.
type ArgumentError struct{ error }

// Unwrap returns what is wrong.
func (e ArgumentError) Unwrap() error { return e.error }

// passthroughIPv6 is the address that a run adds to lo.
var passthroughIPv6 = netip.MustParseAddr("::6")

// HasIPv6 decides as the reference does whether a namespace with those addresses has IPv6, and depends
// on their order as it does: the first one that is neither loopback nor link-local decides, or with
// dual stack any IPv6 one. What an earlier run added to lo is no sign of IPv6.
func (a *Arguments) HasIPv6(addresses []netns.Address) bool {
	for _, at := range addresses {
		if at.Addr().IsLoopback() || at.Addr().IsLinkLocalUnicast() || at.Loopback() && at.Addr() == passthroughIPv6 {
			continue
		}
		if at.Addr().Is6() || !a.dualStack {
			return at.Addr().Is6()
		}
	}
	return false
}
