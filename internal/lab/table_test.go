// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
)

func TestEveryTableHasAFateForEveryProbe(t *testing.T) {
	probes := allProbes(t)
	if len(probes) != 1175 {
		t.Errorf("%d probes, want 1175", len(probes))
	}
	files, err := filepath.Glob(tables + "*.json")
	scratch.Must(t, err)
	read := 0
	for _, file := range files {
		if filepath.Base(file) == "probes.json" {
			continue
		}
		read++
		table, err := LoadTable(file)
		scratch.Must(t, err)
		if table.Config != strings.TrimSuffix(filepath.Base(file), ".json") {
			t.Errorf("%s is of configuration %s", file, table.Config)
		}
		head, err := LoadHead(file)
		scratch.Must(t, err)
		if whole := *table; head.Fates != nil || !reflect.DeepEqual(*head, Table{whole.Config, whole.Mode, whole.Env, whole.Args, whole.Proxy, nil}) {
			t.Errorf("%s: its head is %+v", file, head)
		}
		for _, p := range probes {
			if _, ok := table.Fates[p.ID]; !ok {
				t.Errorf("%s: no fate for %s", file, p.ID)
			}
		}
		if len(table.Fates) != len(probes) {
			t.Errorf("%s: %d fates for %d probes", file, len(table.Fates), len(probes))
		}
		// Each fate says again what the file says.
		var raw struct{ Fates map[string]string }
		text, err := os.ReadFile(file)
		scratch.Must(t, err, json.Unmarshal(text, &raw))
		for id, want := range raw.Fates {
			want, _, _ = strings.Cut(want, " marks=")
			if got := table.Fates[id].String(); got != want {
				t.Errorf("%s: %s: got %q, want %q", file, id, got, want)
			}
		}
	}
	if read == 0 {
		t.Error("there are no tables")
	}
}

func TestATableThatIsNone(t *testing.T) {
	for _, tt := range []struct{ why, text, want string }{
		{"no JSON", `{`, "unexpected end"},
		{"an unknown program", `{"mode":"x","fates":{"a":"refused"}}`, `mode "x" (want one of sidecar, ambient, linkerd, kuma, consul)`},
		{"no fates", `{"mode":"sidecar"}`, "no fates"},
		{"a fate that is none", `{"mode":"sidecar","fates":{"a":"src=kept"}}`, "where did it land?"},
	} {
		file := filepath.Join(t.TempDir(), "table.json")
		scratch.Must(t, os.WriteFile(file, []byte(tt.text), 0o600))
		if _, err := LoadTable(file); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.why, err, tt.want)
		}
	}
	for _, text := range []string{"", "[]", "{", `{"mode":1}`} {
		file := filepath.Join(t.TempDir(), "table.json")
		scratch.Must(t, os.WriteFile(file, []byte(text), 0o600))
		if head, err := LoadHead(file); err == nil {
			t.Errorf("the head of %q is %+v", text, head)
		}
	}
	if _, err := LoadProbes(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("no file of probes: no error")
	}
}
