// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"slices"

	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
)

// keyPlaces is where a key and its words stand.
type keyPlaces struct {
	key   Place
	words []wordPlace
	index map[string][]Place // the words', made when first asked for
}

type wordPlace struct {
	word  string
	place Place
}

// place is where a key stands, to be noted.
func (f *File) place(path string) *keyPlaces {
	if f.places == nil {
		f.places = map[string]*keyPlaces{}
	}
	if f.places[path] == nil {
		f.places[path] = &keyPlaces{}
	}
	return f.places[path]
}

// of is the place of the nth writing of a word, or of the key.
func (k *keyPlaces) of(word string, nth int) Place {
	if k.index == nil {
		k.index = make(map[string][]Place, len(k.words))
		for _, w := range k.words {
			k.index[w.word] = append(k.index[w.word], w.place)
		}
	}
	if places := k.index[word]; len(places) > 0 {
		return places[min(nth, len(places)-1)]
	}
	return k.key
}

// placeOf is the place of the nth writing of a key's word; of a key that was not
// written it is the file.
func (f *File) placeOf(key, word string, nth int) Place {
	if k := f.places[key]; k != nil {
		return k.of(word, nth)
	}
	return Place{File: f.name}
}

// Explain makes a [*Problem] of each error that err joins and puts the place to each
// [*modes.ConfigError], such as those of [modes.State]. Problems stand in the order of
// the document, then of the flags, then those without a place. It is nil for nil.
func (f *File) Explain(err error) error {
	type written struct{ key, word string }
	seen := map[written]int{}
	var out []*Problem
	for _, e := range problems.List(err) {
		switch e := e.(type) {
		case *Problem:
			out = append(out, e)
		case *modes.ConfigError:
			w := written{e.Key, e.Word}
			out = append(out, &Problem{f.placeOf(e.Key, e.Word, seen[w]), e})
			seen[w]++
		default:
			out = append(out, &Problem{Err: e})
		}
	}
	slices.SortStableFunc(out, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.Place.rank(), b.Place.rank()), cmp.Compare(a.Place.Line, b.Place.Line), cmp.Compare(a.Place.Column, b.Place.Column))
	})
	joined := make([]error, len(out))
	for i, p := range out {
		joined[i] = p
	}
	return problems.Join(joined...)
}

// rank is lowest for places in a document, and highest for none.
func (p Place) rank() int {
	switch {
	case p.Flag != "":
		return 1
	case p.Line > 0:
		return 0
	}
	return 2
}

// ExplainNote is a note of [modes.State], with its place in front.
func (f *File) ExplainNote(n modes.Note) string {
	place := f.placeOf(n.Key, n.Word, 0)
	if place.namesKey() {
		return place.before(n.Text)
	}
	return place.before(n.String())
}

// Problems lists every problem that an error of this package tells, also those that
// its message only counts. What has no place has the zero one. It is empty for nil.
func Problems(err error) []*Problem {
	var out []*Problem
	for _, e := range problems.List(err) {
		p, placed := e.(*Problem)
		if !placed {
			p = &Problem{Err: e}
		}
		out = append(out, p)
	}
	return out
}
