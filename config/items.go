// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"

	"github.com/weir-mesh/weir/modes"
)

// items reads a list whose entries are words or small maps. A word stands for the
// first key of a map.
func (f *File) items(d *document, k modes.Key, n node) {
	entries := []node{n}
	if n.kind == aList {
		entries = n.items
	}
	before := len(d.problems)
	var read []map[string][]string
	for _, entry := range entries {
		if entry.kind == aMap {
			read = append(read, f.item(d, k, entry))
		} else if words, ok := d.words(node{kind: aList, items: []node{entry}}, k.Path); ok {
			path := k.Path
			if !k.Items[0].Needed {
				path = join(path, k.Items[0].Path)
			}
			f.placeItem(path, words[0])
			read = append(read, map[string][]string{k.Items[0].Path: {words[0].word}})
		}
	}
	if len(d.problems) > before {
		f.doubt(k.Path)
		if len(read) == 0 {
			return // not the empty list: that means none
		}
	}
	k.Set(&f.Config)
	for _, item := range read {
		k.AddItem(&f.Config, item)
	}
}

// item reads one map of a list.
func (f *File) item(d *document, k modes.Key, n node) map[string][]string {
	var names []string
	for _, inner := range k.Items {
		names = append(names, inner.Path)
	}
	out := map[string][]string{}
	for _, p := range n.pairs {
		full := join(k.Path, p.key)
		if !slices.Contains(names, p.key) {
			d.keyProblem(p.place, full, "", "%s", nearestKey(p.key, names))
			continue
		}
		inner := k.Items[slices.Index(names, p.key)]
		words, ok := d.itemWords(inner, p.value, full)
		if !ok {
			continue
		}
		out[p.key] = []string{}
		path := full
		if inner.Needed {
			path = k.Path // as a word that stands for it
		}
		for _, w := range words {
			out[p.key] = append(out[p.key], w.word)
			f.placeItem(path, w)
		}
	}
	for _, inner := range k.Items {
		if inner.Needed && out[inner.Path] == nil {
			d.keyProblem(n.place, k.Path, "", "has an entry without %s", inner.Path)
		}
	}
	return out
}

// itemWords are the words of a key of a map in a list: one, or as many as there are.
func (d *document) itemWords(k modes.Key, n node, path string) ([]node, bool) {
	if k.List {
		return d.words(n, path)
	}
	word, ok := d.oneWord(n, path)
	return []node{{place: n.place, word: word}}, ok
}

// placeItem notes where a word of a key stands.
func (f *File) placeItem(path string, word node) {
	places := f.place(path)
	if len(places.words) == 0 && places.key == (Place{}) {
		places.key = word.place
	}
	places.words = append(places.words, wordPlace{word.word, word.place})
}
