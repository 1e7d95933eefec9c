// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
)

// MaxSize is how many bytes a document, or a list in a file, may have. A
// configuration that excludes 100,000 prefixes takes half of them. A reader of a
// file need not read more than one byte beyond.
const MaxSize = 4 << 20

// Bounds of a document.
const (
	maxDepth    = 16 // lists and maps inside each other
	maxKeys     = 10_000
	maxOddities = 100 // tokens that no configuration needs, such as anchors
	maxReading  = 10 * time.Second
	maxBlocky   = 8 << 10 // bytes of a document with what starts a block text or a merge
)

// document is a YAML document that is being read.
type document struct {
	source   Place // without a line
	problems []error
	lost     []string          // keys, or sections, of which something could not be read
	long     map[int]*longList // that were taken out, by their first lines
}

// problem notes what is wrong at a place.
func (d *document) problem(at Place, err error) {
	d.problems = append(d.problems, &Problem{at, err})
}

func (d *document) problemf(at Place, format string, args ...any) {
	d.problem(at, fmt.Errorf(format, args...))
}

// keyProblem notes what is wrong with a key, or with a word of it.
func (d *document) keyProblem(at Place, key, word, format string, args ...any) {
	d.problem(at, &modes.ConfigError{Key: key, Word: word, Problem: fmt.Sprintf(format, args...)})
}

func (d *document) at(line, column int) Place {
	return Place{File: d.source.File, Flag: d.source.Flag, Line: line, Column: column}
}

func (d *document) err() error { return problems.Join(d.problems...) }

// read reads the one document of a file. Problems are noted; ok is false where
// nothing came of it.
func (d *document) read(data []byte) (root node, ok bool) {
	text, ok := d.text(data)
	if !ok {
		return node{}, false
	}
	if short, lists := cutLongLists(text); len(lists) > 0 {
		cut := &document{source: d.source, long: map[int]*longList{}}
		for _, l := range lists {
			cut.long[l.first] = l
		}
		if root, ok := cut.parse(short); ok && len(cut.problems) == 0 && cut.allPutBack() {
			return root, true
		}
	}
	return d.parse(text)
}

// parse reads the text of a document.
func (d *document) parse(text string) (root node, ok bool) {
	docs, err := parseBounded(text, maxReading)
	if err != nil {
		d.notYAML(err)
		return node{}, false
	}
	var bodies []ast.Node
	for _, doc := range docs {
		if _, isDirective := doc.Body.(*ast.DirectiveNode); doc.Body != nil && !isDirective {
			bodies = append(bodies, doc.Body)
		}
	}
	if len(bodies) == 0 {
		return node{place: d.source}, true
	}
	for _, second := range bodies[1:] {
		d.problemf(d.placeOf(second), "a second document begins (want one a file)")
	}
	return d.node(bodies[0], ""), true
}
