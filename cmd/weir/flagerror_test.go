// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"flag"
	"io"
	"testing"
)

// TestParseFlagError: what package flag of the present Go says is understood.
func TestParseFlagError(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want flagError
	}{
		{[]string{"--confg=x"}, flagError{problem: unknownFlag, flag: "confg"}},
		{[]string{"-x"}, flagError{problem: unknownFlag, flag: "x"}},
		{[]string{"--wait"}, flagError{problem: missingValue, flag: "wait"}},
		{[]string{"--wait", "soon"}, flagError{problem: invalidValue, flag: "wait", value: `"soon"`, why: "parse error"}},
		{[]string{"--json=maybe"}, flagError{problem: invalidValue, flag: "json", value: `"maybe"`, why: "parse error"}},
		{[]string{"--wait", "a\n\": -b"}, flagError{problem: invalidValue, flag: "wait", value: `"a\n\": -b"`, why: "parse error"}},
	} {
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		flags.Duration("wait", 0, "")
		flags.Bool("json", false, "")
		if got := parseFlagError(flags.Parse(tt.args)); got != tt.want {
			t.Errorf("%q: got %+v, want %+v", tt.args, got, tt.want)
		}
	}
}
