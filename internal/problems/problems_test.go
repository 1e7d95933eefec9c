// SPDX-License-Identifier: Apache-2.0

package problems

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestList(t *testing.T) {
	a, b, c := errors.New("a"), errors.New("b"), errors.New("c")
	wraps := fmt.Errorf("reading: %w and %w", a, b)
	for _, tt := range []struct {
		why  string
		err  error
		want []error
	}{
		{"no error", nil, nil},
		{"an error by itself", a, []error{a}},
		{"joined here", Join(a, b), []error{a, b}},
		{"joined by the standard library", errors.Join(a, b), []error{a, b}},
		{"joined again", Join(errors.Join(a, b), nil, Join(c)), []error{a, b, c}},
		{"an error that says more than those it wraps", Join(wraps, c), []error{wraps, c}},
	} {
		if got := List(tt.err); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.why, got, tt.want)
		}
	}
}

func TestJoin(t *testing.T) {
	if err := Join(nil, nil); err != nil {
		t.Errorf("no errors join to %v", err)
	}
	err := Join(errors.New("first"), nil, io.EOF)
	if err.Error() != "first\nEOF" || !errors.Is(err, io.EOF) {
		t.Errorf("got %q", err)
	}
}

func TestMessageIsBounded(t *testing.T) {
	many := make([]error, 1000)
	for i := range many {
		many[i] = fmt.Errorf("problem %d", i)
	}
	lines := strings.Split(Join(many...).Error(), "\n")
	if len(lines) != maxTold+1 || lines[maxTold] != "and 900 more problems" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	if got := List(Join(many...)); len(got) != len(many) {
		t.Errorf("%d of %d problems can be listed", len(got), len(many))
	}
}
