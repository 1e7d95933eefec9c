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
			f.placeItem(k.Path, words[0])
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
		if word, ok := d.oneWord(p.value, full); ok {
			out[p.key] = []string{word}
			path := full
			if p.key == names[0] {
				path = k.Path // as a word that stands for it
			}
			f.placeItem(path, node{place: p.value.place, word: word})
		}
	}
	if out[names[0]] == nil {
		d.keyProblem(n.place, k.Path, "", "has an entry without %s", names[0])
	}
	return out
}

// placeItem notes where a word of a key stands.
func (f *File) placeItem(path string, word node) {
	places := f.place(path)
	if len(places.words) == 0 && places.key == (Place{}) {
		places.key = word.place
	}
	places.words = append(places.words, wordPlace{word.word, word.place})
}
