// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestKeysAreAReference(t *testing.T) {
	paths, flags := map[string]bool{}, map[string]bool{}
	form := regexp.MustCompile(`^[a-z][A-Za-z0-9]*(\.[a-z][A-Za-z]*){0,2}$`)
	flagForm := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	for _, k := range Keys() {
		if !form.MatchString(k.Path) || paths[k.Path] {
			t.Errorf("%q is not a path of its own", k.Path)
		}
		if !flagForm.MatchString(k.Flag()) || flags[k.Flag()] {
			t.Errorf("%s: %q is not a flag of its own", k.Path, k.Flag())
		}
		paths[k.Path], flags[k.Flag()] = true, true
		if k.Doc == "" || strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s: %q does not say what it is", k.Path, k.Doc)
		}
		for _, m := range k.Modes {
			if !slices.Contains(allModes(), m) {
				t.Errorf("%s: %q is not a mode", k.Path, m)
			}
		}
		for _, m := range k.Modes {
			c := Config{Mode: m}.withDefaults()
			if got, _ := k.Get(&c); strings.Join(got, ",") != k.DefaultOf(m) {
				t.Errorf("%s: its default in mode %s is %q, and %q holds", k.Path, m, k.DefaultOf(m), got)
			}
		}
	}
}

func TestFlag(t *testing.T) {
	for path, want := range map[string]string{
		"table": "table", "ipv6": "ipv6", "proxy.uids": "proxy-uids", "dropInvalid": "drop-invalid",
		"outbound.excludeCIDRs": "outbound-exclude-cidrs", "outbound.includeGIDs": "outbound-include-gids",
		"routing.loopMark": "routing-loop-mark", "inbound.tunnelPort": "inbound-tunnel-port", "loopback.cidr": "loopback-cidr",
	} {
		if got := (Key{Path: path}).Flag(); got != want {
			t.Errorf("the flag of %s is %q, not %q", path, got, want)
		}
	}
}

func TestEveryKeyIsSetAndGot(t *testing.T) {
	for _, k := range Keys() {
		var c Config
		if words, set := k.Get(&c); set {
			t.Errorf("%s is set to %q where nothing was written", k.Path, words)
		}
		k.Set(&c, "a", "b")
		want := []string{"a"}
		if k.List {
			want = []string{"a", "b"}
		}
		if got, set := k.Get(&c); !set || !slices.Equal(got, want) {
			t.Errorf("%s holds %q, not %q", k.Path, got, want)
		}
		for _, other := range Keys() {
			if _, set := other.Get(&c); set && other.Path != k.Path {
				t.Errorf("setting %s set %s", k.Path, other.Path)
			}
		}
		k.Set(&c)
		if got, set := k.Get(&c); k.List && (!set || len(got) != 0) {
			t.Errorf("%s of no words is %q, %v: an empty list is not an absent one", k.Path, got, set)
		}
	}
}

func TestListsOfMaps(t *testing.T) {
	for _, k := range Keys() {
		if len(k.Items) == 0 {
			continue
		}
		var c Config
		k.Set(&c, "a")
		for _, item := range k.Items[1:] {
			k.AddItem(&c, map[string][]string{k.Items[0].Path: {"b"}, item.Path: {"x"}})
		}
		got := k.GetItems(&c)
		if len(got) != len(k.Items) || len(got[0]) != 1 || got[0][k.Items[0].Path][0] != "a" {
			t.Fatalf("%s: %v", k.Path, got)
		}
		for i, item := range k.Items[1:] {
			if item.Doc == "" || len(got[i+1]) != 2 || got[i+1][item.Path][0] != "x" {
				t.Errorf("%s.%s: %v", k.Path, item.Path, got)
			}
		}
		if words, _ := k.Get(&c); len(words) != len(k.Items) || words[0] != "a" || words[1] != "b" {
			t.Errorf("%s: %q", k.Path, words)
		}
	}
}

func TestDefaultsDoNotTouchWhatWasWritten(t *testing.T) {
	c := Config{Mode: ModeSidecar, Table: "mine", Outbound: Outbound{IncludeCIDRs: []string{}, Port: "1"}}
	d := c.withDefaults()
	if d.Table != "mine" || d.Outbound.Port != "1" || len(d.Outbound.IncludeCIDRs) != 0 {
		t.Errorf("got %+v", d)
	}
	if c.Version != "" || c.Inbound.IncludePorts != nil {
		t.Errorf("the original has defaults now: %+v", c)
	}
	if n := (Config{Mode: ModeNone}).withDefaults(); n.Inbound.Port != "" || n.Table != DefaultTable {
		t.Errorf("mode none has defaults of keys that it does not use, or lacks its own: %+v", n)
	}
}

// TestChoices: what a key may be stands in its documentation, and every default is
// among it.
func TestChoices(t *testing.T) {
	if got, want := keyOf("inbound.via").Doc, "redirect | tproxy (sidecar only) | marks (sidecar only; captures nothing, but marks and routes as tproxy does) | none"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := keyOf("mode").ChoicesIn(""); !slices.Equal(got, allModes()) {
		t.Errorf("the modes are %q, and key mode may be %q", allModes(), got)
	}
	for _, tt := range []struct {
		key, mode string
		want      []string
	}{
		{"inbound.via", ModeSidecar, []string{"redirect", "tproxy", "marks", "none"}},
		{"inbound.via", ModeAmbientPod, []string{"redirect", "none"}},
		{"inbound.via", "", []string{"redirect", "tproxy", "marks", "none"}},
		{"dns.capture", ModeAmbientPod, []string{"none", "all"}},
		{"interfaces.reroute.exclusions", ModeSidecar, []string{"honoured", "ignored"}},
		{"inbound.port", ModeSidecar, nil},
	} {
		if got := keyOf(tt.key).ChoicesIn(tt.mode); !slices.Equal(got, tt.want) {
			t.Errorf("%s in mode %q may be %q, not %q", tt.key, tt.mode, got, tt.want)
		}
	}
	for _, k := range Keys() {
		for _, mode := range allModes() {
			if words := k.ChoicesIn(mode); words != nil && k.UsedBy(mode) && k.DefaultOf(mode) != "" && !slices.Contains(words, k.DefaultOf(mode)) {
				t.Errorf("%s: the default %q in mode %s is not one of %q", k.Path, k.DefaultOf(mode), mode, words)
			}
		}
	}
}
