// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"slices"
	"strings"
)

// Synonyms are words that YAML tools and people write instead of one, in lower case.
func Synonyms(word string) []string {
	switch word {
	case "none", "disabled":
		return []string{"off", "false", "no"}
	case "enabled":
		return []string{"on", "true", "yes"}
	case "all":
		return []string{"*"}
	}
	return nil
}

// IsAll reports whether a word stands for everything that a list may hold.
func IsAll(word string) bool { return means(word, "all") }

// IsNone reports whether a word stands for an empty list, or for no value.
func IsNone(word string) bool { return means(word, "none") }

// means reports whether a word, in any case, is another or a synonym of it.
func means(word, what string) bool {
	word = strings.ToLower(word)
	return word == what || slices.Contains(Synonyms(what), word)
}
