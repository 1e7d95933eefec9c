// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
)

// File is a configuration as it was written, in a document, by flags or both, and
// where each of its words stands. The zero File is an empty configuration. Its
// Config may be changed by a program too: what was not written has no place.
type File struct {
	modes.Config
	name     string // as messages name it, "" where there was no document
	places   map[string]*keyPlaces
	problems []error         // of the document and of the flags, not of what the words mean
	unread   bool            // the document is none, or no YAML
	doubtful map[string]bool // keys that seem absent because of a problem of the document
}

const leastConfiguration = "version: 1, mode: sidecar, proxy: {uids: [1337]}"

// Parse reads one YAML document (JSON is YAML) and checks it. name is the file's
// name for messages. The error lists every problem that can be told without
// a [modes.Environment], in the order of their places: see [Problems]. The File is
// never nil, and holds what could be read.
func Parse(name string, data []byte) (*File, error) {
	f := Read(name, data)
	return f, f.Check()
}

// Read is [Parse] without the check, for a document that flags complete by
// [File.Set]. [File.Check] then tells the problems of all of it.
func Read(name string, data []byte) *File {
	f := &File{name: name}
	d := &document{source: Place{File: name}}
	root, ok := d.read(data)
	f.unread = !ok || root.kind != aMap
	switch {
	case !ok:
	case root.kind == absent:
		d.problemf(d.source, "holds no configuration (the least one is: %s)", leastConfiguration)
	case root.kind != aMap:
		d.problemf(root.place, "is %s (want keys, at least: %s)", root.kind, leastConfiguration)
	default:
		s := &schema{mode: modeOf(root), keys: modes.Keys()}
		f.section(d, s, "", root)
		f.doubt(d.lost...)
	}
	f.problems = d.problems
	return f
}

// Check is every problem that can be told without a [modes.Environment]: of the
// document, of the flags, of what the words mean, and those that the caller found.
// It leaves out what only follows from one of the others. It is nil where there is
// none, and otherwise as [File.Explain] has it.
func (f *File) Check(found ...error) error { return f.check(modes.Check(f.Config), found) }

// CheckNames is [File.Check] in an environment of which only the Users and Groups,
// and why they are Unread, are known.
func (f *File) CheckNames(env modes.Environment, found ...error) error {
	return f.check(modes.CheckNames(f.Config, env), found)
}

// check adds what the words mean to the other problems.
func (f *File) check(meaning error, found []error) error {
	all := append(append([]error{}, f.problems...), found...)
	if f.unread {
		return problems.Join(all...)
	}
	for _, e := range problems.List(meaning) {
		var config *modes.ConfigError
		if errors.As(e, &config) && config.Word == "" && (f.doubtful[config.Key] || f.doubtful[""]) {
			continue
		}
		all = append(all, e)
	}
	return f.Explain(problems.Join(all...))
}

func modeOf(root node) string {
	for _, p := range root.pairs {
		if p.key == "mode" {
			return p.value.word
		}
	}
	return ""
}

// section reads a map of keys.
func (f *File) section(d *document, s *schema, path string, n node) {
	for _, p := range n.pairs {
		full := join(path, p.key)
		if !slices.Contains(s.names(path), p.key) {
			meant := s.meant(path, p.key)
			d.keyProblem(p.place, full, "", "%s", s.unknown(path, p.key, meant))
			f.doubt(full)
			f.doubt(meant...)
			continue
		}
		f.place(full).key = p.place
		k := s.key(full)
		switch {
		case p.value.kind == absent:
		case k != nil:
			f.key(d, *k, p)
		case p.value.kind == aMap:
			f.section(d, s, full, p.value)
		default:
			d.keyProblem(p.value.place, full, "", "is %s (want keys: %s)", p.value.kind, strings.Join(s.names(full), ", "))
			f.doubt(full)
		}
	}
}

// key reads the words of one key.
func (f *File) key(d *document, k modes.Key, p pair) {
	places := f.place(k.Path)
	if !k.List {
		if word, ok := d.oneWord(p.value, k.Path); ok {
			places.words = []wordPlace{{word, p.value.place}}
			k.Set(&f.Config, word)
		} else {
			f.doubt(k.Path)
		}
		return
	}
	if len(k.Items) > 0 {
		f.items(d, k, p.value)
		return
	}
	words, ok := d.words(p.value, k.Path)
	if !ok {
		f.doubt(k.Path)
	}
	if !ok && len(words) == 0 {
		return // not the empty list: that means none
	}
	texts := make([]string, len(words))
	places.words = make([]wordPlace, len(words))
	for i, w := range words {
		texts[i] = w.word
		places.words[i] = wordPlace{w.word, w.place}
	}
	k.Set(&f.Config, texts...)
}

// doubt notes that problems with keys may be why they, or what their sections
// lack, seem absent.
func (f *File) doubt(paths ...string) {
	if f.doubtful == nil {
		f.doubtful = map[string]bool{}
	}
	for _, p := range paths {
		f.doubtful[p] = true
		if section, _, nested := cutLast(p); nested {
			f.doubtful[section] = true
		}
	}
}

// cutLast splits a path before its last key.
func cutLast(path string) (section, key string, nested bool) {
	dot := strings.LastIndexByte(path, '.')
	if dot < 0 {
		return "", path, false
	}
	return path[:dot], path[dot+1:], true
}
