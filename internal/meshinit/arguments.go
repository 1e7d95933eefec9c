// SPDX-License-Identifier: Apache-2.0

//go:build linux

package meshinit

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/pflag"
	"github.com/weir-mesh/weir/internal/term"
)

// Arguments are what an init program was told.
type Arguments struct {
	Help        string // what --help prints, "" where it was not asked for
	DryRun      bool   // change nothing, print the plan
	PrintConfig bool   // change nothing, print the configuration
	Namespace   string // a path or a name; "" is the present one
	LogJSON     bool
	Level       slog.Level
	Given       []string // the flags of the command line, as name=value
	Remarks     []string // what the arguments mean where that may surprise
	Sysctls     []Sysctl // to write besides

	Names Names // of keys
	Meaning
}

// Sysctl is a setting of the network namespace that a program writes.
type Sysctl struct{ Path, Value string }

// LookupVariable is os.LookupEnv, or stands for it.
type LookupVariable func(name string) (value string, set bool)

// Input is what an init program reads besides its arguments.
type Input struct {
	Variable LookupVariable
	Stdin    io.Reader
}

// ArgumentError is that arguments do not parse, or mean nothing; it joins all that is wrong with them.
type ArgumentError struct{ Err error }

func (e ArgumentError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e ArgumentError) Unwrap() error { return e.Err }

// Flag is a flag of an init program.
type Flag struct {
	Name, Usage string
	Bare        bool // it may stand without a value
}

// FlagsOf are all flags of a set.
func FlagsOf(set *pflag.FlagSet) (out []Flag) {
	set.VisitAll(func(f *pflag.Flag) { out = append(out, Flag{f.Name, f.Usage, f.NoOptDefVal != ""}) })
	return out
}

// GivenOf are the flags of a set that were given, such as envoy-port=15001.
func GivenOf(set *pflag.FlagSet) (out []string) {
	set.Visit(func(f *pflag.Flag) { out = append(out, f.Name+"="+f.Value.String()) })
	return out
}

// WithHint adds to the error of a flag that is not known the nearest one. The program is weir's command.
func WithHint(program string, set *pflag.FlagSet, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	var names []string
	set.VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	return fmt.Errorf("%w (%s)", err, Hint(program, "--"+unknown.GetSpecifiedName(), names))
}

// Hint is what to do about a flag that is not known.
func Hint(program, flag string, names []string) string {
	if nearest := term.Nearest(flag, names); nearest != "" {
		return "did you mean " + nearest + "?"
	}
	return "see weir " + program + " --help"
}

// ParseLevel reads a word for a level of a log.
func ParseLevel(word string) (slog.Level, bool) {
	levels := map[string]slog.Level{"trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "warning": slog.LevelWarn,
		"error": slog.LevelError, "fatal": slog.LevelError, "panic": slog.LevelError}
	level, known := levels[strings.ToLower(word)]
	return level, known
}
