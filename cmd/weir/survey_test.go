// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/sim"

	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/lab"
	"github.com/weir-mesh/weir/internal/show"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim/survey"
)

var updateGoldens = flag.Bool("update", false, "write the tables of testdata/explain anew")

// TestExplainAllGoldens compares what becomes of every class of packets, for each
// configuration of the conformance tables, with the table that is checked in;
// -update writes them.
func TestExplainAllGoldens(t *testing.T) {
	for _, table := range someTablesOf(t) {
		t.Run(table.Config, func(t *testing.T) {
			t.Parallel()
			want := explain.Rules{State: table.state, Listeners: modes.PortNames(table.config)}
			classes, err := want.Classes(explain.Pod())
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			fmt.Fprintf(&got, "# %s\n\n`%s`\n\n", table.Config, arguments(table.Table))
			got.WriteString(show.MarkdownTable(classTable(classes)))
			golden := filepath.Join("testdata", "explain", table.Config+".md")
			if *updateGoldens {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			table, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(table, got.Bytes()) {
				t.Errorf("%s is not what explain --all prints (go test ./cmd/weir -run Goldens -update):\n%s", golden, &got)
			}
			checkExamples(t, want, classes)
		})
	}
}

// checkExamples: what is said of a class is what the evaluator says of its example.
func checkExamples(t *testing.T, want explain.Rules, classes []explain.Class) {
	t.Helper()
	space, err := survey.New(explain.Pod(), want.State)
	if err != nil {
		t.Fatal(err)
	}
	e := sim.EvaluatorOf(space.States[0], space.Host)
	for _, class := range classes {
		j := e.Evaluate(class.Example, nil)
		fate, why, listener := j.Fate.Kind.String(), cmp.Or(j.Decision().Reason, "no rule decides about it"), ""
		switch f := j.Fate; {
		case f.Kind == sim.LostInRouting || f.Kind == sim.Unknown:
			why = f.Why
		case f.Kind == sim.Redirected || f.Kind == sim.Proxied:
			listener = want.Listeners[f.Port]
			fate = strings.TrimSpace(fmt.Sprintf("%s :%d", listener, f.Port))
		case f.Kind == sim.Untouched && f.Src.Addr() != j.Packet.Src.Addr():
			fate = "comes from " + f.Src.Addr().String()
		case f.Kind == sim.Untouched:
			fate = "left alone"
		}
		said, _, _ := strings.Cut(class.Fate, " (no listener: ")
		if said != fate || class.Why != why || class.Listener != listener {
			t.Errorf("class %+v, and of its example the evaluator says %s: %s", class, fate, why)
		}
	}
}

// arguments are a table's, as its command takes them.
func arguments(table *lab.Table) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(table.Env)) {
		words = append(words, name+"="+table.Env[name])
	}
	program := map[string]string{"sidecar": "istio-init", "ambient": "ambient"}[table.Mode]
	return strings.Join(append(append(words, program), table.Args...), " ")
}

// TestDefaultSidecarIsShort: a person can read what a sidecar does.
func TestDefaultSidecarIsShort(t *testing.T) {
	code, out, errs := weir(t, "", "explain", "--all", "--config", podConfig(t, "inbound: {excludePorts: [15020, 15021, 15090]}\n"))
	if rows := strings.Count(out, "\n") - 1; code != exitDone || rows > 16 {
		t.Errorf("exit %d, %d rows, want at most 16: %s\n%s", code, rows, errs, out)
	}
}

// tableOfState is a conformance table with what its arguments mean.
type tableOfState struct {
	*lab.Table
	config modes.Config
	state  rules.State
}

