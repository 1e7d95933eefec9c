// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/diagnose"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/tty"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// namespacesFlags are targetFlags for commands that work in many namespaces.
func namespacesFlags() []cli.Flag {
	flags := targetFlags()
	flags[0] = &cli.StringSliceFlag{Name: "netns", Category: categoryWhere,
		Usage: "work in the network namespace `NAME|PATH|PATTERN`; may be given again, and * and ? stand for many"}
	return flags
}

// inNamespaces does a command's work in each of the network namespaces that its
// flags name, side by side. What goes wrong in one touches no other.
func inNamespaces(cc *cli.Context, work func(context.Context, *command) error) error {
	patterns := cc.StringSlice("netns")
	if len(patterns) == 0 || cc.IsSet("pid") || cc.IsSet("pod") || slices.Contains(patterns, "") {
		return inOneNamespace(cc, "", work)
	}
	names, err := netns.Expand(patterns)
	if err != nil {
		return usageError{fmt.Errorf("--netns: %w", err)}
	}
	if len(patterns) == 1 && names[0] == patterns[0] {
		return inOneNamespace(cc, names[0], work)
	}
	return inTime(cc, func(ctx context.Context, environment *modes.Environment) error {
		f := &fleet{cc: cc, environment: environment, names: names, results: map[string]int{}, failed: map[string]string{}, notes: map[string]bool{}, documents: map[string]json.RawMessage{}}
		return f.do(ctx, work)
	})
}

// fleet is one command's work in many namespaces, and what came of it so far.
type fleet struct {
	cc          *cli.Context
	environment *modes.Environment
	names       []string

	mu        sync.Mutex
	done      int
	results   map[string]int
	differs   bool
	unprinted error             // of the first output that could not be written
	failed    map[string]string // why, by name
	notes     map[string]bool   // that were told
	documents map[string]json.RawMessage
}

func (f *fleet) do(ctx context.Context, work func(context.Context, *command) error) error {
	runtime.GOMAXPROCS(runtime.NumCPU())
	f.sayProgress()
	capture.ForEach(ctx, f.names, func(ctx context.Context, name string, t *netns.Namespace, err error) { f.one(ctx, name, t, err, work) })
	return f.summary(ctx)
}

// one works in one namespace, or tells why it could not be opened. What is printed
// there is kept, and told whole.
func (f *fleet) one(ctx context.Context, name string, t *netns.Namespace, err error, work func(context.Context, *command) error) {
	var out, errs bytes.Buffer
	cmd := newCommand(f.cc, t, f.environment)
	cmd.streams, cmd.namespace = streams{out: &out, err: &errs}, name
	if err == nil {
		err = work(ctx, cmd)
	} else if ctx.Err() == nil {
		err = namedTargetError("--netns", name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done++
	f.tellNotes(errs.String())
	if err != nil && !errors.Is(err, errDiffers) {
		f.failed[name] = strings.ReplaceAll(diagnose.WithPermit(whyEnded(ctx, err)).Error(), "\n", "; ")
		fmt.Fprintf(f.cc.App.ErrWriter, "%s: %s\n", escape.Text(name), escape.Text(f.failed[name]))
	} else {
		f.results[cmd.result]++
		f.differs = f.differs || err != nil
		f.tell(name, cmd.result, out.Bytes())
	}
	f.sayProgress()
}

// sayProgress tells how far the work is. Who calls it holds the lock where others work.
func (f *fleet) sayProgress() {
	tty.ProgressOf(f.cc.App.ErrWriter).Say("%d of %d network namespaces, %d failed", f.done, len(f.names), len(f.failed))
}

// tellNotes repeats what a command noted, but not what another one noted alike.
func (f *fleet) tellNotes(text string) {
	for line := range strings.Lines(text) {
		if !f.notes[line] {
			f.notes[line] = true
			io.WriteString(f.cc.App.ErrWriter, line)
		}
	}
}

// tell prints what a command printed, where that is more than how it ended.
func (f *fleet) tell(name, result string, text []byte) {
	switch {
	case f.cc.Bool("json"):
		f.documents[name] = json.RawMessage(text)
	case result == planned:
		_, err := fmt.Fprintf(f.cc.App.Writer, "# network namespace %s\n%s", escape.Text(name), text)
		f.unprinted = cmp.Or(f.unprinted, err)
	case result == differs:
		for line := range bytes.Lines(text) {
			_, err := fmt.Fprintf(f.cc.App.Writer, "%s: %s", escape.Text(name), line)
			f.unprinted = cmp.Or(f.unprinted, err)
		}
	}
}

// summary says what came of it all.
func (f *fleet) summary(ctx context.Context) error {
	printed := f.unprinted
	if f.cc.Bool("json") {
		printed = writeJSON(f.cc.App.Writer, map[string]any{"namespaces": f.documents, "results": f.results, "failed": f.failed})
	} else if f.results[planned] == 0 {
		var parts []string
		for _, result := range slices.SortedFunc(maps.Keys(f.results), func(a, b string) int { return cmp.Compare(f.results[b], f.results[a]) }) {
			parts = append(parts, fmt.Sprintf("%d %s", f.results[result], result))
		}
		if len(f.failed) > 0 {
			parts = append(parts, fmt.Sprintf("%d failed", len(f.failed)))
		}
		_, err := fmt.Fprintf(f.cc.App.Writer, "%d network namespaces: %s\n", len(f.names), strings.Join(parts, ", "))
		printed = cmp.Or(printed, err)
	}
	switch {
	case len(f.failed) > 0:
		return errors.Join(fmt.Errorf("%d of %d network namespaces failed", len(f.failed), len(f.names)), ctx.Err(), printed)
	case printed != nil:
		return printed
	case f.differs:
		return errDiffers
	}
	return nil
}
