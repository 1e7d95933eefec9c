// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/lab"
	"github.com/weir-mesh/weir/internal/scratch"
)

// meshes holds, for each configuration of other meshes' init programs, the rules that the program's
// source states (NAME.v4 and NAME.v6, as iptables-save prints them; none where it leaves a family
// alone) and what becomes of every probe under them (NAME.json, a conformance table).
const meshes = "testdata/meshes"

var record = flag.Bool("record", false, "write the fates of "+meshes+" anew, from their rules as iptables loads them")

// meshModes are the modes of the tables of other meshes.
var meshModes = []string{"linkerd", "kuma", "consul"}

func meshTables(t testing.TB) map[string]*lab.Table {
	t.Helper()
	files, err := filepath.Glob(meshes + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]*lab.Table{}
	for _, f := range files {
		if tables[f], err = lab.LoadTable(f); err != nil {
			t.Fatal(err)
		}
	}
	return tables
}

// TestMeshTables: the rules of each table, loaded by iptables, still have the fates that were recorded
// of them. With -record they are recorded: each twice, and the two must agree.
//
//	go test ./integration -run TestMeshTables -record
func TestMeshTables(t *testing.T) {
	needUsers(t)
	isolated(t)
	for _, program := range []string{restoreIPv4, restoreIPv6} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs Debian's package iptables: %v", err)
		}
	}
	probes := loadProbes(t)
	for file, table := range meshTables(t) {
		t.Run(table.Config, func(t *testing.T) {
			t.Parallel()
			got := fatesOfRules(t, table, probes)
			want := table.Fates
			if *record {
				want = fatesOfRules(t, table, probes)
			}
			if len(got) != len(want) {
				t.Fatalf("%d fates, want %d", len(got), len(want))
			}
			if wrong := differing(want, got); len(wrong) > 0 {
				t.Fatalf("%d of %d fates are others, such as %s\n  want  %s\n  got   %s", len(wrong), len(want), wrong[0], want[wrong[0]], got[wrong[0]])
			}
			if *record {
				writeTable(t, file, got)
			}
		})
	}
}

const (
	restoreIPv4 = "iptables-nft-restore"
	restoreIPv6 = "ip6tables-nft-restore"
)

// fatesOfRules are the fates of the probes in a pod with a table's rules.
func fatesOfRules(t *testing.T, table *lab.Table, probes []scratch.Probe) map[string]scratch.Fate {
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
	for suffix, program := range map[string]string{".v4": restoreIPv4, ".v6": restoreIPv6} {
		rules, err := os.Open(filepath.Join(meshes, table.Config+suffix))
		if errors.Is(err, os.ErrNotExist) {
			continue // the program leaves that family alone
		}
		if err != nil {
			t.Fatal(err)
		}
		defer rules.Close()
		cmd := exec.Command(program)
		cmd.Stdin, cmd.Stderr = rules, os.Stderr
		if err := pod.Do(cmd.Run); err != nil {
			t.Fatalf("%s: %v", cmd, err)
		}
		if table.Mode == "kuma" && suffix == ".v6" { // which it adds before the rules
			if err := pod.AddAddress("lo", netip.MustParsePrefix("::6/128")); err != nil {
				t.Fatal(err)
			}
		}
	}
	fates, err := lab.RunProbes(t.Context(), pod, probes)
	if err != nil {
		t.Fatal(err)
	}
	return fates
}

