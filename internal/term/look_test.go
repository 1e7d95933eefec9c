// SPDX-License-Identifier: Apache-2.0

package term

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFold(t *testing.T) {
	for _, tt := range []struct {
		why, line, want string
		width           int
	}{
		{"a program reads it: any length", "a line that is longer than forty characters, as lines are", "a line that is longer than forty characters, as lines are", 0},
		{"it fits to the last character", strings.Repeat("x", 40), strings.Repeat("x", 40), 40},
		{"text goes on below its first character", "  decided by a rule that has a reason of some length", "  decided by a rule that has a reason of\n  some length", 40},
		{"a last column goes on below itself", "ok  lo is up and has an address of each of the two families", "ok  lo is up and has an address of each\n    of the two families", 40},
		{"a column too far to the right is none", "  --a-flag-with-a-long-name VALUE  what it means", "  --a-flag-with-a-long-name VALUE  what\n  it means", 40},
		{"a long word is cut after what separates its parts", "10.0.0.0-10.244.1.4,10.244.1.6-10.255.255.255", "10.0.0.0-10.244.1.4,10.244.1.6-\n10.255.255.255", 40},
		{"a word without such parts is cut anywhere", strings.Repeat("x", 50), strings.Repeat("x", 40) + "\n" + strings.Repeat("x", 10), 40},
		{"a width that is too small for text is not taken at its word", strings.Repeat("x", 40), strings.Repeat("x", 40), 5},
	} {
		if got := (Look{Width: tt.width}).Fold(tt.line); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.why, got, tt.want)
		}
	}
}

func FuzzFold(f *testing.F) {
	f.Add("  1  12 packets  \"the proxy's own traffic\"", 40)
	f.Add(strings.Repeat(" ", 100)+"x", 41)
	f.Fuzz(func(t *testing.T, line string, width int) {
		if strings.Contains(line, "\n") || !utf8.ValidString(line) || width < 1 || width > 500 {
			return
		}
		folded := Look{Width: width}.Fold(line)
		if got, want := strings.Join(strings.Fields(strings.ReplaceAll(folded, "\n", " ")), ""), strings.Join(strings.Fields(line), ""); got != want {
			t.Errorf("%q became %q", line, folded)
		}
		for part := range strings.Lines(folded) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(part, "\n")); n > max(width, minWidth) {
				t.Errorf("a line of %d characters at %d: %q", n, width, part)
			}
		}
	})
}

func TestTable(t *testing.T) {
	rows := [][]Cell{
		Styled(Bold, Cells("WHO", "WHERE TO", "WHY")),
		{{Text: "anyone"}, {Text: "10.0.0.0/8", Style: Green}, {Text: "an excluded destination is left alone"}},
		Cells("", "a", ""),
	}
	for _, tt := range []struct {
		why, want string
		look      Look
	}{
		{"a program reads it", "" +
			"WHO      WHERE TO     WHY\n" +
			"anyone   10.0.0.0/8   an excluded destination is left alone\n" +
			"         a\n", Look{}},
		{"the widest column is made narrower", "" +
			"WHO      WHERE TO     WHY\n" +
			"anyone   10.0.0.0/8   an excluded\n" +
			"                      destination is\n" +
			"                      left alone\n" +
			"         a\n", Look{Width: 40}},
		{"colours take no room", "" +
			"\x1b[1mWHO\x1b[0m      \x1b[1mWHERE TO\x1b[0m     \x1b[1mWHY\x1b[0m\n" +
			"anyone   \x1b[32m10.0.0.0/8\x1b[0m   an excluded destination is left alone\n" +
			"         a\n", Look{Width: 80, Colours: true}},
	} {
		if got := tt.look.Table(0, 3, rows); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.why, got, tt.want)
		}
	}
}
