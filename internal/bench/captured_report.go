// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/weir-mesh/weir/internal/bench/paired"
)

// captureRow is what one way of capture cost, in one direction.
type captureRow struct {
	What      string    `json:"what"`
	Direction direction `json:"direction"`
	Way       string    `json:"way"`
	Unit      string    `json:"unit"`
	PerCPU    summary   `json:"perSecondOfCPU"`
	PerSecond summary   `json:"perSecond"`
	CPU       summary   `json:"cpuMicrosecondsEach"`
	// Beside REDIRECT in the same round.
	CPURatio  paired.Interval `json:"perSecondOfCPUBesideRedirect"`
	WallRatio paired.Interval `json:"perSecondBesideRedirect"`
}

// alternateWays takes rounds, in each of which every way has some turns, another one first:
// what else the machine does then meets them alike.
func (b *bench) alternateWays(ctx context.Context, pods []*pod, m captureMeasure, d direction) (err error) {
	turners := map[*pod]turner{}
	defer func() {
		for _, t := range turners {
			err = errors.Join(err, t.Close())
		}
	}()
	for _, p := range pods {
		if turners[p], err = m.start(ctx, p, d); err != nil {
			return fmt.Errorf("%s, %s, %s: %w", p.way, m.name, d, err)
		}
	}
	perCPU, perSecond, each := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for round := range m.warm + captureRounds {
		amounts, efforts := map[string]float64{}, map[string]effort{}
		for turn := range m.turns * len(pods) {
			if err := ctx.Err(); err != nil {
				return err
			}
			p := pods[(turn+turn/len(pods)+round)%len(pods)]
			amount, took, err := turners[p].turn(ctx)
			if err != nil {
				return fmt.Errorf("%s, %s, %s: %w", p.way, m.name, d, err)
			}
			amounts[p.way] += amount
			efforts[p.way] = effort{efforts[p.way].wall + took.wall, efforts[p.way].cpu + took.cpu}
		}
		if round < m.warm {
			continue
		}
		for _, p := range pods {
			amount, took := amounts[p.way], efforts[p.way]
			perCPU[p.way] = append(perCPU[p.way], amount/took.cpu.Seconds())
			perSecond[p.way] = append(perSecond[p.way], amount/took.wall.Seconds())
			each[p.way] = append(each[p.way], took.cpu.Seconds()*1e6/amount)
		}
	}
	for _, p := range pods {
		row := captureRow{m.name, d, p.way, m.unit, summarize(perCPU[p.way]), summarize(perSecond[p.way]), summarize(each[p.way]),
			paired.Ratio(perCPU[p.way], perCPU[wayRedirect]), paired.Ratio(perSecond[p.way], perSecond[wayRedirect])}
		b.report.Captures = append(b.report.Captures, row)
		if m.bar != 0 && (p.way == wayLean || p.way == wayFuller) {
			b.report.compare(comparison{What: fmt.Sprintf("%s, %s: %s / %s, lower end of 90 %%", m.name, d, p.way, wayRedirect),
				Value: summary{row.CPURatio.Low, row.CPURatio.Low, row.CPURatio.Low}, Bar: m.bar, AtLeast: true})
		}
	}
	return nil
}

// printCaptures has a table for each thing that was measured.
func (r report) printCaptures(w io.Writer) {
	r.printHeld(w)
	last := ""
	for _, row := range r.Captures {
		if title := fmt.Sprintf("%s, %s, %d rounds", row.What, row.Direction, captureRounds); title != last {
			last = title
			fmt.Fprintf(w, "\n%s\t%s per second of CPU\tCPU us each\tbeside REDIRECT (90 %%)\tper second\tbeside REDIRECT (90 %%)\n", title, row.Unit)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\n", row.Way, row.PerCPU.rate(), row.CPU, row.CPURatio, row.PerSecond.rate(), row.WallRatio)
	}
}

// printHeld has a row for each way and direction.
func (r report) printHeld(w io.Writer) {
	if len(r.Held) > 0 {
		fmt.Fprint(w, "\na held connection, up to the proxy\tentries of the tracker\tbytes\n")
	}
	for _, h := range r.Held {
		fmt.Fprintf(w, "  %s, %s\t%8.2f\t%8.0f\n", h.Direction, h.Way, h.Entries, h.Bytes)
	}
}

// rate is a summary of large numbers, or of small ones.
func (s summary) rate() string {
	if s.Median < 1000 {
		return s.String()
	}
	return fmt.Sprintf("%8.0f (%.0f-%.0f)", s.Median, s.Low, s.High)
}
