// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// listed are so many lines that list prefixes.
func listed(indent, count int) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, "%s- 10.%d.%d.0/24\n", strings.Repeat(" ", indent), i/256, i%256)
	}
	return b.String()
}

// bothWays reads a document with its long lists cut out and without.
func bothWays(data string) (cut, whole *document, cutRoot, wholeRoot node) {
	cut, whole = &document{source: Place{File: "f"}}, &document{source: Place{File: "f"}}
	cutRoot, _ = cut.read([]byte(data))
	if text, ok := whole.text([]byte(data)); ok {
		wholeRoot, _ = whole.parse(text)
	}
	return cut, whole, cutRoot, wholeRoot
}

func TestLongListsReadAlike(t *testing.T) {
	many := listed(4, 200)
	for _, tt := range []struct {
		why, data string
		cut       bool
	}{
		{"a list below its key", "outbound:\n  excludeCIDRs:\n" + many, true},
		{"a list as far left as its key", "excludeCIDRs:\n" + listed(0, 200), true},
		{"two lists", "a:\n" + many + "b:\n" + many + "c: 1\n", true},
		{"comments between", "a:\n" + many + "    # why\n" + many, true},
		{"lists of several columns", "a:\n" + many + "b:\n" + listed(2, 200), true},
		{"spaces and Windows lines", "a:\r\n" + strings.ReplaceAll(many, "\n", "  \r\n"), true},
		{"tabs after words", "a:\n" + strings.ReplaceAll(many, "\n", "\t\n"), true},
		{"no line end", "a:\n" + strings.TrimSuffix(many, "\n"), true},
		{"a short list", "a:\n" + listed(4, 20), false},
		{"a list of lists", "a:\n  - b\n  -\n" + many, true},
		{"the last word goes on", "a:\n" + many + "      10.0.0.1\nb: 1\n", true},
		{"in quotes", "a: \"x\n" + many + "\"\nb: 2\n", true},
		{"below a word", "a: x\n" + many, true},
		{"in brackets", "a: [\n" + many + "]\n", true},
		{"a second document", "a:\n" + many + "---\nb:\n" + many, true},
		{"a duplicate key", "a:\n" + many + "a:\n" + many, true},
		{"an entry of another kind", "a:\n" + many + "    - b: c\n" + many, true},
		{"further left within", "a:\n" + many + listed(2, 100), true},
		{"a list alone", listed(0, 100), true},
	} {
		if _, lists := cutLongLists(strings.NewReplacer("\r", "", "\t", " ").Replace(tt.data)); len(lists) > 0 != tt.cut {
			t.Errorf("%s: %d lists were cut out", tt.why, len(lists))
		}
		got, want, gotRoot, wantRoot := bothWays(tt.data)
		if !reflect.DeepEqual(gotRoot, wantRoot) {
			t.Errorf("%s: it reads as\n%.500v\nand not\n%.500v", tt.why, gotRoot, wantRoot)
		}
		if fmt.Sprint(got.problems) != fmt.Sprint(want.problems) || !reflect.DeepEqual(got.lost, want.lost) {
			t.Errorf("%s: problems %v, not %v", tt.why, got.problems, want.problems)
		}
	}
}

// TestLongListsOfAnyWords lists words of all the signs that are read here.
func TestLongListsOfAnyWords(t *testing.T) {
	const signs = "0123456789abcdefABCDEF.:/-"
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	lists, words := 300, 2000
	if testing.Short() {
		lists, words = 30, 200
	}
	for range lists {
		var b strings.Builder
		b.WriteString("a:\n")
		for range 100 {
			word := make([]byte, 1+r.IntN(6))
			for i := range word {
				word[i] = signs[r.IntN(len(signs))]
			}
			b.WriteString("  - " + string(word) + "\n")
		}
		got, want, gotRoot, wantRoot := bothWays(b.String())
		if !reflect.DeepEqual(gotRoot, wantRoot) || fmt.Sprint(got.problems) != fmt.Sprint(want.problems) {
			t.Fatalf("seed %d: reads differently:\n%s", seed, b.String())
		}
	}
	// Each word among plain ones, for a list that is cut in any case.
	for range words {
		word := make([]byte, 1+r.IntN(5))
		for i := range word {
			word[i] = signs[r.IntN(len(signs))]
		}
		data := "a:\n" + listed(2, leastLong) + "  - " + string(word) + "\n" + listed(2, 2)
		got, want, gotRoot, wantRoot := bothWays(data)
		if !reflect.DeepEqual(gotRoot, wantRoot) || fmt.Sprint(got.problems) != fmt.Sprint(want.problems) {
			t.Fatalf("seed %d: %q reads differently: %v, not %v", seed, word, gotRoot, wantRoot)
		}
	}
}
