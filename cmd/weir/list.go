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
	"github.com/weir-mesh/weir/internal/escape"
	nodepods "github.com/weir-mesh/weir/internal/pods"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Usage: "list the network namespaces on this node: whose they are, and which engine captures there",
		Description: "Example: weir list\n\n" +
			"A row for each namespace that a process is in, printed as soon as it is known.\n" +
			"One that cannot be read within two seconds has the reason in its row. Those of\n" +
			"other users take root.",
		Flags: []cli.Flag{timeoutFlag(), jsonFlag()},
		Action: func(cc *cli.Context) error {
			return inTime(cc, func(ctx context.Context, _ *modes.Environment) error { return list(ctx, cc) })
		},
	}
}

// residence is a network namespace that processes are in.
type residence struct {
	PID     int      `json:"pid"` // of the oldest of them
	Name    string   `json:"name"`
	Pod     string   `json:"pod,omitempty"`
	Engines []string `json:"engines"` // that have rules there
	Tables  []holder `json:"tables"`  // weir's
	Error   string   `json:"error,omitempty"`
}

// holder is a table of weir's in a namespace.
type holder struct {
	Table   string `json:"table"`
	Version string `json:"version"`
	State   string `json:"state"`
	Clean   bool   `json:"clean"` // it is as weir wrote it
}

func list(ctx context.Context, cc *cli.Context) error {
	all, err := nodepods.Processes()
	if err != nil {
		return err
	}
	visits, hidden, doubts := visitsTo(all)
	if hidden > 0 {
		fmt.Fprintf(cc.App.ErrWriter, "note: %d processes may not be looked at%s\n", hidden, netns.Advice(fs.ErrPermission))
	}
	if len(doubts) > 0 {
		fmt.Fprintf(cc.App.ErrWriter, "note: %d processes are in cgroups that name a pod and are not counted as its: %s\n", len(doubts), escape.Text(doubts[0]))
	}
	if !cc.Bool("json") {
		return printResidences(ctx, cc.App.Writer, visits)
	}
	rows := []residence{}
	err = visitAll(ctx, visits, func(r residence) error {
		rows = append(rows, r)
		return nil
	})
	slices.SortFunc(rows, func(a, b residence) int { return a.PID - b.PID })
	return errors.Join(writeJSON(cc.App.Writer, rows), err)
}

// look reads what the namespace holds that the process was in when it was listed.
func (r *residence) look(ctx context.Context, listed uint64) error {
	t, err := netns.OfProcess(r.PID)
	if err != nil {
		return targetError("list", err)
	}
	defer t.Close()
	if now, err := t.Inode(); err != nil || now != listed {
		return fmt.Errorf("process %d is in another network namespace than when it was listed: %w", r.PID, cmp.Or(err, netns.ErrNotExist))
	}
	conn, err := openNft(t)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.LimitReading(maxLookRead)
	ruleset, err := conn.RulesetWith(ctx, noElements)
	if err != nil {
		return err
	}
	policy, err := conn.ForeignPolicyRules(ctx)
	if err != nil {
		return err
	}
	legacy, err := t.LegacyTables()
	if err != nil {
		return withAdvice(err)
	}
	if err := r.own(ctx, conn, ruleset); err != nil {
		return err
	}
	for _, s := range sightings(ruleset.Tables, legacy, policy) {
		r.Engines = append(r.Engines, s.Engine)
	}
	if len(r.Engines) == 0 {
		r.Engines = append(r.Engines, unknownCapture(ruleset.Tables)...)
	}
	return nil
}

// own finds weir's tables, and whether they are as it wrote them.
func (r *residence) own(ctx context.Context, conn *nft.Conn, ruleset *nft.Ruleset) error {
	for _, t := range ruleset.Tables {
		if t.Tag == nil || t.Family != "inet" {
			continue
		}
		live, err := conn.Read(ctx, t.Name)
		if err != nil {
			return err
		}
		drift, err := live.Drift()
		r.Tables = append(r.Tables, holder{t.Name, t.Tag.Version, t.Tag.Hash, err == nil && len(drift) == 0})
	}
	if len(r.Tables) > 0 {
		r.Engines = append(r.Engines, "weir")
	}
	return nil
}

// unknownCapture are the tables of programs that are none of the known engines and
// redirect all the same.
func unknownCapture(tables []*nft.LiveTable) (out []string) {
	for _, t := range tables {
		if t.Tag == nil && holdsNode(t.Table, redirects) {
			out = append(out, "table "+t.Title())
		}
	}
	return out
}

func redirects(n rules.Node) bool {
	switch n.(type) {
	case rules.Redirect, rules.TProxy:
		return true
	}
	return false
}

func holdsNode(t *rules.Table, is func(rules.Node) bool) bool {
	return slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool {
		return slices.ContainsFunc(c.Rules, func(r rules.Rule) bool { return slices.ContainsFunc(r.Nodes, is) })
	})
}

// printResidences prints a row for each namespace as soon as it is known. What is
// known of all beforehand decides the widths of the columns; those of what is read
// are fixed, and a longer text moves what follows it.
func printResidences(ctx context.Context, w io.Writer, visits []visit) error {
	const engine, wrote = 16, 24
	name, pod := len("PROCESS"), len("POD")
	for _, v := range visits {
		name = max(name, utf8.RuneCountInString(escape.Text(v.processes[0].Name)))
		pod = max(pod, utf8.RuneCountInString(escape.Text(v.processes[0].Pod)))
	}
	row := func(cells ...string) error {
		c := escape.Texts(cells)
		_, err := fmt.Fprintf(w, "%-7s  %-*s  %-*s  %-*s  %-*s  %s\n", c[0], name, c[1], pod, c[2], engine, c[3], wrote, c[4], c[5])
		return err
	}
	if err := row("PID", "PROCESS", "POD", "ENGINE", "WEIR", "STATE"); err != nil {
		return err
	}
	return visitAll(ctx, visits, func(r residence) error {
		return row(strconv.Itoa(r.PID), r.Name, cmp.Or(r.Pod, "-"), cmp.Or(strings.Join(r.Engines, ", "), "-"), cmp.Or(r.versions(), "-"), r.state())
	})
}

func (r residence) versions() string {
	var words []string
	for _, t := range r.Tables {
		words = append(words, t.Version+" "+t.State)
	}
	return strings.Join(words, ", ")
}

func (r residence) state() string {
	switch {
	case r.Error != "":
		return r.Error
	case len(r.Tables) == 0:
		return "-"
	}
	for _, t := range r.Tables {
		if !t.Clean {
			return "drifted"
		}
	}
	return clean
}
