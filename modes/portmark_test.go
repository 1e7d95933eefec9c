// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"fmt"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// TestWordsOfPrograms: what a program writes reads as what it meant.
func TestWordsOfPrograms(t *testing.T) {
	r := &reader{}
	for _, tt := range []struct {
		word     PortWord
		from, to rules.Port
	}{
		{Port(1), 1, 1}, {Port(65535), 65535, 65535}, {PortRange(8000, 8100), 8000, 8100}, {PortRange(80, 80), 80, 80},
	} {
		if got, want := fmt.Sprint(r.ports("x", []PortWord{tt.word})), fmt.Sprint([]rules.Range{rules.RangeBetween(tt.from, tt.to)}); got != want {
			t.Errorf("%q is read as %s, not %s", tt.word, got, want)
		}
	}
	for _, tt := range []struct {
		word        MarkWord
		value, mask rules.Mark
	}{
		{Mark(0x539), 0x539, 0xfff}, {MaskedMark(0x1000, 0xf000), 0x1000, 0xf000}, {MaskedMark(1<<31, 1<<32-1), 1 << 31, 1<<32 - 1},
	} {
		if value, mask := r.mark("x", tt.word, 0xfff); value != tt.value || mask != tt.mask {
			t.Errorf("%q is read as %#x/%#x", tt.word, value, mask)
		}
	}
	if got := r.mask("x", Mark(0xff)); got != 0xff {
		t.Errorf("a mask is read as %#x", got)
	}
	if got := ids[rules.UID](r, "x", IDs(0, 1337), nil, "user"); len(got) != 2 {
		t.Errorf("users are read as %v", got)
	}
	if len(r.problems) > 0 {
		t.Errorf("problems %v", r.problems)
	}
	if Ports() == nil || !empty(Ports()) {
		t.Error("no ports are not none")
	}
	r.ports("x", []PortWord{Port(0), PortRange(9, 8)})
	r.mark("x", Mark(0), 0xfff)
	r.mark("x", MaskedMark(0x1000, 0xfff), 0xfff)
	if len(r.problems) != 4 {
		t.Errorf("of 4 words that mean nothing %d are reported: %v", len(r.problems), r.problems)
	}
}
