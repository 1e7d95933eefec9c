// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/input"
	"github.com/weir-mesh/weir/modes"
)

// configurationFlags are --config, --environment and, for every key of the
// configuration, a flag of its path.
func configurationFlags() []cli.Flag {
	keys := modes.Keys()
	flags := make([]cli.Flag, 0, len(keys)+8)
	flags = append(flags, &wordsFlag{names: []string{"config", "f"},
		usage: "read the configuration from `FILE`, - for standard input; flags win over it"},
		environmentFlag("not from the namespace"))
	for i := range keys {
		flags = append(flags, keyFlag(&keys[i]))
	}
	return flags
}

// namedFlags are a command's flags without those of the configuration's keys that no argument
// names: the library takes for all of them a twentieth of the time of an apply. Where an
// argument names none of the command's flags they are all, to hint at or to list.
func namedFlags(flags []cli.Flag, args []string) []cli.Flag {
	named := map[string]bool{}
	for _, arg := range args {
		if name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "="); strings.HasPrefix(arg, "-") && arg != "-" {
			named[name] = true
		}
	}
	left := len(named)
	out := slices.DeleteFunc(slices.Clone(flags), func(f cli.Flag) bool {
		known := 0
		for _, name := range f.Names() {
			if named[name] {
				known++
			}
		}
		left -= known
		key, is := f.(*wordsFlag)
		return known == 0 && is && key.key != nil
	})
	if left > 0 {
		return flags
	}
	return out
}

func environmentFlag(otherwise string) cli.Flag {
	return &wordsFlag{names: []string{"environment"}, usage: "take IPv6, resolvers, users and groups from `FILE`, " + otherwise}
}

func keyFlag(k *modes.Key) cli.Flag {
	return &wordsFlag{names: []string{k.Flag()}, category: "The configuration's keys:", key: k,
		value: flagWords{list: k.List, bare: k.Default == "enabled" || k.Default == "disabled"}}
}

// flagValues is what was written for a flag, and whether it was.
func flagValues(cc *cli.Context, name string) ([]string, bool) {
	for _, f := range cc.Command.Flags {
		if f, ok := f.(*wordsFlag); ok && slices.Contains(f.names, name) {
			return f.value.words, f.IsSet()
		}
	}
	return nil, false
}

// givenKeys are the flags of keys that were given.
func givenKeys(cc *cli.Context) []*wordsFlag {
	var out []*wordsFlag
	for _, f := range cc.Command.Flags {
		if f, ok := f.(*wordsFlag); ok && f.key != nil && f.IsSet() {
			out = append(out, f)
		}
	}
	return out
}

// configured reports whether a command was given a configuration: a file, or a
// flag for any key but those.
func configured(cc *cli.Context, but ...string) bool {
	if _, ok := flagValues(cc, "config"); ok {
		return true
	}
	return slices.ContainsFunc(givenKeys(cc), func(f *wordsFlag) bool { return !slices.Contains(but, f.key.Path) })
}

var errNoConfiguration = errors.New("there is no configuration (want --config FILE, --config - for standard input, or flags: at least --mode sidecar --proxy-uids 1337)")

// loadConfiguration reads the file that --config names, and the flags, which win
// over it. The error joins everything that is wrong and can be told without an
// environment, with places.
func loadConfiguration(cc *cli.Context, stdin io.Reader) (*config.File, error) {
	if !configured(cc) {
		return nil, errNoConfiguration
	}
	c, err := readConfiguration(cc, stdin)
	if err != nil {
		return nil, err
	}
	return c, c.Check()
}

// readConfiguration is the configuration as written, to be checked.
func readConfiguration(cc *cli.Context, stdin io.Reader) (*config.File, error) {
	c := &config.File{}
	if names, ok := flagValues(cc, "config"); ok {
		if names[0] == "" {
			return nil, errors.New("--config: names no file (want --config FILE, or - for standard input)")
		}
		data, err := input.Read(cc.Context, names[0], stdin, config.MaxSize)
		if err != nil {
			return nil, fmt.Errorf("--config: %w", err)
		}
		c = config.Read(input.Name(names[0]), data)
	}
	for _, f := range givenKeys(cc) {
		c.Set("--"+f.key.Flag(), *f.key, listReader(cc.Context), f.value.words...)
	}
	return c, nil
}

// loadEnvironment reads the file that --environment names.
func loadEnvironment(ctx context.Context, name string) (modes.Environment, error) {
	data, err := input.Read(ctx, name, nil, config.MaxSize)
	if err != nil {
		return modes.Environment{}, fmt.Errorf("--environment: %w", err)
	}
	return config.ParseEnvironment(name, data)
}

// listReader reads the files of lists that flags name.
func listReader(ctx context.Context) config.ReadFile {
	return func(name string) ([]byte, error) { return input.Read(ctx, name, nil, config.MaxSize) }
}

// permute puts flags, with their values, before arguments: the library stops
// looking for flags at the first argument. What follows "--" is an argument.
func permute(args []string, flags []cli.Flag) []string {
	var first, last []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return slices.Concat(first, []string{"--"}, last, args[i+1:])
		}
		if len(arg) < 2 || arg[0] != '-' {
			last = append(last, arg)
			continue
		}
		first = append(first, arg)
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if hasValue || !takesValue(name, flags) {
			continue
		}
		if i++; i == len(args) {
			return first // no argument may become the value that is missing
		}
		first = append(first, args[i])
	}
	return slices.Concat(first, last)
}

// takesValue reports whether the argument after a flag is its value. An unknown
// flag has none: the library will complain of it.
func takesValue(name string, flags []cli.Flag) bool {
	for _, f := range flags {
		if !slices.Contains(f.Names(), name) {
			continue
		}
		switch f := f.(type) {
		case *cli.BoolFlag:
			return false
		case *wordsFlag:
			return !f.value.bare
		}
		return true
	}
	return false
}
