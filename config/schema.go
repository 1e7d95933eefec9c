// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// schema is which keys there are, at which level. A document has few keys: to look them up one by
// one costs less than maps of all.
type schema struct {
	mode string      // the document's, "" where it has none
	keys []modes.Key // in the order of the reference
}

// key is the key of a path, nil where there is none.
func (s *schema) key(path string) *modes.Key {
	for i := range s.keys {
		if s.keys[i].Path == path {
			return &s.keys[i]
		}
	}
	return nil
}

// names are those in a section; "" is the document.
func (s *schema) names(section string) (out []string) {
	for i := range s.keys {
		rest, within := strings.CutPrefix(s.keys[i].Path, join(section, ""))
		name, _, _ := strings.Cut(rest, ".")
		if within && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// meant are the paths that an unknown key was probably meant to be.
func (s *schema) meant(section, name string) []string {
	var same []string
	paths := make([]string, len(s.keys))
	for i, k := range s.keys {
		paths[i] = k.Path
		if _, last, _ := cutLast(k.Path); strings.EqualFold(last, name) || strings.EqualFold(k.Path, name) || strings.EqualFold(k.Flag(), strings.TrimLeft(name, "-")) {
			same = append(same, k.Path)
		}
	}
	for _, p := range s.names("") {
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
	if near := term.Nearest(name, s.names(section)); near != "" {
		return []string{join(section, near)}
	}
	if near := term.Nearest(name, paths); near != "" {
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
		if k := s.key(p); k != nil && s.mode != "" && !k.UsedBy(s.mode) {
			words[i] += " (mode " + strings.Join(k.Modes, " or ") + ")"
		}
	}
	return unknownKey(words, s.names(section))
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
