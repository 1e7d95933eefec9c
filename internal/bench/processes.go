// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/internal/scratch"
)

// A step is processes that are counted together, under a name.
type step struct {
	name     string
	commands []command
}

// A contender is steps in turn, in a namespace that was clean before the first.
type contender []step

// The names of steps.
const (
	weirApply     = "weir apply"
	weirApplyList = "weir apply, the CIDRs as @FILE"
	weirUnchanged = "weir apply again: unchanged"
	weirOneMore   = "weir apply with one CIDR more: updated"
	weirVerify    = "weir verify"
	nftLoad       = "nft -f of the same text"
	nftList       = "nft list ruleset"
	nftOneMore    = "nft add element, one CIDR more"

	refDetect, refBefore, refRestore, refAfter, refCheck = "detect", "save before", "restore", "save after", "check"
	refSaves, refAll, refUnchanged                       = "  and -save before and after", "  and the probes for a variant: all of it", "  all of it again: unchanged"
)

// processes measures whole processes for a sidecar with that many excluded
// CIDRs. Each round runs every contender once, from another one on.
func (b *bench) processes(ctx context.Context, n, rounds int) error {
	name := "default sidecar"
	if n > 0 {
		name = strconv.Itoa(n) + " excluded CIDRs"
	}
	progress(name)
	contenders, ref, err := b.contenders(ctx, n)
	if err != nil {
		return err
	}
	costs := map[string]series{}
	if err := alternate(ctx, contenders, rounds, costs); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	costs[refSaves] = costs[refRestore].plus(costs[refBefore]).plus(costs[refAfter])
	costs[refAll] = costs[refSaves].plus(costs[refDetect])
	again := func(s string) string { return s + again }
	if n == 0 {
		costs[refUnchanged] = costs[again(refDetect)].plus(costs[again(refBefore)]).plus(costs[refCheck]).plus(costs[again(refAfter)])
	}
	table := processTable{Configuration: name, Rounds: rounds}
	row := func(step, what string, programs int) {
		if s := costs[step]; s != nil {
			table.Rows = append(table.Rows, processRow{what, programs, summarize(s.wall()), summarize(s.cpu()), summarize(s.rss()), s.small()})
		}
	}
	for _, step := range []string{weirApply, weirApplyList, weirUnchanged, weirVerify, weirOneMore, nftLoad, nftList, nftOneMore} {
		row(step, step, 1)
	}
	row(refRestore, "iptables-restore and ip6tables-restore", len(ref.restore))
	row(refSaves, refSaves, len(ref.restore)+2*len(ref.save))
	row(refAll, refAll, len(ref.restore)+2*len(ref.save)+len(ref.detect))
	row(refUnchanged, refUnchanged, len(ref.check)+2*len(ref.save)+len(ref.detect))
	b.report.Processes = append(b.report.Processes, table)
	b.compareProcesses(n, name, costs)
	return nil
}

// again marks steps that a contender runs a second time.
const again = ", again"

// contenders are who is measured with that many excluded CIDRs.
func (b *bench) contenders(ctx context.Context, n int) ([]contender, reference, error) {
	excluded := cidrs(n)
	name := strconv.Itoa(n)
	ref, err := b.reference(name, excluded)
	config, configErr := b.write(name+".yaml", document(excluded))
	more, moreErr := b.write(name+"-and-one.yaml", document(append([]netip.Prefix{oneMore}, excluded...)))
	short, shortErr := b.write("0.yaml", document(nil))
	list, listErr := b.write(name+".list", strings.Join(words(excluded), "\n"))
	if err := errors.Join(err, configErr, moreErr, shortErr, listErr); err != nil {
		return nil, ref, err
	}
	text, err := b.plan(ctx, name+".nft", config)
	if err != nil {
		return nil, ref, err
	}
	weir := func(name, verb string, args ...string) step {
		return step{name, []command{{Args: append([]string{b.weir, verb}, args...)}}}
	}
	weirs := contender{weir(weirApply, "apply", "--config", config), weir(weirUnchanged, "apply", "--config", config), weir(weirVerify, "verify", "--config", config)}
	nfts := contender{{nftLoad, []command{{Args: []string{"nft", "-f", text}}}}, {nftList, []command{{Args: []string{"nft", "list", "ruleset"}}}}}
	refs := contender{{refDetect, ref.detect}, {refBefore, ref.save}, {refRestore, ref.restore}, {refAfter, ref.save}}
	if n == 0 {
		refs = append(refs, step{refDetect + again, ref.detect}, step{refBefore + again, ref.save}, step{refCheck, ref.check}, step{refAfter + again, ref.save})
		return []contender{weirs, nfts, refs}, ref, nil
	}
	if n == manyCIDRs {
		weirs = append(weirs, weir(weirOneMore, "apply", "--config", more))
		nfts = append(nfts, step{nftOneMore, []command{{Args: []string{"nft", "add", "element", "inet", "weir", "outbound_exclude_ipv4", "{", oneMore.String(), "}"}}}})
	}
	lists := contender{weir(weirApplyList, "apply", "--config", short, "--outbound-exclude-cidrs", "@"+list)}
	return []contender{weirs, lists, nfts, refs}, ref, nil
}

