// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// ReadFile reads the file that a list's value names after an @. It need not read
// more than [MaxSize] bytes and one.
type ReadFile func(name string) ([]byte, error)

// Set replaces what the document says for a key by what a flag does. flag is the
// flag's name with its dashes, for messages; values are what was written, each time
// that the flag was given. A value of a list has commas between its words, or is
// @FILE for a file of such lines with # comments, and "" for none. Where entries may
// be maps it may also be one, or a list, as a document has it. A problem is kept for
// [File.Check], and what the document says stays.
func (f *File) Set(flag string, k modes.Key, read ReadFile, values ...string) {
	if err := f.set(Place{Flag: flag}, k, read, values); err != nil {
		f.problems = append(f.problems, err)
		f.doubt(k.Path)
	}
}

func (f *File) set(at Place, k modes.Key, read ReadFile, values []string) error {
	if len(k.Items) > 0 {
		return f.setItems(at, k, read, values)
	}
	var words []wordPlace
	if k.List {
		var err error
		if words, err = listWords(at, read, values); err != nil {
			return err
		}
	} else {
		if len(values) == 0 || values[0] == "" {
			return &Problem{at, &modes.ConfigError{Key: k.Path, Problem: "is empty (without the flag its default holds)"}}
		}
		words = []wordPlace{{values[0], at}}
	}
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.word
	}
	k.Set(&f.Config, texts...)
	*f.place(k.Path) = keyPlaces{key: at, words: words}
	return nil
}

// setItems is set for a list whose entries may be maps.
func (f *File) setItems(at Place, k modes.Key, read ReadFile, values []string) error {
	d := &document{source: at}
	list := node{kind: aList, place: at}
	for _, v := range values {
		if isItem(v) {
			root, _ := d.read([]byte(v))
			if root.kind == aList {
				list.items = append(list.items, root.items...)
			} else {
				list.items = append(list.items, root)
			}
			continue
		}
		words, err := listWords(at, read, []string{v})
		if err != nil {
			return err
		}
		for _, w := range words {
			list.items = append(list.items, node{place: w.place, kind: oneWord, word: w.word})
		}
	}
	if err := d.err(); err != nil {
		return err
	}
	*f.place(k.Path) = keyPlaces{key: at}
	for _, inner := range k.Items {
		delete(f.places, join(k.Path, inner.Path)) // of the document's entries, which these replace
	}
	f.items(d, k, list)
	return d.err()
}

// isItem reports whether a flag's value is a map, or a list that may hold some, as
// a document has it.
func isItem(value string) bool {
	value = strings.TrimSpace(value)
	return strings.HasPrefix(value, "{") || strings.HasPrefix(value, "[")
}

// listWords are the words of a list flag's values.
func listWords(flag Place, read ReadFile, values []string) ([]wordPlace, error) {
	var out []wordPlace
	for _, value := range values {
		words, err := valueWords(flag, read, value)
		if err != nil {
			return nil, err
		}
		out = append(out, words...)
	}
	return out, nil
}

func valueWords(flag Place, read ReadFile, value string) ([]wordPlace, error) {
	if name, isFile := strings.CutPrefix(value, "@"); isFile {
		return fileWords(flag, read, name)
	}
	return splitWords(value, flag)
}

// fileWords are the words of a list's file.
func fileWords(flag Place, read ReadFile, name string) ([]wordPlace, error) {
	switch {
	case name == "":
		return nil, &Problem{flag, errors.New("@ names no file (want @FILE)")}
	case name == "-":
		return nil, &Problem{flag, errors.New("@- is not a file (want @/dev/stdin for standard input)")}
	case read == nil:
		return nil, &Problem{flag, fmt.Errorf("@%s: no file is read here (want the words themselves)", escape.Text(name))}
	}
	data, err := read(name)
	if err != nil {
		return nil, &Problem{flag, err}
	}
	if len(data) > MaxSize {
		return nil, &Problem{flag, fmt.Errorf("%s is longer than %d MiB", escape.Text(name), MaxSize>>20)}
	}
	var out []wordPlace
	at := Place{Flag: flag.Flag, File: name}
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\ufeff"))) {
		at.Line++
		text, _, _ := strings.Cut(string(line), "#")
		words, err := splitWords(strings.TrimRight(strings.TrimSpace(text), ", \t"), at)
		if err != nil {
			return nil, err
		}
		out = append(out, words...)
	}
	return out, nil
}

func splitWords(list string, at Place) ([]wordPlace, error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil // none
	}
	var out []wordPlace
	for w := range strings.SplitSeq(list, ",") {
		w = strings.TrimSpace(w)
		if w == "" {
			return nil, &Problem{at, fmt.Errorf("%q has an empty word (want words with commas between them)", term.Shorten(list))}
		}
		out = append(out, wordPlace{w, at})
	}
	return out, nil
}
