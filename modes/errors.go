package modes

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ConfigError is what is wrong with one key.
type ConfigError struct {
	Key     string // its path, such as outbound.excludePorts
	Word    string // the offending word, "" where the problem is not one word's
	Problem string // what it is, and what was expected
	Missing bool   // the environment lacks what the configuration wants: its words are right
}

func (e *ConfigError) Error() string {
	key := Shorten(e.Key)
	if strings.ContainsFunc(key, func(c rune) bool { return !unicode.IsPrint(c) }) {
		key = strconv.Quote(key) // a key that was written, and is none
	}
	return key + ": " + e.Detail()
}

// Detail is the message without the key.
func (e *ConfigError) Detail() string {
	if e.Word == "" {
		return e.Problem
	}
	return fmt.Sprintf("%q %s", Shorten(e.Word), e.Problem)
}

// Note is something that the reader of a configuration should know and that is
// no error.
type Note struct {
	Key  string
	Text string
	Word string // that it is about, "" where it is not one word's
}

func (n Note) String() string { return n.Key + ": " + n.Text }

const maxQuoted = 80 // bytes of a word that a message repeats

// Shorten is a word as a message repeats it: without the end of a very long one.
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

// Nearest is the word of the list that takes the fewest edits to become what
// was written, "" where none comes near.
func Nearest(written string, list []string) string {
	best, distance := "", len(written)/2+1
	for _, w := range list {
		if max(len(w)-len(written), len(written)-len(w)) >= distance {
			continue // at least that many edits
		}
		if d := edits(strings.ToLower(written), strings.ToLower(w)); d < distance {
			best, distance = w, d
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
