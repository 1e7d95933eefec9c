// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"slices"
	"time"
)

// A summary is the middle of what was measured, and its spread: the quartiles.
type summary struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

func summarize(values []float64) summary {
	s := slices.Sorted(slices.Values(values))
	return summary{quantile(s, 0.5), quantile(s, 0.25), quantile(s, 0.75)}
}

// quantile lies between two of the sorted values, as far as q asks.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// ratios are those of values that were measured in the same round.
func ratios(a, b []float64) summary {
	r := make([]float64, len(a))
	for i := range a {
		r[i] = a[i] / b[i]
	}
	return summarize(r)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// series are the costs of one thing, a round each.
type series []cost

func (s series) wall() []float64 { return s.each(func(c cost) float64 { return milliseconds(c.Wall) }) }
func (s series) cpu() []float64  { return s.each(func(c cost) float64 { return milliseconds(c.CPU) }) }
func (s series) rss() []float64 {
	return s.each(func(c cost) float64 { return float64(c.RSS) / megabyte })
}

// small reports whether no peak of memory could be seen.
func (s series) small() bool { return !slices.ContainsFunc(s, func(c cost) bool { return !c.Small }) }

func (s series) each(of func(cost) float64) []float64 {
	out := make([]float64, len(s))
	for i, c := range s {
		out[i] = of(c)
	}
	return out
}

// plus is the sum of what was measured in the same rounds.
func (s series) plus(other series) series {
	out := make(series, len(s))
	for i := range s {
		out[i] = s[i].plus(other[i])
	}
	return out
}
