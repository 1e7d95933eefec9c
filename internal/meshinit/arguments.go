//go:build linux

package meshinit

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
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

	Names   Names                                                 // of keys
	Users   bool                                                  // the configuration asks for the users of passwd
	Meaning func(modes.Environment) (modes.Config, error)         // the configuration, but for IPv6 where HasIPv6 is set
	HasIPv6 func(addresses []netip.Addr) bool                     // of the interfaces but lo; nil where the arguments say it
	Missing func(c *modes.Config, env modes.Environment) []string // what the reference leaves out where the namespace lacks it; nil: nothing
}

// Sysctl is a setting of the network namespace that a program writes.
type Sysctl struct{ Path, Value string }

// LookupVariable is os.LookupEnv, or stands for it.
type LookupVariable func(name string) (value string, set bool)

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

// Split splits a list at its commas. It is empty, not nil, where there is no word: an empty list means
// none.
func Split(list string) []string {
	out := []string{}
	for w := range strings.SplitSeq(list, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// PortWords are words for ports.
func PortWords(list []string) []modes.PortWord {
	var out []modes.PortWord
	for _, w := range list {
		out = append(out, modes.PortWord(w))
	}
	return out
}

// ParseLevel reads a word for a level of a log.
func ParseLevel(word string) (slog.Level, bool) {
	levels := map[string]slog.Level{"trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "warning": slog.LevelWarn,
		"error": slog.LevelError, "fatal": slog.LevelError, "panic": slog.LevelError}
	level, known := levels[strings.ToLower(word)]
	return level, known
}