// plan is a file with the text that weir prints for a configuration.
func (b *bench) plan(ctx context.Context, name, config string) (path string, err error) {
	ns, err := scratch.NewNamespace()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	var out []byte
	err = ns.Do(func() (err error) {
		c := exec.CommandContext(ctx, b.weir, "plan", "--config", config)
		c.Stderr = os.Stderr
		out, err = c.Output()
		return err
	})
	if err != nil {
		return "", fmt.Errorf("weir plan: %w", err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "#") { // the routing, and what differs from now
			text.WriteString(line)
		}
	}
	return b.write(name, text.String())
}

// alternate runs the contenders in turn and adds up what each step cost. The
// first round only warms up. Namespaces are kept to the end: the kernel's work
// to take them down is not measured.
func alternate(ctx context.Context, contenders []contender, rounds int, costs map[string]series) (err error) {
	var used []*scratch.Namespace
	defer func() {
		for _, ns := range used {
			err = errors.Join(err, ns.Close())
		}
	}()
	for round := range rounds + 1 {
		for i := range contenders {
			c := contenders[(i+round)%len(contenders)]
			ns, err := scratch.NewNamespace()
			if err != nil {
				return err
			}
			used = append(used, ns)
			var commands []command
			for _, s := range c {
				commands = append(commands, s.commands...)
			}
			took, err := runIn(ctx, ns, commands...)
			if err != nil {
				return err
			}
			for _, s := range c {
				if round > 0 {
					costs[s.name] = append(costs[s.name], total(took[:len(s.commands)]))
				}
				took = took[len(s.commands):]
			}
		}
	}
	return nil
}

// compareProcesses sets the costs against each other and against the bars.
func (b *bench) compareProcesses(n int, name string, costs map[string]series) {
	ratio := func(what string, bar float64, a, b []float64) comparison {
		return comparison{What: name + ": " + what, Value: ratios(a, b), Bar: bar}
	}
	var wallBar, cpuBar float64 // the bars are about the default sidecar
	if n == 0 {
		wallBar, cpuBar = 1./3, 1.5
	}
	apply, load, all := costs[weirApply], costs[nftLoad], costs[refAll]
	b.report.compare(
		ratio("weir apply / all that the reference runs, wall", wallBar, apply.wall(), all.wall()),
		ratio("weir apply / all that the reference runs, CPU", 0, apply.cpu(), all.cpu()),
		ratio("weir apply / its restore and save alone, wall", 0, apply.wall(), costs[refSaves].wall()),
		ratio("weir apply / its restore alone, wall", 0, apply.wall(), costs[refRestore].wall()),
		ratio("weir apply / nft -f, CPU", cpuBar, apply.cpu(), load.cpu()),
		ratio("weir apply / nft -f, wall", 0, apply.wall(), load.wall()),
	)
	if !load.small() {
		b.report.compare(ratio("weir apply / nft -f, peak RSS", 0, apply.rss(), load.rss()))
	}
	if n == 0 {
		both := load.plus(costs[nftList])
		b.report.compare(ratio("weir apply / nft -f and nft list ruleset, CPU", 0.5, apply.cpu(), both.cpu()),
			ratio("weir apply / nft -f and nft list ruleset, wall", 0, apply.wall(), both.wall()),
			ratio("unchanged, weir apply / all that the reference runs, wall", 0, costs[weirUnchanged].wall(), costs[refUnchanged].wall()))
	}
	if n == manyCIDRs {
		b.report.compare(comparison{What: name + ": weir apply, wall", Unit: "ms", Value: summarize(apply.wall()), Bar: 150},
			ratio("one CIDR more, weir apply / nft add element, CPU", 1.5, costs[weirOneMore].cpu(), costs[nftOneMore].cpu()),
			ratio("one CIDR more, weir apply / nft add element, wall", 0, costs[weirOneMore].wall(), costs[nftOneMore].wall()))
	}
}
