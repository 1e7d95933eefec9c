package main

import (
	"context"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// items reads a list whose entries are words or small maps. A word stands for the
// first key of a map.
func (c *configuration) items(d *document, k modes.Key, n node) {
	entries := []node{n}
	if n.kind == aList {
		entries = n.items
	}
	before := len(d.problems)
	var read []map[string][]string
	for _, entry := range entries {
		if entry.kind == aMap {
			read = append(read, c.item(d, k, entry))
		} else if words, ok := d.words(node{kind: aList, items: []node{entry}}, k.Path); ok {
			c.placeItem(k.Path, words[0])
			read = append(read, map[string][]string{k.Items[0].Path: {words[0].word}})
		}
	}
	if len(d.problems) > before {
		c.doubt(k.Path)
		if len(read) == 0 {
			return // not the empty list: that means none
		}
	}
	k.Set(&c.Config)
	for _, item := range read {
		k.AddItem(&c.Config, item)
	}
}

// item reads one map of a list.
func (c *configuration) item(d *document, k modes.Key, n node) map[string][]string {
	var names []string
	for _, inner := range k.Items {
		names = append(names, inner.Path)
	}
	out := map[string][]string{}
	for _, p := range n.pairs {
		full := join(k.Path, p.key)
		if !slices.Contains(names, p.key) {
			want := term.Nearest(p.key, names)
			if want == "" {
				want = "one of: " + strings.Join(names, ", ")
			}
			d.keyProblem(p.place, full, "", "is no key (want %s)", want)
			continue
		}
		if word, ok := d.oneWord(p.value, full); ok {
			out[p.key] = []string{word}
			path := full
			if p.key == names[0] {
				path = k.Path // as a word that stands for it
			}
			c.placeItem(path, node{place: p.value.place, word: word})
		}
	}
	if out[names[0]] == nil {
		d.keyProblem(n.place, k.Path, "", "has an entry without %s", names[0])
	}
	return out
}

// placeItem notes where a word of a key stands.
func (c *configuration) placeItem(path string, word node) {
	if c.places[path] == nil {
		c.places[path] = &keyPlaces{key: word.place}
	}
	c.places[path].words = append(c.places[path].words, wordPlace{word.word, word.place})
}

// setItems is setBy for a list whose entries may be maps: what a flag's values say,
// as words with commas between them or as a file has it.
func (c *configuration) setItems(ctx context.Context, flag string, k modes.Key, values []string) error {
	d := &document{name: flag}
	list := node{kind: aList, place: place{source: flag}}
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
		words, err := listWords(ctx, flag, v)
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
	c.places[k.Path] = &keyPlaces{key: list.place, flag: true}
	for _, inner := range k.Items[1:] {
		delete(c.places, join(k.Path, inner.Path)) // of the file's entries, which these replace
	}
	c.items(d, k, list)
	return d.err()
}

// isItem reports whether a flag's value is a map, or a list that may hold some, as
// a file has it.
func isItem(value string) bool {
	value = strings.TrimSpace(value)
	return strings.HasPrefix(value, "{") || strings.HasPrefix(value, "[")
}
