package main

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/term"
)

// wrongFlag says what is wrong with a command's flags, and what may be meant.
func wrongFlag(cc *cli.Context, err error, _ bool) error {
	help := helpOn(cc)
	if name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); unknown {
		return usageError{fmt.Errorf("%s is no flag of %s (%s)", term.Shorten(dashed(name)), commandPath(cc), meantFlag(cc, name))}
	}
	if name, valueless := strings.CutPrefix(err.Error(), "flag needs an argument: -"); valueless {
		return usageError{fmt.Errorf("%s needs a value (see %s)", dashed(name), help)}
	}
	if m := regexp.MustCompile(invalidValue).FindStringSubmatch(err.Error()); m != nil {
		return usageError{fmt.Errorf("%s: %s %s", dashed(m[2]), shortenQuoted(m[1]), cmp.Or(wantedValue(cc.Command.Flags, m[2]), m[3]))}
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

// invalidValue is how package flag says that a value does not fit.
const invalidValue = `(?s)^invalid (?:boolean )?value (".*") for (?:flag )?-([^:]+): (.*)$`

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
			return "is no time (want such as 30s or 2m)"
		case *cli.IntFlag:
			return "is no number"
		}
	}
	return ""
}

// meantFlag says where a flag belongs that is another command's, or which ones
// of this command may be meant.
func meantFlag(cc *cli.Context, written string) string {
	if cc.Command.Name == cc.App.Name && cc.App.Command(written) != nil {
		return "want weir " + cc.App.Command(written).Name + "?"
	}
	of := commandsWith(written)
	if len(of) > 0 && cc.Command.Name == cc.App.Name {
		return "flags stand after the command"
	}
	var names []string
	for _, f := range cc.Command.Flags {
		names = append(names, f.Names()[0])
	}
	for _, end := range []string{"-" + written, "-" + written + "s"} {
		if longer := withEnd(names, end); len(longer) > 0 && len(longer) <= maxNamed {
			return "want " + strings.Join(longer, " or ") + "?"
		}
	}
	if len(of) > 0 && len(of) <= maxNamed {
		return "it is one of " + strings.Join(of, ", ")
	}
	if nearest := term.Nearest(written, names); nearest != "" {
		return "want --" + nearest + "?"
	}
	return "see " + helpOn(cc)
}

const maxNamed = 5 // flags or commands that a hint names

// withEnd are the flags whose names end so.
func withEnd(names []string, end string) []string {
	var out []string
	for _, name := range names {
		if strings.HasSuffix(name, end) {
			out = append(out, "--"+name)
		}
	}
	return out
}

// commandsWith are the commands that have a flag.
func commandsWith(flag string) []string {
	var out []string
	for _, c := range commands(nil) {
		if hasFlag(c, flag) {
			out = append(out, "weir "+c.Name)
		}
	}
	return out
}

func hasFlag(c *cli.Command, name string) bool {
	return slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
}

func suggestion(written string, known []string, help string) string {
	if nearest := term.Nearest(written, known); nearest != "" {
		return "want " + nearest + "?"
	}
	return "see " + help
}

// noArguments refuses words that no command of ours takes.
func noArguments(cc *cli.Context) error {
	word := cc.Args().First()
	if !cc.Args().Present() {
		return nil
	}
	meant := "see " + helpOn(cc)
	if _, err := os.Stat(word); err == nil && hasFlag(cc.Command, "config") {
		meant = "want --config " + word + "?"
	}
	return usageError{fmt.Errorf("%s takes no argument such as %q (%s)", strings.TrimPrefix(commandPath(cc), "weir "), term.Shorten(word), meant)}
}
