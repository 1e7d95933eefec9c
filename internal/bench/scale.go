// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"strconv"
)

// sizes are the lists whose costs are compared with each other.
var sizes = []int{1000, manyCIDRs, 100_000}

const (
	scaleRounds = 7
	startRounds = 40
)

// The verbs of a list's life, in turn, and what nft does for each.
const (
	listApply, listVerify, listVerifyTag, listRemove = "weir apply", "weir verify --config", "weir verify", "weir remove"
	listLoad, listList, listDelete                   = "nft -f", "nft list table", "nft delete table"
)

var listSteps = []string{listApply, listVerify, listVerifyTag, listRemove, listLoad, listList, listDelete}

func sized(step string, n int) string { return fmt.Sprintf("%s, %d CIDRs", step, n) }

// scale measures how costs grow with a list of excluded CIDRs. All sizes take turns,
// so that their ratios are of one round.
func (b *bench) scale(ctx context.Context) error {
	progress("lists of up to 100000 CIDRs")
	var contenders []contender
	for _, n := range sizes {
		weir, nft, err := b.listContenders(ctx, n)
		if err != nil {
			return err
		}
		contenders = append(contenders, weir, nft)
	}
	costs := map[string]series{}
	if err := alternate(ctx, contenders, scaleRounds, costs); err != nil {
		return fmt.Errorf("lists: %w", err)
	}
	table := processTable{Configuration: "lists of excluded CIDRs", Rounds: scaleRounds}
	for _, n := range sizes {
		for _, step := range listSteps {
			s := costs[sized(step, n)]
			table.Rows = append(table.Rows, processRow{sized(step, n), 1, summarize(s.wall()), summarize(s.cpu()), summarize(s.rss()), s.small()})
		}
	}
	b.report.Processes = append(b.report.Processes, table)
	b.compareLists(costs)
	return nil
}

// listContenders are weir and nft with a list of that many CIDRs.
func (b *bench) listContenders(ctx context.Context, n int) (weir, nft contender, err error) {
	name := "list-" + strconv.Itoa(n)
	config, err := b.write(name+".yaml", document(cidrs(n)))
	if err != nil {
		return nil, nil, err
	}
	text, err := b.plan(ctx, name+".nft", config)
	if err != nil {
		return nil, nil, err
	}
	one := func(name string, args ...string) step { return step{sized(name, n), []command{{Args: args}}} }
	weir = contender{
		one(listApply, b.weir, "apply", "--config", config),
		one(listVerify, b.weir, "verify", "--config", config),
		one(listVerifyTag, b.weir, "verify"),
		one(listRemove, b.weir, "remove"),
	}
	nft = contender{
		one(listLoad, "nft", "-f", text),
		one(listList, "nft", "list", "table", "inet", "weir"),
		one(listDelete, "nft", "delete", "table", "inet", "weir"),
	}
	return weir, nft, nil
}

// compareLists sets each verb beside nft's, and each size beside the one before.
func (b *bench) compareLists(costs map[string]series) {
	for _, n := range sizes {
		var bar float64 // the bar is about the longest
		if n == sizes[len(sizes)-1] {
			bar = 2
		}
		for _, pair := range [][2]string{{listApply, listLoad}, {listVerify, listList}, {listVerifyTag, listList}, {listRemove, listDelete}} {
			ours, theirs := costs[sized(pair[0], n)], costs[sized(pair[1], n)]
			what := fmt.Sprintf("%d CIDRs: %s / %s, ", n, pair[0], pair[1])
			b.report.compare(
				comparison{What: what + "CPU", Value: ratios(ours.cpu(), theirs.cpu()), Bar: bar},
				comparison{What: what + "wall", Value: ratios(ours.wall(), theirs.wall()), Bar: bar})
		}
	}
	const growthBar = 12
	for i := 1; i < len(sizes); i++ {
		for _, step := range listSteps {
			var bar float64
			switch step {
			case listApply, listVerify, listVerifyTag, listRemove:
				bar = growthBar
			}
			more, less := costs[sized(step, sizes[i])], costs[sized(step, sizes[i-1])]
			b.report.compare(comparison{What: fmt.Sprintf("%s: CPU(%d) / CPU(%d)", step, sizes[i], sizes[i-1]), Value: ratios(more.cpu(), less.cpu()), Bar: bar})
		}
	}
}

// start measures a command that does nothing, beside a Go program that does not
// either.
func (b *bench) start(ctx context.Context) error {
	if b.bare == "" {
		return nil
	}
	progress("start")
	const weirVersion, bareProgram = "weir version", "a bare Go program"
	costs := map[string]series{}
	contenders := []contender{
		{{weirVersion, []command{{Args: []string{b.weir, "version"}}}}},
		{{bareProgram, []command{{Args: []string{b.bare}}}}},
	}
	if err := alternate(ctx, contenders, startRounds, costs); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	table := processTable{Configuration: "start", Rounds: startRounds}
	for _, step := range []string{weirVersion, bareProgram} {
		s := costs[step]
		table.Rows = append(table.Rows, processRow{step, 1, summarize(s.wall()), summarize(s.cpu()), summarize(s.rss()), s.small()})
	}
	b.report.Processes = append(b.report.Processes, table)
	b.report.compare(comparison{What: "weir version / a bare Go program, CPU", Value: ratios(costs[weirVersion].cpu(), costs[bareProgram].cpu())})
	return nil
}
