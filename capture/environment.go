// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"context"
	"errors"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// Environment reads what a configuration leaves to the network namespace: whether it
// has IPv6, and as far as the configuration asks, the users, groups and resolvers of
// its /etc, the ids of cgroups and the policy rules. A file that is not there, or is not to be read, is
// no error: Environment.Unread says why, and [modes.State] where that matters. The
// error is that interfaces could not be listed, or that the context ended.
func Environment(ctx context.Context, ns *netns.Namespace, config modes.Config) (modes.Environment, error) {
	env, _, err := readEnvironment(ctx, ns, config)
	return env, netns.WithAdvice(err)
}

// ReadInterfaces reads into the environment what the namespace's interfaces tell: whether there is
// IPv6, whether lo takes it, and to which of them sockets may be bound. It returns them, for a caller
// who judges otherwise whether there is IPv6.
func ReadInterfaces(ctx context.Context, ns *netns.Namespace, env *modes.Environment) (netns.Interfaces, error) {
	all, err := ns.Interfaces(ctx)
	env.IPv6, env.LoopbackIPv6, env.Links = netns.HasIPv6(all.Addresses), all.Loopback.IPv6, Links(all.Links)
	return all, err
}

// FileEnvironment reads what can be told without looking at the namespace's
// interfaces: what the kernel can do, and of the files of its /etc what is asked. It
// has no IPv6. It needs no privilege, and is what to start from for answers about a
// pod that does not run yet. The error is that the context ended.
func FileEnvironment(ctx context.Context, ns *netns.Namespace, asked modes.Lookups) (modes.Environment, error) {
	release := netns.KernelRelease()
	env := modes.Environment{PostroutingInput: netns.KernelSince(release, 5, 7), InnerPayload: netns.KernelSince(release, 5, 16)}
	return env, LookUp(ctx, ns, &env, asked)
}

// LookUp reads into the environment what is asked of the files of the namespace's
// /etc and is not there yet. The error is that the context ended.
func LookUp(ctx context.Context, ns *netns.Namespace, env *modes.Environment, asked modes.Lookups) error {
	var err error
	if asked.Resolvers && env.Resolvers == nil {
		env.Resolvers, err = ns.Resolvers(ctx)
		unread(env, "resolv.conf", err)
	}
	if asked.Users && env.Users == nil {
		env.Users, err = ns.Users(ctx)
		unread(env, "passwd", err)
	}
	if asked.Groups && env.Groups == nil {
		env.Groups, err = ns.Groups(ctx)
		unread(env, "group", err)
	}
	if ctx.Err() == nil {
		return nil
	}
	for _, name := range []string{"resolv.conf", "passwd", "group"} {
		if err := env.Unread[name]; errors.Is(err, context.Cause(ctx)) || errors.Is(err, ctx.Err()) {
			return err
		}
	}
	return nil
}

func readEnvironment(ctx context.Context, ns *netns.Namespace, config modes.Config) (modes.Environment, netns.Interfaces, error) {
	env, err := FileEnvironment(ctx, ns, config.Lookups())
	if err != nil {
		return env, netns.Interfaces{}, err
	}
	all, err := ReadInterfaces(ctx, ns, &env)
	if config.Mode == modes.ModeEgress && err == nil {
		env.MTU, err = ns.SmallestMTU(ctx)
	}
	if err == nil && config.Places() {
		env.PolicyRules, err = PolicyRules(ctx, ns)
	}
	if len(config.Probes.Cgroups) > 0 {
		env.Cgroups = cgroupIDs(config.Probes.Cgroups)
	}
	return env, all, err
}

// PolicyRules are the namespace's policy rules as far as the place of weir's own depends
// on them: what a caller with an environment of its own reads where [modes.Config.Places]
// asks for it.
func PolicyRules(ctx context.Context, ns *netns.Namespace) ([]modes.PolicyRule, error) {
	all, err := ns.PolicyRules(ctx)
	out := make([]modes.PolicyRule, len(all))
	for i, l := range all {
		out[i] = modes.PolicyRule{Family: l.Family, Priority: l.Priority, Mark: l.Mark, Mask: l.Mask, Not: l.Not, Own: l.Own, Text: l.String(),
			Narrow: l.From.IsValid() || l.To.IsValid() || l.In != "" || l.Unsupported != ""}
		if l.Unsupported == "" {
			out[i].Table = l.Table
		}
	}
	return out, err
}

// unread keeps why a file was not read.
func unread(env *modes.Environment, name string, err error) {
	if err == nil {
		return
	}
	if env.Unread == nil {
		env.Unread = map[string]error{}
	}
	env.Unread[name] = err
}
