// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// elementRounds is how often one element is added.
const elementRounds = 50

// session measures one exclusion added to many, by a program that holds what it
// applied before.
func (b *bench) session(ctx context.Context) (err error) {
	progress("one change through a session")
	ns, err := scratch.NewNamespace()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	f, err := os.Open(ns.Path())
	if err != nil {
		return err
	}
	defer f.Close()
	conn, err := nft.Open(int(f.Fd()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	before, err := state(cidrs(manyCIDRs))
	if err != nil {
		return err
	}
	after, err := state(append([]netip.Prefix{oneMore}, cidrs(manyCIDRs)...))
	if err != nil {
		return err
	}
	s := conn.Session(modes.DefaultTable, "bench")
	var whole, kernel []float64
	for range elementRounds + 1 {
		if _, err := s.Apply(ctx, before); err != nil {
			return err
		}
		start := time.Now()
		r, err := s.Apply(ctx, after)
		took := time.Since(start)
		if err != nil {
			return err
		}
		if r.Outcome != nft.Updated {
			return fmt.Errorf("one element more: %s, not %s", r.Outcome, nft.Updated)
		}
		whole, kernel = append(whole, milliseconds(took)), append(kernel, milliseconds(r.Read+r.Commit+r.Verify))
	}
	b.report.compare(
		comparison{What: "one CIDR added to 10000, Session.Apply, wall", Unit: "ms", Value: summarize(whole[1:]), Bar: 2},
		comparison{What: "one CIDR added to 10000, of that with the kernel: read, commit, verify", Unit: "ms", Value: summarize(kernel[1:])})
	return nil
}

func state(excluded []netip.Prefix) (rules.State, error) {
	s, _, err := modes.State(configuration(excluded), modes.Environment{})
	return s, err
}
