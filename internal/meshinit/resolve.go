// SPDX-License-Identifier: Apache-2.0

//go:build linux

package meshinit

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// Meaning is what arguments mean, which a network namespace completes.
type Meaning struct {
	Users  bool                                          // Config asks for the users of passwd
	Config func(modes.Environment) (modes.Config, error) // but for IPv6 where HasIPv6 is set

	// HasIPv6 tells by the namespace's addresses whether IPv6 is captured; nil where the arguments do.
	HasIPv6 func([]netns.Address) bool

	// AllDNS is the flag that captures queries to any address, of a program that captures none where
	// resolv.conf names no server; "" of one that fails.
	AllDNS string
}

// Resolved is what arguments mean in a network namespace.
type Resolved struct {
	Config      modes.Config
	Environment modes.Environment // as far as the configuration asks for it
	Warnings    []string          // where the namespace makes the arguments mean something else
}

// Resolve is the configuration that the arguments mean in a namespace, and what is known of the
// namespace. Where it cannot be entered IPv6 is disabled, if its addresses decide. The error is an
// [ArgumentError], or says what could not be read.
func (m Meaning) Resolve(ctx context.Context, ns *netns.Namespace) (r Resolved, err error) {
	if r.Environment, err = capture.FileEnvironment(ctx, ns, modes.Lookups{Users: m.Users}); err != nil {
		return r, err
	}
	if r.Config, err = m.Config(r.Environment); err != nil {
		return r, ArgumentError{err}
	}
	if err := capture.LookUp(ctx, ns, &r.Environment, r.Config.Lookups()); err != nil {
		return r, err
	}
	r.withoutResolver(m.AllDNS)
	return r, r.readInterfaces(ctx, m.HasIPv6, ns)
}

// withoutResolver captures no DNS where resolv.conf was read and names no server. One that cannot be read
// is an error in the references too.
func (r *Resolved) withoutResolver(allDNS string) {
	if allDNS != "" && r.Config.DNS.Capture == "servers" && len(r.Environment.Resolvers) == 0 && r.Environment.Unread["resolv.conf"] == nil {
		r.Config.DNS.Capture = "none"
		r.Warnings = append(r.Warnings, fmt.Sprintf(
			"redirect-dns: resolv.conf names no server: DNS is not captured, as in the reference (%s captures queries to any address)", allDNS))
	}
}

// readInterfaces fills in what the namespace's interfaces and routing tell, which takes no privilege
// in the present namespace.
func (r *Resolved) readInterfaces(ctx context.Context, hasIPv6 func([]netns.Address) bool, ns *netns.Namespace) error {
	if hasIPv6 != nil {
		r.Config.IPv6 = "disabled"
	}
	all, err := capture.ReadInterfaces(ctx, ns, &r.Environment)
	switch {
	case errors.Is(err, netns.ErrNotEntered):
		return nil // an apply says so
	case err != nil:
		return err
	}
	if hasIPv6 != nil && hasIPv6(all.Addresses) {
		r.Config.IPv6 = "enabled"
	}
	if r.Config.Places() {
		r.Environment.PolicyRules, err = capture.PolicyRules(ctx, ns)
	}
	return err
}
