package modes

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNearest(t *testing.T) {
	keys := []string{"via", "port", "includeCIDRs", "excludeCIDRs", "includePorts", "excludePorts"}
	for _, tt := range []struct{ why, written, want string }{
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
		if got := Nearest(tt.written, keys); got != tt.want {
			t.Errorf("%s: %q is near %q, not %q", tt.why, tt.written, got, tt.want)
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

func TestConfigErrorSaysWhereThenWhatThenWhy(t *testing.T) {
	e := &ConfigError{Key: "outbound.excludePorts", Word: "70000", Problem: "is not a port"}
	if got, want := e.Error(), `outbound.excludePorts: "70000" is not a port`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	whole := &ConfigError{Key: "proxy", Problem: "needs uids"}
	if got, want := whole.Error(), "proxy: needs uids"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	broken := &ConfigError{Key: "a\nb", Problem: "is no key"}
	if got, want := broken.Error(), `"a\nb": is no key`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var config *ConfigError
	if !errors.As(fmt.Errorf("apply: %w", errors.Join(e, whole)), &config) || config != e {
		t.Errorf("errors.As found %v", config)
	}
}