// someTablesOf are the conformance tables, each tenth with -short: a survey of all takes
// half a minute. They are read one after the other: some set the process's environment.
func someTablesOf(t *testing.T) (out []tableOfState) {
	t.Helper()
	step := 1
	if testing.Short() {
		step = 10
	}
	tables := conformanceTablesOf(t)
	for i := 0; i < len(tables); i += step {
		t.Run("arguments of "+tables[i].Config, func(t *testing.T) {
			c, env := tableConfig(t, tables[i])
			state, _, err := modes.State(c, env)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, tableOfState{tables[i], c, state})
		})
	}
	return out
}

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		why, before, after string
		want               []string // a row each; none: nothing changes
	}{
		{"a prefix that is split is the same", "outbound: {excludeCIDRs: [10.0.0.0/8]}", "outbound: {excludeCIDRs: [10.128.0.0/9, 10.0.0.0/9]}", nil},
		{"ports are the same as a range and as a list", "outbound: {excludePorts: [8000-8003]}", "outbound: {excludePorts: [8003, 8001, 8000, 8002]}", nil},
		{"of an order nothing depends", "inbound: {excludePorts: [1, 2]}", "inbound: {excludePorts: [2, 1]}", nil},
		{"one port more is that port", "inbound: {excludePorts: [1, 2]}", "inbound: {excludePorts: [1, 2, 4444]}",
			[]string{"in by eth0 tcp, port 4444 inbound listener :15006 left alone tcp 203.0.113.7 -> 10.244.1.5:4444, arriving on eth0"}},
		{"one port less is that port", "outbound: {excludePorts: [1, 2]}", "outbound: {excludePorts: [2]}",
			[]string{"tcp, to elsewhere, port 1 left alone outbound listener :15001",
				"uid 1337, from not 127.0.0.6, ::6 tcp, to this pod, other loopback, port 1 left alone inbound listener :15006"}},
		{"another listener changes all that it gets", "outbound: {port: 15001}", "outbound: {port: 16001}",
			[]string{"tcp, to elsewhere outbound listener :15001 outbound listener :16001"}},
		{"each side's listeners have its names", "outbound: {port: 9}\ninbound: {via: none}", "outbound: {via: none}\ninbound: {port: 9}",
			[]string{"tcp, to elsewhere outbound listener :9 left alone", "left alone inbound listener :9", "inbound listener :15006 inbound listener :9"}},
		{"addresses that are reserved are unicast too", "outbound: {excludeCIDRs: []}", "outbound: {excludeCIDRs: [240.240.0.0/16]}",
			[]string{"tcp, to 240.240.0.0/16 outbound listener :15001 left alone"}},
		{"and so are those of links", "", "outbound: {linkLocal: captured}",
			[]string{"tcp, to fe80::/10 left alone outbound listener :15001"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			code, out, errs := weir(t, "", "compare", podConfig(t, tt.before+"\n"), podConfig(t, tt.after+"\n"))
			if want := map[bool]int{true: exitDone, false: exitDiffers}[len(tt.want) == 0]; code != want {
				t.Errorf("exit %d, want %d: %s", code, want, errs)
			}
			if len(tt.want) == 0 && out != "no traffic changes fate\n" || len(tt.want) > 0 && strings.Count(out, "\n") != 1+len(tt.want) {
				t.Errorf("it prints\n%s", out)
			}
			words := strings.Join(strings.Fields(out), " ")
			for _, want := range tt.want {
				if !strings.Contains(words, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
	t.Run("the environment says who is who", func(t *testing.T) {
		named, numbered := podConfig(t, "outbound: {excludeUIDs: [nightly]}\n"), podConfig(t, "outbound: {excludeUIDs: [4711]}\n")
		env := filepath.Join(t.TempDir(), "env.yaml")
		if err := os.WriteFile(env, []byte("ipv6: true\nloopbackIPv6: true\nusers: {nightly: 4711}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, errs := weir(t, "", "compare", "--environment", env, named, numbered); code != exitDone {
			t.Errorf("exit %d, %s%s", code, out, errs)
		}
	})
	t.Run("no row says the same twice", func(t *testing.T) {
		_, out, _ := weir(t, "", "compare", "--json", podConfig(t, ""), podConfig(t, "inbound: {via: tproxy}\n"))
		var rows []changeView
		if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) == 0 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		for _, r := range rows {
			if r.Before == r.After {
				t.Errorf("%s, %s: %s before and after, such as %s", r.Who, r.Where, r.Before, r.Example)
			}
		}
	})
	if code, _, errs := weir(t, "", "compare", podConfig(t, "")); code != exitUsage || !strings.Contains(errs, "compare takes two configurations") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// TestLiveSetsAreNotGuessedAt: what comes at run time is a class of its own, and of
// one packet it is not known whether it is of it.
func TestLiveSetsAreNotGuessedAt(t *testing.T) {
	name := filepath.Join(t.TempDir(), "host.yaml")
	if err := os.WriteFile(name, []byte("version: 1\nmode: ambient-host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := weir(t, "", "explain", "--all", "--config", name)
	if words := strings.Join(strings.Fields(out), " "); code != exitDone || !strings.Contains(words, "tcp, to @probes_ipv4 comes from 169.254.7.127") {
		t.Errorf("exit %d: %s\n%s", code, errs, out)
	}
	code, out, errs = weir(t, "", "explain", "--config", name, "tcp", "10.2.3.4:80")
	if code != exitFailed || !strings.Contains(out, "unknown from here: chain postrouting rule 1: what set probes_ipv4 holds changes at run time") {
		t.Errorf("exit %d: %s\n%s", code, errs, out)
	}
}
