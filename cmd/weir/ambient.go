// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/modes"
)

// ambientCommand is what a node agent runs: pods have no proxy of their own, and
// the node's comes into their network namespaces. A command by itself means the
// first of those below it.
func ambientCommand() *cli.Command {
	return &cli.Command{
		Usage:       "ambient mode: rules in pods that have no proxy of their own, and on the host",
		Description: "Example: weir ambient --netns blue\n\nweir ambient ARGS is weir ambient pod apply ARGS.",
		Subcommands: []*cli.Command{ambientPodCommand(), ambientHostCommand()},
	}
}

func ambientPodCommand() *cli.Command {
	return ambientSide{
		mode: modes.ModeAmbientPod,
		words: []shortWord{
			{"v6", "ipv6", "enabled", "disabled", "capture IPv6 too"},
			{"dns", "dns.capture", "all", "none", "capture DNS queries"},
			{"ingress", "inbound.via", "none", "redirect", "the pod is reached as it is"},
		},
		lists: []shortList{{"virt", "interfaces.reroute", "", "treat what comes in by the interface `IFACE` as outbound; may be given again"}},
		flags: append(namespacesFlags(), hostNetworkFlag()),
		in:    inNamespaces,
	}.command("pod", "capture what pods open and are sent", "weir ambient pod apply --v6 --dns --netns '/run/netns/pod-*'")
}

func ambientHostCommand() *cli.Command {
	c := ambientSide{
		mode:  modes.ModeAmbientHost,
		words: []shortWord{{"v6", "ipv6", "enabled", "disabled", "probes of IPv6 too"}},
		lists: []shortList{
			{"probe-addresses", "probes.addresses", "", "give probes the source `A,B`, one of each family"},
			{"probe-uids", "probes.uids", "uids", "probes are what the users `N` open"},
			{"probe-cgroups", "probes.cgroups", "cgroups", "probes are what the cgroups v2 at `PATH` open"},
		},
		flags: targetFlags(),
		in:    inNamespace,
	}.command("host", "keep the kubelet's probes away from the proxy", "weir ambient host apply --v6")
	c.Subcommands = append(c.Subcommands, podsCommand())
	return c
}

// ambientSide is one of the two sides of ambient mode, with short flags for some
// keys of its configuration.
type ambientSide struct {
	mode  string
	words []shortWord
	lists []shortList
	flags []cli.Flag // besides: which namespace is meant, and more
	in    func(*cli.Context, func(context.Context, *command) error) error
}

// shortWord is a flag that stands for a word of a key, or for its contrary.
type shortWord struct{ flag, key, yes, no, usage string }

// shortList is a flag for words of a key, which probes are then told from.
type shortList struct{ flag, key, from, usage string }

// command has a command below it for each verb.
func (a ambientSide) command(name, usage, example string) *cli.Command {
	verb := func(name, usage string, do func(*command, context.Context, *config.File) error, flags ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name:        name,
			Usage:       usage,
			Description: "Example: " + strings.Replace(example, " apply ", " "+name+" ", 1),
			Flags:       slices.Concat(a.shortFlags(), flags, a.flags, configurationFlags(), []cli.Flag{timeoutFlag(), jsonFlag()}),
			Action: func(cc *cli.Context) error {
				c, err := a.checkedConfig(cc)
				if err != nil {
					return usageError{err}
				}
				return a.in(cc, func(ctx context.Context, cmd *command) error { return do(cmd, ctx, c) })
			},
		}
	}
	return &cli.Command{
		Name:        name,
		Usage:       usage,
		Description: "Example: " + example,
		Subcommands: []*cli.Command{
			verb("apply", "make it so, and prove it", (*command).apply),
			verb("plan", "print what apply would make, and what differs from now", (*command).plan, exitCodeFlag()),
			verb("verify", "compare with the configuration; exit 3 where something differs", (*command).verifyConfiguration, waitFlag()),
			verb("remove", "take out what apply made", func(cmd *command, ctx context.Context, c *config.File) error { return cmd.remove(ctx, c.TableName()) }, drainFlag()),
		},
	}
}

func (a ambientSide) shortFlags() []cli.Flag {
	var flags []cli.Flag
	for _, s := range a.words {
		flags = append(flags, &cli.BoolFlag{Name: s.flag, DisableDefaultText: true, Usage: s.usage + " (" + s.key + ": " + s.yes + ")"})
	}
	for _, s := range a.lists {
		flags = append(flags, &cli.StringSliceFlag{Name: s.flag, Usage: s.usage + " (" + s.key + ")"})
	}
	return flags
}

// checkedConfig is the configuration of this side's mode: a file if there is one, and
// flags, which win over it.
func (a ambientSide) checkedConfig(cc *cli.Context) (*config.File, error) {
	c, err := readConfiguration(cc, cc.App.Reader)
	if err != nil {
		return nil, err
	}
	problems := a.short(cc, c)
	switch {
	case c.Mode == "":
		c.Mode = a.mode
	case c.Mode != a.mode && c.Mode != "":
		problems = append(problems, &modes.ConfigError{Key: "mode", Word: c.Mode, Problem: fmt.Sprintf("is not what %s is about (want %s)", commandPath(cc), a.mode)})
	}
	return c, c.Check(problems...)
}

// short sets the keys that short flags stand for.
func (a ambientSide) short(cc *cli.Context, c *config.File) (problems []error) {
	keys := modes.Keys()
	set := func(flag, path string, words ...string) {
		k := keys[slices.IndexFunc(keys, func(k modes.Key) bool { return k.Path == path })]
		_, both := flagValues(cc, k.Flag())
		if both {
			problems = append(problems, fmt.Errorf("--%s and --%s are about one key (want one of them)", flag, k.Flag()))
			return
		}
		c.Set("--"+flag, k, listReader(cc.Context), words...)
	}
	for _, s := range a.words {
		switch {
		case !cc.IsSet(s.flag):
		case cc.Bool(s.flag):
			set(s.flag, s.key, s.yes)
		default:
			set(s.flag, s.key, s.no)
		}
	}
	for _, s := range a.lists {
		if cc.IsSet(s.flag) {
			set(s.flag, s.key, cc.StringSlice(s.flag)...)
		}
		if cc.IsSet(s.flag) && s.from != "" && c.Probes.From == "" {
			set(s.flag, "probes.from", s.from)
		}
	}
	return problems
}
