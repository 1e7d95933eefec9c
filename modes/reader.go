// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/parse"
)

// reader turns words into values and notes every problem with its key.
type reader struct {
	env      Environment
	mode     string
	anyName  bool // users and groups are not looked up: every name is taken for one
	anyHost  bool // nor are cgroups and resolvers
	problems []error
	notes    []Note
}

func (r *reader) problem(key, word, format string, args ...any) {
	text, m := newMessage(format, args)
	r.problems = append(r.problems, &ConfigError{Key: key, Word: word, Problem: text, message: m})
}

// missing is a problem that the environment has and no word.
func (r *reader) missing(key, format string, args ...any) {
	text, m := newMessage(format, args)
	r.problems = append(r.problems, &ConfigError{Key: key, Problem: text, Missing: true, message: m})
}

func (r *reader) note(key, format string, args ...any) {
	text, m := newMessage(format, args)
	r.notes = append(r.notes, Note{Key: key, Text: text, message: m})
}

// choice is one of the words that the mode allows for a key, by itself or by a
// synonym that can mean only one of them.
func (r *reader) choice(key, word string) string {
	allowed := keyOf(key).ChoicesIn(r.mode)
	var meant []string
	for _, a := range allowed {
		if strings.EqualFold(word, a) {
			return a
		}
		if slices.Contains(parse.Synonyms(a), strings.ToLower(word)) {
			meant = append(meant, a)
		}
	}
	if len(meant) == 1 {
		return meant[0]
	}
	r.problem(key, word, "is not one of: %s", strings.Join(allowed, ", "))
	return allowed[0]
}

// everything reports whether a list is the one word for all, nothing whether it
// is the one word for none, and empty whether it names nothing at all.
func everything[W ~string](words []W) bool { return len(words) == 1 && parse.IsAll(string(words[0])) }

func nothing[W ~string](words []W) bool { return len(words) == 1 && parse.IsNone(string(words[0])) }

func empty[W ~string](words []W) bool { return len(words) == 0 || nothing(words) }

// list is a list's words without those that stand for a whole list: none is an
// empty one, and all says something only by itself and where there is nothing
// to exclude.
func (r *reader) list(key string, words []string) []string {
	if empty(words) {
		return nil
	}
	out := make([]string, 0, len(words))
	for _, w := range words {
		section, name, _ := strings.Cut(key, ".")
		switch {
		case len(words) > 1 && (parse.IsAll(w) || strings.EqualFold(w, "none")):
			r.problem(key, w, "stands beside other words (want it alone, or a list without it)")
		case parse.IsAll(w) && (section == "inbound" || section == "outbound") && strings.HasPrefix(name, "exclude"):
			r.problem(key, w, "would leave everything alone (want %s for that)", Ref{section + ".via", viaNone})
		default:
			out = append(out, w)
		}
	}
	return out
}
