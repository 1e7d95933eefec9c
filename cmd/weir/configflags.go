package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
	"golang.org/x/sys/unix"
)

// configurationFlags are --config, --environment and, for every key of the
// configuration, a flag of its path.
func configurationFlags() []cli.Flag {
	flags := []cli.Flag{
		&wordsFlag{names: []string{"config", "f"},
			usage: "read the configuration from `FILE`, - for standard input; flags win over it"},
		environmentFlag("not from the namespace"),
	}
	for _, k := range modes.Keys() {
		flags = append(flags, keyFlag(k))
	}
	return flags
}

func environmentFlag(otherwise string) cli.Flag {
	return &wordsFlag{names: []string{"environment"}, usage: "take IPv6, resolvers, users and groups from `FILE`, " + otherwise}
}

func keyFlag(k modes.Key) cli.Flag {
	f := &wordsFlag{
		names: []string{k.Flag()}, category: "The configuration's keys:", usage: k.Doc, defaultText: k.Defaults(), key: &k,
		value: flagWords{list: k.List, bare: k.Default == "enabled" || k.Default == "disabled"},
	}
	switch {
	case f.value.bare:
		f.usage += "; bare, or `=WORD`"
	case k.List:
		f.usage += "; `LIST`, or @FILE"
	}
	if k.List && k.Default == "" {
		f.defaultText = "none"
	}
	return f
}

// given is what was written for a flag, and whether it was.
func given(cc *cli.Context, name string) ([]string, bool) {
	for _, f := range cc.Command.Flags {
		if f, ok := f.(*wordsFlag); ok && slices.Contains(f.names, name) {
			return f.value.words, f.IsSet()
		}
	}
	return nil, false
}

// givenKeys are the flags of keys that were given.
func givenKeys(cc *cli.Context) []*wordsFlag {
	var out []*wordsFlag
	for _, f := range cc.Command.Flags {
		if f, ok := f.(*wordsFlag); ok && f.key != nil && f.IsSet() {
			out = append(out, f)
		}
	}
	return out
}

// configured reports whether a command was given a configuration: a file, or a
// flag for any key but those.
func configured(cc *cli.Context, but ...string) bool {
	if _, ok := given(cc, "config"); ok {
		return true
	}
	return slices.ContainsFunc(givenKeys(cc), func(f *wordsFlag) bool { return !slices.Contains(but, f.key.Path) })
}

var errNoConfiguration = errors.New("there is no configuration (want --config FILE, --config - for standard input, or flags: at least --mode sidecar --proxy-uids 1337)")

// loadConfiguration reads the file that --config names, and the flags, which win
// over it. The error joins everything that is wrong and can be told without an
// environment, with places.
func loadConfiguration(cc *cli.Context, stdin io.Reader) (configuration, error) {
	if !configured(cc) {
		return configuration{}, errNoConfiguration
	}
	c, problems, err := readConfiguration(cc, stdin)
	if err != nil {
		return c, err
	}
	return c, c.checked(problems)
}

// readConfiguration is the configuration as written, and the problems with how.
func readConfiguration(cc *cli.Context, stdin io.Reader) (c configuration, problem, err error) {
	c = newConfiguration("")
	var problems []error
	if names, ok := given(cc, "config"); ok {
		if names[0] == "" {
			return c, nil, errors.New("--config: names no file (want --config FILE, or - for standard input)")
		}
		data, err := readInput(cc.Context, names[0], stdin)
		if err != nil {
			return c, nil, fmt.Errorf("--config: %w", err)
		}
		if c, err = parseConfiguration(names[0], data); err != nil {
			problems = append(problems, err)
		}
	}
	for _, f := range givenKeys(cc) {
		if err := c.setFlag(cc.Context, *f.key, f.value.words); err != nil {
			problems = append(problems, err)
			c.doubt(f.key.Path)
		}
	}
	return c, errors.Join(problems...), nil
}

// checked is all that is wrong with the configuration: the problems that are
// known already, and what its words are. What only follows from one of the
// former is left out.
func (c configuration) checked(problems error) error {
	if c.unread {
		return problems
	}
	out := []error{problems}
	for _, e := range parts(modes.Check(c.Config)) {
		var config *modes.ConfigError
		if errors.As(e, &config) && config.Word == "" && (c.doubtful[config.Key] || c.doubtful[""]) {
			continue
		}
		out = append(out, e)
	}
	return c.explain(errors.Join(out...))
}

// setFlag replaces what the file says for a key.
func (c *configuration) setFlag(ctx context.Context, k modes.Key, values []string) error {
	return c.setBy(ctx, "--"+k.Flag(), k, values)
}

