package main

import (
	"strings"
	"testing"
)

func TestVisible(t *testing.T) {
	var b strings.Builder
	const steering = "\x1b[31mred\x1b]0;title\a \u009b2J back\b\r over\x7f"
	n, err := visible{&b}.Write([]byte("a\tchain é\n" + steering))
	if want := len("a\tchain é\n" + steering); n != want || err != nil {
		t.Errorf("wrote %d bytes of %d: %v", n, want, err)
	}
	const want = "a\tchain é\n�[31mred�]0;title� �2J back�� over�"
	if b.String() != want {
		t.Errorf("wrote %q, want %q", b.String(), want)
	}
	if got := inSight("a\x1bc"); got != "a�c" {
		t.Errorf("in sight is %q", got)
	}
}
