// SPDX-License-Identifier: Apache-2.0

package escape

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for _, tt := range []struct{ why, text, want string }{
		{"plain text stays", `table inet weir "x" \n`, `table inet weir "x" \n`},
		{"letters of other scripts stay", "é ж 表 e\u0301 →", "é ж 表 e\u0301 →"},
		{"a new line would begin a row", "a\nb\r\nc\vd\fe", `a\nb\r\nc\x0bd\x0ce`},
		{"a tab would begin a cell", "a\tb", `a\tb`},
		{"separators begin lines too", "a\u2028b\u2029c\u0085d", `a\u2028b\u2029c\u0085d`},
		{"bidirectional characters turn a row around", "\u202e\u202a\u2066\u2069\u200f\u061c", `\u202e\u202a\u2066\u2069\u200f\u061c`},
		{"control characters steer a terminal", "\x1b[2J\x07\b\x7f\u009b0m", `\x1b[2J\x07\x08\x7f\u009b0m`},
		{"what is not seen tells two names apart", "a\u200bb\u00adc\ufeffd\u2800e\u3164f\u034fg\ufe0fh", `a\u200bb\u00adc\ufeffd\u2800e\u3164f\u034fg\ufe0fh`},
		{"a tag character is not seen, and beyond the first plane", "\U000e0041", `\U000e0041`},
		{"other blanks look like a space", "a\u00a0b\u3000c", `a\u00a0b\u3000c`},
		{"invalid UTF-8 is shown by the byte", "a\xffb\xc3", `a\xffb\xc3`},
		{"a replacement character is one", "\ufffd", "\ufffd"},
		{"a mark at the start joins what stands before", "\u0301a", `\u0301a`},
		{"a stack of marks covers the lines above", "a\u0301\u0301\u0301\u0301", "a\u0301\u0301\u0301" + `\u0301`},
		{"private and unassigned characters look as a font likes", "\ue000\U0010ffff", `\ue000\U0010ffff`},
	} {
		if got := Text(tt.text); got != tt.want {
			t.Errorf("%s: %q is written %q, want %q", tt.why, tt.text, got, tt.want)
		}
	}
}

func TestRowAndLines(t *testing.T) {
	if got, want := Row("a\tb", "c\n", "d"), "a\\tb\tc\\n\td\n"; got != want {
		t.Errorf("a row is %q, want %q", got, want)
	}
	if got, want := Lines("a\tb\n\u202ec\x1b\n\n"), "a\tb\n"+`\u202ec\x1b`+"\n\n"; got != want {
		t.Errorf("lines are %q, want %q", got, want)
	}
}

func TestJSON(t *testing.T) {
	for _, text := range []string{"plain", "\x1b\x7f\u009b\u202e\u2028\U000e0041\n\t\"\\", "é表\ufffd"} {
		document, err := json.Marshal(map[string]string{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		out := JSON(append(document, '\n'))
		if bad := strings.IndexFunc(strings.TrimSuffix(string(out), "\n"), func(r rune) bool { return !visible(r, utf8.RuneLen(r)) }); bad >= 0 {
			t.Errorf("%q holds a character that is not seen at %d", out, bad)
		}
		var back map[string]string
		if err := json.Unmarshal(out, &back); err != nil || back["text"] != text {
			t.Errorf("%q came back as %q, %v", text, back["text"], err)
		}
	}
}

type failing struct{}

var errBroken = errors.New("broken")

func (failing) Write([]byte) (int, error) { return 0, errBroken }

func TestWriter(t *testing.T) {
	var b strings.Builder
	const text = "a\tchain é\n\x1b[31mred\x1b]0;title\a \u009b2J back\b\r over\x7f"
	n, err := Writer{&b}.Write([]byte(text))
	if n != len(text) || err != nil {
		t.Errorf("wrote %d bytes of %d: %v", n, len(text), err)
	}
	const want = "a\tchain é\n" + `\x1b[31mred\x1b]0;title\x07 \u009b2J back\x08\r over\x7f`
	if b.String() != want {
		t.Errorf("wrote %q, want %q", b.String(), want)
	}
	if _, err := (Writer{failing{}}).Write([]byte("x")); !errors.Is(err, errBroken) {
		t.Errorf("the error behind is lost: %v", err)
	}
	if Unwrap(Writer{&b}) != &b || Unwrap(&b) != &b {
		t.Error("the writer behind is not found")
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\n\u202e\xff\u0301")
	f.Fuzz(func(t *testing.T, s string) {
		out := Text(s)
		if !utf8.ValidString(out) || strings.ContainsFunc(out, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is written %q", s, out)
		}
		if Text(out) != out {
			t.Errorf("%q is escaped once more: %q", out, Text(out))
		}
	})
}
