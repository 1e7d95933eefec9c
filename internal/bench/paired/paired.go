// SPDX-License-Identifier: Apache-2.0

// Package paired compares two things that were measured in the same rounds, turn by turn: what else the machine did
// in a round, it did to both.
package paired

import (
	"fmt"
	"math"
	"slices"
)

// Interval is a median between the order statistics that hold it with a probability of at least 90 %, whatever the
// distribution is.
type Interval struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

func (i Interval) String() string { return fmt.Sprintf("%.3f (%.3f-%.3f)", i.Median, i.Low, i.High) }

// Ratio is the median of a[i] / b[i]. There must be as many of both, and one at least.
func Ratio(a, b []float64) Interval {
	r := make([]float64, len(a))
	for i := range a {
		r[i] = a[i] / b[i]
	}
	slices.Sort(r)
	k := rank(len(r), 0.9)
	return Interval{middle(r), r[k], r[len(r)-1-k]}
}

// Median is the middle of values, of which there is one at least.
func Median(values []float64) float64 { return middle(slices.Sorted(slices.Values(values))) }

func middle(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// rank is the highest k for which the median lies between the k-th lowest and the k-th highest of n values, counted
// from 0, with at least that probability.
func rank(n int, probability float64) int {
	outside, term := 0.0, math.Pow(0.5, float64(n)) // the term of no value below the median
	for k := 0; ; k++ {
		outside += 2 * term
		if 1-outside < probability {
			return max(k-1, 0)
		}
		term *= float64(n-k) / float64(k+1)
	}
}
