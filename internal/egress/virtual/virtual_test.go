// SPDX-License-Identifier: Apache-2.0

package virtual

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	usual = Pool{netip.MustParsePrefix("240.240.0.0/16"), netip.MustParsePrefix("2001:2::/48")}
	now   = time.Unix(1_800_000_000, 0).UTC()
)

func load(t *testing.T, path string, pool Pool, at time.Time, names ...string) *Table {
	t.Helper()
	table, err := Load(path, pool, names, at)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestNamesKeepTheirAddresses: whatever comes and goes, over restarts.
func TestNamesKeepTheirAddresses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	table := load(t, path, usual, now, "b.example")
	first, _ := table.Of("b.example")
	var many []string
	for i := range 3000 {
		many = append(many, fmt.Sprintf("%d.example", i))
	}
	table = load(t, path, usual, now, append(many, "b.example")...)
	seen := map[netip.Addr]bool{}
	for _, name := range append(many, "b.example") {
		a, is := table.Of(name)
		back4, _ := table.Name(a.IPv4)
		back6, _ := table.Name(a.IPv6)
		if !is || seen[a.IPv4] || seen[a.IPv6] || !usual.IPv4.Contains(a.IPv4) || !usual.IPv6.Contains(a.IPv6) || back4 != name || back6 != name {
			t.Fatalf("%s: %v, of %q and %q", name, a, back4, back6)
		}
		seen[a.IPv4], seen[a.IPv6] = true, true
	}
	if got, _ := table.Of("b.example"); got != first {
		t.Errorf("it moved from %v to %v", first, got)
	}
	if _, is := table.Of("c.example"); is {
		t.Error("a name that is not configured has an address")
	}
}

// TestAddressesRest: those of a name that is gone are nobody's for an hour, and its own again if
// it comes back.
func TestAddressesRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	small := Pool{netip.MustParsePrefix("240.240.0.0/30"), netip.MustParsePrefix("2001:2::/126")} // two names
	table := load(t, path, small, now, "a.example", "b.example")
	a, _ := table.Of("a.example")
	load(t, path, small, now, "b.example")
	if _, err := Load(path, small, []string{"b.example", "c.example"}, now.Add(restTime-time.Second)); err == nil || !strings.Contains(err.Error(), "room for 2 names") {
		t.Errorf("within the hour: %v", err)
	}
	again := load(t, path, small, now.Add(restTime-time.Second), "a.example", "b.example")
	if got, _ := again.Of("a.example"); got != a {
		t.Errorf("it came back to %v, from %v", got, a)
	}
	load(t, path, small, now, "b.example")
	later := load(t, path, small, now.Add(restTime), "b.example", "c.example")
	if c, is := later.Of("c.example"); !is || c != a {
		t.Errorf("after the hour: %v, %t", c, is)
	}
}

// TestStateIsNotLost: a file that is not whole is left as it is.
func TestStateIsNotLost(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	load(t, path, usual, now, "a.example")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for why, text := range map[string]string{"cut short": string(whole[:len(whole)/2]), "empty": "", "null": `{"version":1,"names":{"a":null}}`,
		"twins": `{"version":1,"ipv4":"240.240.0.0/16","ipv6":"2001:2::/48","names":{"a":{"slot":1},"b":{"slot":1}}}`, "another version": `{"version":2,"names":{"a":{"slot":1}}}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path, usual, []string{"a.example"}, now); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", why, err)
		}
		if left, err := os.ReadFile(path); err != nil || string(left) != text {
			t.Errorf("%s: it was written over: %v", why, err)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, Pool{netip.MustParsePrefix("240.241.0.0/16"), usual.IPv6}, []string{"a.example"}, now); err == nil {
		t.Error("another prefix takes addresses away")
	}
	if _, err := Load(filepath.Join(dir, "no", "state"), usual, nil, now); err == nil {
		t.Error("a file that cannot be written is no error")
	}
}
