// SPDX-License-Identifier: Apache-2.0

//go:build linux

package podlist

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/problems"
)

const (
	one = "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
	two = "1a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
)

// TestRoundTrip: what a list prints is read as it was.
func TestRoundTrip(t *testing.T) {
	const text = two + " fd00::7 10.0.0.9 # two\n\n# nothing\n" + one + " 10.0.0.7\n"
	pods, err := Parse("pods", text)
	if err != nil {
		t.Fatal(err)
	}
	var printed strings.Builder
	for _, p := range Of(pods) {
		printed.WriteString(p.String() + "\n")
	}
	if want := one + " 10.0.0.7\n" + two + " 10.0.0.9 fd00::7\n"; printed.String() != want {
		t.Errorf("printed\n%swant\n%s", &printed, want)
	}
	if again, err := Parse("again", printed.String()); err != nil || !reflect.DeepEqual(again, pods) {
		t.Errorf("read again as %v, %v, want %v", again, err, pods)
	}
}

// TestProblems: each has its line.
func TestProblems(t *testing.T) {
	_, err := Parse("pods", one+" 10.0.0.7 10.0.0.300 fe80::1%eth0\n"+two+" 10.0.0.7\n"+strings.Repeat("x", 200)+" 10.0.0.8\n")
	var lines []int
	for _, err := range problems.List(err) {
		var p *config.Problem
		if !errors.As(err, &p) || p.Place.File != "pods" {
			t.Fatalf("%v has no place", err)
		}
		lines = append(lines, p.Place.Line)
	}
	if want := []int{1, 1, 2, 3}; !reflect.DeepEqual(lines, want) {
		t.Errorf("problems of lines %v, want %v: %v", lines, want, err)
	}
}
