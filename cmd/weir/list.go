// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/agent"
	"github.com/weir-mesh/weir/internal/diagnose"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/internal/tty"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Usage: "list the network namespaces on this node: whose they are, and which engine captures there",
		Description: "Example: weir list\n\n" +
			"A row for each namespace that a process is in or that /run/netns has a name of,\n" +
			"printed as soon as it is known.\n" +
			"One that cannot be read within two seconds has the reason in its row. Those of\n" +
			"other users take root.",
		Flags: []cli.Flag{timeoutFlag(), jsonFlag()},
		Action: func(cc *cli.Context) error {
			return inTime(cc, func(ctx context.Context, _ *modes.Environment) error { return list(ctx, cc) })
		},
	}
}

func list(ctx context.Context, cc *cli.Context) error {
	l, err := diagnose.NewListing()
	if err != nil {
		return err
	}
	if l.Hidden > 0 {
		fmt.Fprintf(cc.App.ErrWriter, "note: processes that may not be looked at: %d%s\n", l.Hidden, netns.Advice(fs.ErrPermission))
	}
	if len(l.Doubts) > 0 {
		fmt.Fprintf(cc.App.ErrWriter, "note: processes that are in the cgroup of a pod and not counted as its: %d, such as %s\n", len(l.Doubts), escape.Text(l.Doubts[0]))
	}
	known, err := askAgent(ctx)
	if err != nil {
		fmt.Fprintf(cc.App.ErrWriter, "note: the node agent did not answer: %v\n", err)
	}
	if !cc.Bool("json") {
		return printResidences(ctx, cc.App.Writer, l, known)
	}
	rows := []listed{}
	err = l.Each(ctx, func(r diagnose.Residence) error {
		rows = append(rows, listed{r, known[r.Pod]})
		return nil
	})
	slices.SortFunc(rows, func(a, b listed) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.Netns, b.Netns))
	})
	return errors.Join(writeJSON(cc.App.Writer, rows), err)
}

// listed is a row, with what the node's agent says of it.
type listed struct {
	diagnose.Residence
	Agent *agent.Row `json:"agent,omitempty"` // nil: there is none, or it does not know the pod
}

// askAgent is what the node's agent knows, by the UIDs of pods: nothing where there is no agent.
func askAgent(ctx context.Context) (map[string]*agent.Row, error) {
	rows, err := agent.Rows(ctx, agent.DefaultSocket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	known := map[string]*agent.Row{}
	for _, r := range rows {
		if r.UID != "" {
			known[r.UID] = &r
		}
	}
	return known, err
}

// printResidences prints a row for each namespace as soon as it is known. The widths of
// the columns are those of what is known of all beforehand; for what is read they are
// fixed, and a longer text moves the rest of its row.
func printResidences(ctx context.Context, w io.Writer, l *diagnose.Listing, known map[string]*agent.Row) error {
	const pid, engine, wrote, state = 7, 8, 13, 9
	process, named, pod := len("PROCESS"), len("NETNS"), len("POD")
	for _, r := range l.Residents() {
		process = max(process, utf8.RuneCountInString(escape.Text(r.Process)))
		named = max(named, utf8.RuneCountInString(escape.Text(r.Netns)))
		pod = max(pod, utf8.RuneCountInString(escape.Text(podName(r.Pod, known))))
	}
	columns := tty.LookOf(w).Columns(0, 2, []int{pid, process, named, pod, engine, wrote, state})
	heading := term.Styled(term.Bold, term.Cells("PID", "PROCESS", "NETNS", "POD", "ENGINE", "WEIR", "STATE"))
	if err := writeText(w, columns.Row(heading)); err != nil {
		return err
	}
	return l.Each(ctx, func(r diagnose.Residence) error {
		pid := "-"
		if r.PID != 0 {
			pid = strconv.Itoa(r.PID)
		}
		cells := term.Cells(escape.Texts([]string{pid, cmp.Or(r.Process, "-"), cmp.Or(r.Netns, "-"), cmp.Or(podName(r.Pod, known), "-"),
			cmp.Or(strings.Join(r.Engines, ", "), "-"), cmp.Or(versionsOf(r), "-"), agentState(stateOf(r), known[r.Pod]) + unreadOf(r)})...)
		cells[len(cells)-1].Style = stateStyle(r)
		return writeText(w, columns.Row(cells))
	})
}

func stateStyle(r diagnose.Residence) term.Style {
	switch state := stateOf(r); {
	case state == clean:
		return term.Green
	case r.Error != "", len(r.Tables) > 0:
		return term.Red
	}
	return term.Plain
}

// podName is a pod's name where the agent knows it, else its UID.
func podName(uid string, known map[string]*agent.Row) string {
	if r := known[uid]; r != nil {
		return r.Pod
	}
	return uid
}

// agentState is a state with what only the agent knows.
func agentState(state string, r *agent.Row) string {
	if r != nil && r.Escaped > 0 {
		state += fmt.Sprintf(", %d packets past the proxy", r.Escaped)
	}
	if r == nil || slices.Contains([]string{"captured", "left", "unknown"}, r.State) {
		return state
	}
	if r.Writer != "" {
		return fmt.Sprintf("%s, %s (%s)", state, r.State, r.Writer)
	}
	return state + ", " + r.State
}

// shortState is how much of a state tells it from those of other pods; --json has all.
const shortState = 8

func versionsOf(r diagnose.Residence) string {
	var words []string
	for _, t := range r.Tables {
		words = append(words, t.Version+" "+t.State[:min(len(t.State), shortState)])
	}
	return strings.Join(words, ", ")
}

// unreadOf says that what else has rules there is not known.
func unreadOf(r diagnose.Residence) string {
	if r.Unread == "" {
		return ""
	}
	return "; iptables-legacy not read"
}

func stateOf(r diagnose.Residence) string {
	switch {
	case r.Error != "":
		return r.Error
	case len(r.Tables) == 0:
		return "-"
	}
	inTheWay := 0
	for _, t := range r.Tables {
		if !t.Clean {
			return "drifted"
		}
		inTheWay += len(t.Conflicts)
	}
	if inTheWay > 0 {
		return fmt.Sprintf("%s, %d in the way", clean, inTheWay)
	}
	return clean
}
