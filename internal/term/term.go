// SPDX-License-Identifier: Apache-2.0

// Package term holds what messages to people have in common: a word repeated at a bounded length, the
// name that was probably meant, a number with its noun. It is pure and knows nothing of weir.
package term

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const maxQuoted = 80 // bytes of a word that a message repeats

// Shorten returns a word as a message repeats it: a word of more than 80 bytes is cut, at the start of
// a character, and ends in "...".
func Shorten(word string) string {
	if len(word) <= maxQuoted {
		return word
	}
	end := maxQuoted
	for !utf8.RuneStart(word[end]) && end > maxQuoted-utf8.UTFMax {
		end--
	}
	return word[:end] + "..."
}

// Nearest returns the known name that the fewest edits make of word, whatever the case of its letters,
// and "" where every name takes more edits than half the length of word.
func Nearest(word string, known []string) string {
	best, distance := "", len(word)/2+1
	for _, name := range known {
		if max(len(name)-len(word), len(word)-len(name)) >= distance {
			continue // at least that many edits
		}
		if d := edits(strings.ToLower(word), strings.ToLower(name)); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// Count returns a number and its noun, which takes an s unless the number is 1: "2 rules".
func Count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
