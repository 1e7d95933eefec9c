// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"embed"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/consul"
	"github.com/weir-mesh/weir/internal/istio"
	"github.com/weir-mesh/weir/internal/kuma"
	"github.com/weir-mesh/weir/internal/linkerd"
	"github.com/weir-mesh/weir/internal/meshinit"
	nodepods "github.com/weir-mesh/weir/internal/pods"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

func completionCommand() *cli.Command {
	return &cli.Command{
		Usage:     "print a script that has a shell complete commands and flags",
		ArgsUsage: "bash|zsh|fish",
		Description: "Example: source <(weir completion bash)\n\n" +
			"For good: weir completion bash > /etc/bash_completion.d/weir\n" +
			"          weir completion zsh > \"${fpath[1]}/_weir\"\n" +
			"          weir completion fish > ~/.config/fish/completions/weir.fish",
		Action: func(cc *cli.Context) error {
			script, err := completionScripts.ReadFile("completion/weir." + cc.Args().First())
			if err != nil || cc.Args().Len() != 1 {
				return usageError{fmt.Errorf("completion: unknown shell %q (want bash, zsh or fish)", strings.Join(cc.Args().Slice(), " "))}
			}
			_, err = cc.App.Writer.Write(script)
			return err
		},
	}
}

// completionScripts ask weir complete for what may follow, and take names of files
// where that knows nothing.
//
//go:embed completion
var completionScripts embed.FS

// completeCommand answers the scripts: lines of a word that may stand in place of
// the last argument, a tab, and what it means.
func completeCommand() *cli.Command {
	return &cli.Command{
		Usage:           "list what may complete a command line, for the scripts of weir completion",
		Hidden:          true,
		SkipFlagParsing: true,
		Action: func(cc *cli.Context) error {
			app := newApp(streams{}, nil)
			for _, c := range completions(app, cc.Args().Slice()) {
				if _, err := fmt.Fprintf(cc.App.Writer, "%s\t%s\n", c.word, c.means); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

type candidate struct{ word, means string }

// completions are what may stand in place of the last word of a command line.
func completions(app *cli.App, words []string) []candidate {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	below, flags := app.Commands, app.Flags
	arguments := "" // as the command's usage says them
	value := ""     // the flag whose value comes next
	for _, w := range words[:len(words)-1] {
		switch {
		case value != "":
			value = ""
		case strings.HasPrefix(w, "-"):
			name, _, hasValue := strings.Cut(strings.TrimLeft(w, "-"), "=")
			if !hasValue && takesValue(name, flags) {
				value = name
			}
		default:
			i := slices.IndexFunc(below, func(c *cli.Command) bool { return c.HasName(w) })
			if i < 0 {
				arguments = "" // it is there
				continue
			}
			below, flags, arguments = below[i].Subcommands, flagsOf(below[i]), below[i].ArgsUsage
			if w == "help" {
				below = app.Commands
			}
		}
	}
	var all []candidate
	switch {
	case value != "":
		all = values(value)
	case strings.HasPrefix(last, "-"):
		all = flagCandidates(flags)
	default:
		for _, c := range below {
			if !c.Hidden {
				all = append(all, candidate{c.Name, c.Usage})
			}
		}
		all = append(all, alternatives(arguments)...)
	}
	return slices.DeleteFunc(all, func(c candidate) bool { return !strings.HasPrefix(c.word, last) })
}

// flagsOf are a command's flags; a command without any means the first of those
// below it.
func flagsOf(c *cli.Command) []cli.Flag {
	for len(c.Flags) == 0 && len(c.Subcommands) > 0 {
		c = c.Subcommands[0]
	}
	own, parses := map[string]func() []meshinit.Flag{
		"istio-init": istio.Flags, "linkerd-init": linkerd.Flags, "kuma-init": kuma.Flags, "consul-redirect": consul.Flags,
	}[c.Name]
	if !parses {
		return c.Flags
	}
	var out []cli.Flag
	for _, f := range own() {
		out = append(out, &wordsFlag{names: []string{f.Name}, usage: f.Usage, value: flagWords{bare: f.Bare}})
	}
	return out
}

func flagCandidates(flags []cli.Flag) (out []candidate) {
	for _, f := range flags {
		usage := ""
		if d, ok := f.(cli.DocGenerationFlag); ok {
			usage = strings.ReplaceAll(d.GetUsage(), "`", "")
		}
		out = append(out, candidate{"--" + f.Names()[0], usage})
	}
	return out
}

// alternatives are the words of an argument that is one of few: tcp|udp.
func alternatives(arguments string) (out []candidate) {
	words := strings.Split(strings.Trim(arguments, "[]"), "|")
	if len(words) < 2 {
		return nil
	}
	for _, w := range words {
		out = append(out, candidate{w, ""})
	}
	return out
}

// values are the words that a flag may have, none where those are not a few.
func values(flag string) (out []candidate) {
	add := func(words ...string) {
		for _, w := range words {
			out = append(out, candidate{w, ""})
		}
	}
	switch flag {
	case "format":
		add(formatMermaid, formatHTML)
	case "netns":
		entries, err := os.ReadDir(netns.Folder)
		if err != nil {
			return nil // there are none
		}
		for _, e := range entries {
			add(e.Name())
		}
	case "pod":
		add(podsHere()...)
	default:
		for _, k := range modes.Keys() {
			if k.Flag() == flag {
				add(k.ChoicesIn("")...)
			}
		}
	}
	return out
}

// podsHere are the UIDs of the pods on this node.
func podsHere() (out []string) {
	all, err := nodepods.Processes()
	if err != nil {
		return nil // there is no /proc
	}
	for _, p := range all {
		if p.Pod != "" && !slices.Contains(out, p.Pod) {
			out = append(out, p.Pod)
		}
	}
	return out
}
