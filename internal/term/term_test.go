// SPDX-License-Identifier: Apache-2.0

package term

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNearest(t *testing.T) {
	keys := []string{"via", "port", "includeCIDRs", "excludeCIDRs", "includePorts", "excludePorts"}
	for _, tt := range []struct{ why, word, want string }{
		{"a missing letter", "exludePorts", "excludePorts"},
		{"another case", "INCLUDECIDRS", "includeCIDRs"},
		{"an underscore", "exclude_ports", "excludePorts"},
		{"a singular", "includePort", "includePorts"},
		{"two letters changed places", "prot", "port"},
		{"one letter too many", "ports", "port"},
		{"something else altogether", "kubernetes", ""},
		{"nothing", "", ""},
		{"the word itself", "via", "via"},
	} {
		if got := Nearest(tt.word, keys); got != tt.want {
			t.Errorf("%s: %q is near %q, not %q", tt.why, tt.word, got, tt.want)
		}
	}
}

// TestNearestOfALongWord would not end in time if it compared the letters.
func TestNearestOfALongWord(t *testing.T) {
	if near := Nearest(strings.Repeat("x", 4<<20), []string{"via", strings.Repeat("port", 1<<18)}); near != "" {
		t.Errorf("it is near %.20q", near)
	}
}

func TestShorten(t *testing.T) {
	for _, tt := range []struct{ why, word, want string }{
		{"a short word stays", "eth0", "eth0"},
		{"a word at the bound stays", strings.Repeat("x", maxQuoted), strings.Repeat("x", maxQuoted)},
		{"a long word loses its end", strings.Repeat("x", maxQuoted+1), strings.Repeat("x", maxQuoted) + "..."},
		{"a character is not cut in two", strings.Repeat("x", maxQuoted-1) + "é!", strings.Repeat("x", maxQuoted-1) + "..."},
	} {
		if got := Shorten(tt.word); got != tt.want || !utf8.ValidString(got) {
			t.Errorf("%s: got %q, want %q", tt.why, got, tt.want)
		}
	}
	if got := Shorten(strings.Repeat("\x80", 200)); len(got) > maxQuoted+len("...") { // no character begins anywhere
		t.Errorf("got %d bytes", len(got))
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 rules", 1: "1 rule", 2: "2 rules"} {
		if got := Count(n, "rule"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
