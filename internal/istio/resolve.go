//go:build linux

package istio

import (
	"context"
	"errors"
	"net/netip"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/meshinit"
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
// namespace. IPv6 is disabled where the namespace cannot be entered. The error is an [ArgumentError],
// or says what could not be read.
func (a *Arguments) Resolve(ctx context.Context, ns *netns.Namespace) (r Resolved, err error) {
	if r.Environment, err = capture.FileEnvironment(ctx, ns, modes.Lookups{Users: a.proxyUID == ""}); err != nil {
		return r, err
	}
	if r.Config, err = a.Config(r.Environment); err != nil {
		return r, ArgumentError{Err: err}
	}
	if err := capture.LookUp(ctx, ns, &r.Environment, r.Config.Lookups()); err != nil {
		return r, err
	}
	r.withoutResolver()
	return r, r.readInterfaces(ctx, a, ns)
}

// withoutResolver captures no DNS, as the reference does, where resolv.conf was read and
// names no server. One that cannot be read is an error there too.
func (r *Resolved) withoutResolver() {
	if r.Config.DNS.Capture == "servers" && len(r.Environment.Resolvers) == 0 && r.Environment.Unread["resolv.conf"] == nil {
		r.Config.DNS.Capture = "none"
		r.Warnings = append(r.Warnings, "redirect-dns: resolv.conf names no server: DNS is not captured, as in the reference (capture-all-dns captures queries to any address)")
	}
}

// readInterfaces fills in what the namespace's interfaces and routing tell, which takes no privilege
// in the present namespace.
func (r *Resolved) readInterfaces(ctx context.Context, a *Arguments, ns *netns.Namespace) error {
	r.Config.IPv6 = "disabled"
	addresses, err := ns.Addresses(ctx)
	switch {
	case errors.Is(err, netns.ErrNotEntered):
		return nil // an apply says so
	case err != nil:
		return err
	}
	if a.HasIPv6(addresses) {
		r.Config.IPv6 = "enabled"
	}
	if r.Config.Places() {
		if r.Environment.PolicyRules, err = capture.PolicyRules(ctx, ns); err != nil {
			return err
		}
	}
	lo, err := ns.Loopback(ctx)
	r.Environment.LoopbackIPv6 = lo.IPv6
	return err
}

// ArgumentError is that arguments do not parse, or mean nothing; it joins all that is wrong with them.
type ArgumentError = meshinit.ArgumentError

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
