// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"flag"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// wordsFlag is a flag that keeps what was written each time that it was given. The
// library's own look their names up by regular expressions, each flag among all,
// which for the configuration's keys takes a quarter of the time of an apply.
type wordsFlag struct {
	names    []string
	usage    string // where key does not say it
	category string
	key      *modes.Key // nil for a flag that is not a key of the configuration
	value    flagWords
}

// Apply makes the flag known to package flag.
func (f *wordsFlag) Apply(set *flag.FlagSet) error {
	for _, name := range f.names {
		set.Var(&f.value, name, f.usage)
	}
	return nil
}

func (f *wordsFlag) String() string       { return cli.FlagStringer(f) }
func (f *wordsFlag) Names() []string      { return f.names }
func (f *wordsFlag) IsSet() bool          { return len(f.value.words) > 0 }
func (f *wordsFlag) IsVisible() bool      { return true }
func (f *wordsFlag) TakesValue() bool     { return true }
func (f *wordsFlag) GetCategory() string  { return f.category }
func (f *wordsFlag) GetValue() string     { return f.value.String() }
func (f *wordsFlag) GetEnvVars() []string { return nil }

// GetUsage is for help: few runs write any.
func (f *wordsFlag) GetUsage() string {
	switch {
	case f.key == nil:
		return f.usage
	case f.value.bare:
		return f.key.Doc + "; bare, or `=WORD`"
	case f.key.List:
		return f.key.Doc + "; `LIST`, or @FILE"
	}
	return f.key.Doc
}

// GetDefaultText is what holds without the flag, "" where nothing does.
func (f *wordsFlag) GetDefaultText() string {
	switch {
	case f.key == nil:
		return ""
	case f.key.List && f.key.Default == "":
		return "none"
	}
	return f.key.Defaults()
}

// flagWords is the value of a flag: what was written each time that it was
// given.
type flagWords struct {
	list  bool // may be given again, for more
	bare  bool // may be given without a value
	words []string
}

// Set takes one writing of the flag. The library repeats one under each of a
// flag's names.
func (f *flagWords) Set(value string) error {
	if !f.list && len(f.words) > 0 {
		if f.words[0] != value {
			return fmt.Errorf("is a second value (the first is %q)", term.Shorten(f.words[0]))
		}
		return nil
	}
	f.words = append(f.words, value)
	return nil
}

func (f *flagWords) String() string { return strings.Join(f.words, ",") }

// IsBoolFlag tells package flag that the flag may stand without a value, which
// then is "true".
func (f *flagWords) IsBoolFlag() bool { return f.bare }
