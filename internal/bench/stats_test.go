// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import "testing"

func TestSummarize(t *testing.T) {
	for _, tt := range []struct {
		why  string
		in   []float64
		want summary
	}{
		{"one value has no spread", []float64{3}, summary{3, 3, 3}},
		{"the order of rounds does not matter", []float64{5, 1, 3, 2, 4}, summary{3, 2, 4}},
		{"between two values lies their middle", []float64{1, 2, 3, 4}, summary{2.5, 1.75, 3.25}},
	} {
		if got := summarize(tt.in); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.why, got, tt.want)
		}
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	got := ratios([]float64{1, 20, 300}, []float64{2, 40, 600})
	if want := (summary{0.5, 0.5, 0.5}); got != want {
		t.Errorf("a slow round makes no spread: %v, want %v", got, want)
	}
}

func TestMet(t *testing.T) {
	for _, tt := range []struct {
		why  string
		in   comparison
		want string
	}{
		{"a ceiling, below it", comparison{Value: summary{Median: 1}, Bar: 2}, "yes"},
		{"a ceiling, above it", comparison{Value: summary{Median: 3}, Bar: 2}, "NO"},
		{"a floor, below it", comparison{Value: summary{Median: 1}, Bar: 2, AtLeast: true}, "NO"},
		{"a floor, above it", comparison{Value: summary{Median: 3}, Bar: 2, AtLeast: true}, "yes"},
		{"just there", comparison{Value: summary{Median: 2}, Bar: 2}, "yes"},
	} {
		if got := tt.in.met(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.why, got, tt.want)
		}
	}
}
