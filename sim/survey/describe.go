// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"cmp"
	"slices"
	"strings"
)

// describe says a box in words: who sends, and what to where.
func (s *Space) describe(b box) (who, where string) {
	words := func(dims ...int) string {
		var out []string
		for _, d := range dims {
			if text := s.dims[d].text(b[d]); text != "" {
				out = append(out, text)
			}
		}
		return strings.Join(out, ", ")
	}
	return cmp.Or(words(way, uid, gid, mark, src), "anyone"), cmp.Or(words(proto, dst, dport, sport, state), "anything")
}

// text says some classes of a dimension, "" where they are all: by what they are,
// or where that is shorter by what they are not.
func (d dimension) text(some []int) string {
	if len(some) == len(d.classes) {
		return ""
	}
	name := d.name
	if name != "" {
		name += " "
	}
	var rest []int
	for i := range d.classes {
		if !slices.Contains(some, i) {
			rest = append(rest, i)
		}
	}
	isOther := func(i int) bool { return d.classes[i].other }
	is, not := d.words(some), d.words(rest)
	if slices.ContainsFunc(some, isOther) || d.name != "" && len(not) < len(is) && !slices.ContainsFunc(rest, isOther) {
		return name + d.without(not)
	}
	return name + strings.Join(is, ", ")
}

// without says the classes of a dimension by those that are left out.
func (d dimension) without(words []string) string {
	at := slices.Index(words, elsewhere)
	if at < 0 {
		return "not " + strings.Join(words, ", ")
	}
	text := "this pod or loopback"
	if slices.ContainsFunc(d.classes, func(c class) bool { return len(c.groups) < 2 }) {
		text = "this pod, loopback or an address that a rule names"
	}
	if rest := slices.Delete(slices.Clone(words), at, at+1); len(rest) > 0 {
		text += " but not " + strings.Join(rest, ", ")
	}
	return text
}

// words are the classes by their texts, or by their groups' where they are whole.
func (d dimension) words(some []int) []string {
	missing := map[string]bool{}
	for i, c := range d.classes {
		for _, g := range c.groups {
			missing[g] = missing[g] || !slices.Contains(some, i)
		}
	}
	var words []string
	for _, i := range some {
		c := d.classes[i]
		text := c.text
		if g := slices.IndexFunc(c.groups, func(g string) bool { return !missing[g] }); g >= 0 {
			text = c.groups[g]
		}
		if !slices.Contains(words, text) {
			words = append(words, text)
		}
	}
	return words
}
