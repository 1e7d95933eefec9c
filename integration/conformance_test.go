// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/lab"
	"github.com/weir-mesh/weir/internal/scratch"
)

const conformance = "testdata/conformance"

// sidecarTables are those of what the reference did to every probe, one a configuration,
// without the fates.
func sidecarTables(t testing.TB) []*lab.Table { return tablesOf(t, "sidecar") }

func tablesOf(t testing.TB, mode string) []*lab.Table {
	t.Helper()
	files, err := filepath.Glob(conformance + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	var tables []*lab.Table
	for _, f := range files {
		if filepath.Base(f) == "probes.json" {
			continue
		}
		table, err := lab.LoadHead(f)
		if err != nil {
			t.Fatal(err)
		}
		if table.Mode == mode {
			tables = append(tables, table)
		}
	}
	return tables
}

// withFates is the table of a head: all of them are much to read for a test of one.
func withFates(t testing.TB, head *lab.Table) *lab.Table {
	t.Helper()
	table, err := lab.LoadTable(filepath.Join(conformance, head.Config+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// podRoot is the root folder of a container of one file, but for the files of
// /etc that every container has.
func podRoot(t testing.TB) (root string) {
	t.Helper()
	root = sharedDir(t)
	install(t, root)
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"resolv.conf": lab.ResolvConf,
		"passwd":      "root:x:0:0:root:/:/bin/sh\n",
		"group":       "root:x:0:\nmail:x:8:\n",
	} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// loadProbes are those that every table has a fate for.
func loadProbes(t testing.TB) []scratch.Probe {
	t.Helper()
	probes, err := lab.LoadProbes(conformance + "/probes.json")
	if err != nil {
		t.Fatal(err)
	}
	return probes
}

// environ is a table's environment as a process has it.
func environ(table *lab.Table) []string {
	var out []string
	for name, value := range table.Env {
		out = append(out, name+"="+value)
	}
	return out
}

// commandOf is the command that takes the arguments of a mode's tables.
var commandOf = map[string]string{"sidecar": "istio-init", "ambient": "ambient",
	"linkerd": "linkerd-init", "kuma": "kuma-init", "consul": "consul-redirect"}

// TestConformance sends 1,175 real connections and datagrams for each of 39
// configurations of istio-init and 14 of an ambient pod: what becomes of every one
// is what became of it with the reference.
func TestConformance(t *testing.T) {
	needUsers(t)
	isolated(t)
	probes, root := loadProbes(t), podRoot(t)
	start := time.Now()
	tables := append(sidecarTables(t), tablesOf(t, "ambient")...)
	if len(tables) != 39+14 {
		t.Errorf("there are %d tables, want 53", len(tables))
	}
	t.Run("tables", func(t *testing.T) {
		for _, table := range tables {
			t.Run(table.Config, func(t *testing.T) {
				t.Parallel()
				conform(t, root, withFates(t, table), probes)
			})
		}
	})
	t.Logf("%d tables of %d probes took %s", len(tables), len(probes), time.Since(start).Round(time.Millisecond))
}

// conform wants every probe's fate. A probe that got no answer in time while
// this process got no processor has a second chance, in a run of the whole list
// in another pod: nothing was waiting there to answer it.
func conform(t *testing.T, root string, table *lab.Table, probes []scratch.Probe) {
	got, stall := fates(t, root, table, probes)
	wrong := differing(table.Fates, got)
	if len(wrong) > 0 && stall >= patienceStep && !slices.ContainsFunc(wrong, func(id string) bool { return got[id].Land != "timeout" }) {
		t.Logf("no thread ran for %s, and %d probes got no answer in time: again", stall, len(wrong))
		again, _ := fates(t, root, table, probes)
		wrong = slices.DeleteFunc(wrong, func(id string) bool { return again[id] == table.Fates[id] })
	}
	if len(got) != len(table.Fates) {
		t.Errorf("%d fates, want %d", len(got), len(table.Fates))
	}
	if len(wrong) == 0 {
		return
	}
	const shown = 5
	var text strings.Builder
	for _, id := range wrong[:min(shown, len(wrong))] {
		fmt.Fprintf(&text, "\n%s\n  want  %s\n  got   %s", id, table.Fates[id], got[id])
	}
	t.Errorf("%d of %d fates are others, such as%s", len(wrong), len(table.Fates), &text)
}

// fates are those of the probes in a pod of their own, and for how long this
// process got no processor meanwhile, at worst.
func fates(t *testing.T, root string, table *lab.Table, probes []scratch.Probe) (map[string]scratch.Fate, time.Duration) {
	t.Helper()
	pod, err := lab.NewPod(t.Context(), table.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := pod.Close(); err != nil {
			t.Error(err)
		}
	}()
	weir := &cli{chroot: root, env: environ(table)}
	if slices.Contains(table.Args, "--timeout-close-wait-secs") {
		weir = &cli{program: filepath.Join(root, "weir")} // it writes to /proc, which the root does not have
	}
	cmd, _, errs := weir.command("", append([]string{commandOf[table.Mode]}, table.Args...)...)
	if err := pod.Do(cmd.Run); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, errs)
	}
	stalled := watchStalls()
	start := time.Now()
	got, err := lab.RunProbes(t.Context(), pod, probes)
	stall := stalled()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the probes took %s; no thread ran for at most %s", time.Since(start).Round(time.Millisecond), stall.Round(time.Millisecond))
	return got, stall
}

// patienceStep is an eighth of a probe's patience, the most that one stall of
// the machine counts of it. On a machine that has time no stall is that long.
const patienceStep = 50 * time.Millisecond

// watchStalls begins to look at how late a thread runs that slept, and returns
// what ends it and tells the latest.
func watchStalls() (latest func() time.Duration) {
	const sleep = 5 * time.Millisecond
	over, worst := make(chan struct{}), make(chan time.Duration)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var late time.Duration
		for {
			start := time.Now()
			time.Sleep(sleep)
			late = max(late, time.Since(start)-sleep)
			select {
			case <-over:
				worst <- late
				return
			default:
			}
		}
	}()
	return func() time.Duration {
		close(over)
		return <-worst
	}
}

// differing are the probes whose fate is another.
func differing(want, got map[string]scratch.Fate) []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if got[id] != want[id] {
			out = append(out, id)
		}
	}
	return out
}
