// SPDX-License-Identifier: Apache-2.0

package paired

import "testing"

func TestRatio(t *testing.T) {
	var ours, theirs []float64
	for i := range 15 {
		ours, theirs = append(ours, float64(2*i+2)), append(theirs, float64(i+1)) // slow rounds make no spread
	}
	if got, want := Ratio(ours, theirs), (Interval{2, 2, 2}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	one := []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}
	for i := range ours {
		ours[i] = float64(i)
	}
	if got, want := Ratio(ours, one), (Interval{7, 3, 11}); got != want { // 96 % of 15 values, and the next rank 88 %
		t.Errorf("%v, want %v", got, want)
	}
}

func TestMedian(t *testing.T) {
	if got := Median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("%v, want 2.5", got)
	}
}
