//go:build linux

package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
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
	probes, err := lab.LoadProbes(conformance + "/probes.json")
	if err != nil {
		t.Fatal(err)
	}
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
