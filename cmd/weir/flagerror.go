// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/term"
)

// flagProblem is a kind of what is wrong with a flag.
type flagProblem int

const (
	otherProblem flagProblem = iota
	unknownFlag
	missingValue
	invalidValue
)

// flagError is what package flag says of a command's flags, and only as text.
type flagError struct {
	problem flagProblem
	flag    string // without its dashes
	value   string // that does not fit, quoted by package flag
	why     string
}

const (
	unknownFlagText  = "flag provided but not defined: -"
	missingValueText = "flag needs an argument: -"
	invalidValueText = `(?s)^invalid (?:boolean )?value (".*") for (?:flag )?-([^:]+): (.*)$`
)

func parseFlagError(err error) flagError {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, unknownFlagText); ok {
		return flagError{problem: unknownFlag, flag: name}
	}
	if name, ok := strings.CutPrefix(text, missingValueText); ok {
		return flagError{problem: missingValue, flag: name}
	}
	if m := regexp.MustCompile(invalidValueText).FindStringSubmatch(text); m != nil {
		return flagError{problem: invalidValue, value: m[1], flag: m[2], why: m[3]}
	}
	return flagError{}
}

// wrongFlag says what is wrong with a command's flags, and what may be meant.
func wrongFlag(cc *cli.Context, err error, _ bool) error {
	help := helpOn(cc)
	switch e := parseFlagError(err); e.problem {
	case unknownFlag:
		return usageError{fmt.Errorf("unknown flag %s of %s (%s)", term.Shorten(dashed(e.flag)), commandPath(cc), flagHint(cc, e.flag))}
	case missingValue:
		return usageError{fmt.Errorf("%s needs a value (see %s)", dashed(e.flag), help)}
	case invalidValue:
		return usageError{fmt.Errorf("%s: %s %s", dashed(e.flag), shortenQuoted(e.value), cmp.Or(wantedValue(cc.Command.Flags, e.flag), e.why))}
	}
	return usageError{fmt.Errorf("%w (see %s)", err, help)}
}

// dashed is a flag as people write it.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + escape.Text(name)
	}
	return "--" + escape.Text(name)
}

func shortenQuoted(quoted string) string {
	word, err := strconv.Unquote(quoted)
	if err != nil {
		return term.Shorten(quoted)
	}
	return strconv.Quote(term.Shorten(word))
}

// wantedValue is what is wrong with a value that a flag does not take, where the
// library only says that it could not parse it.
func wantedValue(flags []cli.Flag, name string) string {
	for _, f := range flags {
		if !slices.Contains(f.Names(), name) {
			continue
		}
		switch f.(type) {
		case *cli.BoolFlag:
			return "is neither true nor false"
		case *cli.DurationFlag:
			return "is not a duration (want such as 30s or 2m)"
		case *cli.IntFlag:
			return "is not a number"
		}
	}
	return ""
}