// setBy is setFlag for a flag of another name.
func (c *configuration) setBy(ctx context.Context, flag string, k modes.Key, values []string) error {
	if len(k.Items) > 0 {
		return c.setItems(ctx, flag, k, values)
	}
	at := &keyPlaces{key: place{source: flag}, flag: true}
	if !k.List {
		if values[0] == "" {
			return &placedError{at.key, unnamed{&modes.ConfigError{Key: k.Path, Problem: "is empty (without the flag its default holds)"}}}
		}
		at.words = []wordPlace{{values[0], at.key}}
	}
	for _, v := range values {
		if !k.List {
			break
		}
		words, err := listWords(ctx, flag, v)
		if err != nil {
			return err
		}
		at.words = append(at.words, words...)
	}
	texts := make([]string, len(at.words))
	for i, w := range at.words {
		texts[i] = w.word
	}
	k.Set(&c.Config, texts...)
	c.places[k.Path] = at
	return nil
}

// listWords are the words of a list flag's value: between commas, or in the
// file that follows an @, in lines with commas and # comments.
func listWords(ctx context.Context, flag, value string) ([]wordPlace, error) {
	name, isFile := strings.CutPrefix(value, "@")
	switch {
	case !isFile:
		return splitWords(value, place{source: flag})
	case name == "":
		return nil, fmt.Errorf("%s: @ names no file (want @FILE)", flag)
	case name == "-":
		return nil, fmt.Errorf("%s: @- is no file (want @/dev/stdin for standard input)", flag)
	}
	data, err := readInput(ctx, name, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	if len(data) > maxDocument {
		return nil, fmt.Errorf("%s: %s is longer than %d MiB", flag, name, maxDocument>>20)
	}
	var out []wordPlace
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\ufeff"))) {
		number++
		text, _, _ := strings.Cut(string(line), "#")
		words, err := splitWords(strings.TrimRight(strings.TrimSpace(text), ", \t"), place{source: flag + ": " + name, line: number})
		if err != nil {
			return nil, err
		}
		out = append(out, words...)
	}
	return out, nil
}

func splitWords(list string, at place) ([]wordPlace, error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil // none
	}
	var out []wordPlace
	for w := range strings.SplitSeq(list, ",") {
		w = strings.TrimSpace(w)
		if w == "" {
			return nil, &placedError{at, fmt.Errorf("%q has an empty word (want words with commas between them)", term.Shorten(list))}
		}
		out = append(out, wordPlace{w, at})
	}
	return out, nil
}

// readInput reads a file, or stdin where the name is "-" and there is one, up to
// one byte more than a document may have.
func readInput(ctx context.Context, name string, stdin io.Reader) ([]byte, error) {
	return readUpTo(ctx, name, stdin, maxDocument)
}

// readUpTo is readInput with a bound of its own.
func readUpTo(ctx context.Context, name string, stdin io.Reader, most int64) ([]byte, error) {
	if name != "-" || stdin == nil {
		f, err := openNamed(name, os.O_RDONLY)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
		if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() { // it may let wait
			stdin = interruptible{ctx, f}
		}
	}
	data, err := io.ReadAll(io.LimitReader(stdin, most+1))
	if len(data) > largeInput {
		expectLarge()
	}
	return data, err
}

// openNamed opens a file, whose name is told whole unless it is longer than any.
func openNamed(name string, flags int) (*os.File, error) {
	f, err := os.OpenFile(name, flags, 0)
	var wrong *fs.PathError
	if errors.As(err, &wrong) {
		shown := escape.Text(name)
		if wrong.Err == unix.ENAMETOOLONG {
			shown = escape.Text(term.Shorten(name))
		}
		err = &fs.PathError{Op: wrong.Op, Path: shown, Err: wrong.Err}
	}
	return f, err
}

// permute puts flags, with their values, before arguments: the library stops
// looking for flags at the first argument. What follows "--" is no flag.
func permute(args []string, flags []cli.Flag) []string {
	var first, last []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return slices.Concat(first, []string{"--"}, last, args[i+1:])
		}
		if len(arg) < 2 || arg[0] != '-' {
			last = append(last, arg)
			continue
		}
		first = append(first, arg)
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if hasValue || !takesValue(name, flags) {
			continue
		}
		if i++; i == len(args) {
			return first // no argument may become the value that is missing
		}
		first = append(first, args[i])
	}
	return slices.Concat(first, last)
}

// takesValue reports whether the argument after a flag is its value. An unknown
// flag has none: the library will complain of it.
func takesValue(name string, flags []cli.Flag) bool {
	for _, f := range flags {
		if !slices.Contains(f.Names(), name) {
			continue
		}
		switch f := f.(type) {
		case *cli.BoolFlag:
			return false
		case *wordsFlag:
			return !f.value.bare
		}
		return true
	}
	return false
}
