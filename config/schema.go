// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// schema is which keys there are, at which level.
type schema struct {
	mode   string // the document's, "" where it has none
	keys   map[string]modes.Key
	paths  []string            // of all keys, in the order of the reference
	levels map[string][]string // the names in a section; "" is the document
}

func newSchema() *schema {
	s := &schema{keys: map[string]modes.Key{}, levels: map[string][]string{}}
	for _, k := range modes.Keys() {
		s.keys[k.Path] = k
		s.paths = append(s.paths, k.Path)
		section := ""
		for name := range strings.SplitSeq(k.Path, ".") {
			if !slices.Contains(s.levels[section], name) {
				s.levels[section] = append(s.levels[section], name)
			}
			section = join(section, name)
		}
	}
	return s
}

// meant are the paths that an unknown key was probably meant to be.
func (s *schema) meant(section, name string) []string {
	var same []string
	for _, p := range s.paths {
		if _, last, _ := cutLast(p); strings.EqualFold(last, name) || strings.EqualFold(p, name) || strings.EqualFold(s.keys[p].Flag(), strings.TrimLeft(name, "-")) {
			same = append(same, p)
		}
	}
	for _, p := range s.levels[""] {
		if section != "" && strings.EqualFold(p, name) && !slices.Contains(same, p) {
			same = append(same, p)
		}
	}
	if here := slices.IndexFunc(same, func(p string) bool { return strings.EqualFold(p, join(section, name)) }); here >= 0 {
		return same[here : here+1]
	}
	if len(same) > 0 {
		return same
	}
	if near := term.Nearest(name, s.levels[section]); near != "" {
		return []string{join(section, near)}
	}
	if near := term.Nearest(name, s.paths); near != "" {
		return []string{near}
	}
	return nil
}

// unknown is the problem of an unknown key, with the keys that were probably meant,
// or every key of the section.
func (s *schema) unknown(section, name string, meant []string) string {
	if full := join(section, name); len(meant) == 1 && meant[0] == full {
		of, key, _ := cutLast(full)
		return fmt.Sprintf("unknown key (want its section: %s: {%s: ...})", of, key)
	}
	words := make([]string, len(meant))
	for i, p := range meant {
		words[i] = p
		if k, isKey := s.keys[p]; isKey && s.mode != "" && !k.UsedBy(s.mode) {
			words[i] += " (mode " + strings.Join(k.Modes, " or ") + ")"
		}
	}
	return unknownKey(words, s.levels[section])
}

// unknownKey is the problem of a key that is not one of those, and was probably
// meant to be one of the former.
func unknownKey(meant, keys []string) string {
	if len(meant) == 0 {
		return "unknown key (want one of: " + strings.Join(keys, ", ") + ")"
	}
	return "unknown key (did you mean " + strings.Join(meant, " or ") + "?)"
}

// nearestKey is unknownKey where the nearest by its letters is what was meant.
func nearestKey(key string, keys []string) string {
	var meant []string
	if near := term.Nearest(key, keys); near != "" {
		meant = []string{near}
	}
	return unknownKey(meant, keys)
}