// writeTable replaces the fates in a table's file.
func writeTable(t *testing.T, file string, fates map[string]scratch.Fate) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var table struct {
		Config string            `json:"config"`
		Mode   string            `json:"mode"`
		Env    map[string]string `json:"env"`
		Args   []string          `json:"args"`
		Proxy  json.RawMessage   `json:"proxy"`
		Fates  map[string]string `json:"fates"`
	}
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	table.Fates = map[string]string{}
	for id, fate := range fates {
		table.Fates[id] = fate.String()
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetIndent("", " ")
	e.SetEscapeHTML(false)
	if err := e.Encode(table); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestMeshConformance: the arguments of each table, given to weir's command for the mesh, make every probe meet the fate
// that it meets under the mesh's own rules.
func TestMeshConformance(t *testing.T) {
	needUsers(t)
	isolated(t)
	probes, root := loadProbes(t), podRoot(t)
	tables := meshTables(t)
	of := map[string]int{}
	for _, table := range tables {
		of[table.Mode]++
	}
	for _, mode := range meshModes {
		if of[mode] < 6 {
			t.Errorf("there are %d tables of %s, want 6 at least", of[mode], mode)
		}
	}
	t.Run("tables", func(t *testing.T) {
		for _, table := range tables {
			t.Run(table.Config, func(t *testing.T) {
				t.Parallel()
				conform(t, root, table, probes)
			})
		}
	})
}

// TestMeshPrintConfig: what --print-config prints of each table's arguments makes the state that they make.
func TestMeshPrintConfig(t *testing.T) {
	c := newCLI(t)
	c.chroot = podRoot(t)
	for _, table := range meshTables(t) {
		c.env = environ(table)
		command := append([]string{commandOf[table.Mode]}, table.Args...)
		printed := c.run(append(command, "--print-config")...)
		dryRun := map[string]string{"linkerd": "--simulate"}[table.Mode]
		plan := c.run(append(command, cmp.Or(dryRun, "--dry-run"))...)
		if printed.code != 0 || plan.code != 0 {
			t.Errorf("%s: %s%s", table.Config, printed.errs, plan.errs)
			continue
		}
		if again := c.feed(printed.out, "plan", "-f", "-"); again.code != 0 || withoutNotes(again.out) != plan.out {
			t.Errorf("%s: printed as\n%s\nwhich makes\n%s%s\nwant\n%s", table.Config, printed.out, again.out, again.errs, plan.out)
		}
	}
	if left := c.run("show"); !strings.Contains(left.out+left.errs, "weir") || strings.Contains(left.out, "chain ") {
		t.Errorf("something was applied: %s", left.out)
	}
}

// withoutNotes is a plan's ruleset and routing, without what comes before and after.
func withoutNotes(plan string) string {
	if i := strings.Index(plan, "table inet"); i >= 0 {
		plan = plan[i:]
	}
	plan, _, _ = strings.Cut(plan, "# what differs from now")
	return plan
}

// TestLinkerdCloseWait: the setting is the namespace's, and it is written.
func TestLinkerdCloseWait(t *testing.T) {
	c := newCLI(t)
	got := c.run("linkerd-init", "-p", "4143", "-o", "4140", "-u", "2102", "--timeout-close-wait-secs", "3600")
	if got.code != 0 {
		t.Fatal(got.errs)
	}
	if value := strings.TrimSpace(c.shell("cat /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait")); value != "3600" {
		t.Errorf("the setting is %q, want 3600", value)
	}
}

// TestTProxyMarkZero: istio-init's -t 0 makes a policy rule without a condition, as the reference does, and a second run
// finds it unchanged.
func TestTProxyMarkZero(t *testing.T) {
	c := newCLI(t)
	args := strings.Fields("istio-init -u 1337 -m TPROXY -i * -b * -t 0")
	for _, outcome := range []string{"outcome=created", "outcome=unchanged"} {
		if got := c.run(args...); got.code != 0 || !strings.Contains(got.errs, outcome) {
			t.Fatalf("want %s: %s", outcome, got)
		}
	}
	if list := c.shell("ip rule"); !strings.Contains(list, "from all lookup 133") {
		t.Errorf("the policy rules are\n%s", list)
	}
	if got := c.run("remove"); got.code != 0 {
		t.Fatal(got)
	}
	if list := c.shell("ip rule"); strings.Contains(list, "133") {
		t.Errorf("what remains:\n%s", list)
	}
}
