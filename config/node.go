// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// node is a value of a document: one word, a list, or a map.
type node struct {
	place Place
	kind  nodeKind
	word  string // as written, without quotes
	items []node
	pairs []pair
}

// pair is an entry of a map.
type pair struct {
	place Place // of the key
	key   string
	value node
}

type nodeKind uint8

const (
	absent nodeKind = iota // null, or nothing
	oneWord
	aList
	aMap
)

func (k nodeKind) String() string {
	return [...]string{absent: "nothing", oneWord: "one word", aList: "a list", aMap: "a map"}[k]
}

func (d *document) placeOf(n ast.Node) Place {
	if block, ok := n.(*ast.LiteralNode); ok {
		return d.placeOfToken(block.Start)
	}
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		return d.placeOf(m.Values[0])
	}
	if m, ok := n.(*ast.MappingValueNode); ok {
		return d.placeOf(m.Key)
	}
	return d.placeOfToken(n.GetToken())
}

func (d *document) placeOfToken(t *token.Token) Place {
	if t == nil || t.Position == nil {
		return d.source
	}
	return d.at(t.Position.Line, t.Position.Column)
}

// node is the value that n writes, below the key of that path. What no
// configuration needs is a problem, and read as well as can be.
func (d *document) node(n ast.Node, path string) node {
	if n == nil {
		return node{place: d.source}
	}
	at := d.placeOf(n)
	switch n := n.(type) {
	case *ast.NullNode:
		return node{place: at}
	case *ast.StringNode:
		return node{place: at, kind: oneWord, word: n.Value}
	case *ast.LiteralNode:
		return node{place: at, kind: oneWord, word: n.Value.Value}
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return node{place: at, kind: oneWord, word: n.GetToken().Value} // 0x539, not 1337
	case *ast.SequenceNode:
		list := node{place: at, kind: aList, items: make([]node, 0, len(n.Values))}
		for _, v := range n.Values {
			list.items = append(list.items, d.node(v, path))
		}
		list.items = d.putBack(list.items)
		return list
	case *ast.MappingNode:
		return d.pairs(at, path, n.Values)
	case *ast.MappingValueNode:
		return d.pairs(at, path, []*ast.MappingValueNode{n})
	case *ast.AnchorNode:
		d.problemf(at, "an anchor (&) is not read here (want the value itself wherever it is needed)")
		return d.node(n.Value, path)
	case *ast.AliasNode:
		d.problemf(at, `an alias (*) is not read here (want the value itself, or quotes around a "*")`)
		d.lost = append(d.lost, path)
		return node{place: at}
	case *ast.TagNode:
		d.problemf(at, "a tag (!) is not read here (want the value alone)")
		return d.node(n.Value, path)
	}
	d.problemf(at, "%s is not read here", strings.ToLower(n.Type().String()))
	d.lost = append(d.lost, path)
	return node{place: at}
}

func (d *document) pairs(at Place, path string, values []*ast.MappingValueNode) node {
	out := node{place: at, kind: aMap, pairs: make([]pair, 0, len(values))}
	first := map[string]Place{}
	for _, v := range values {
		p, ok := d.key(v.Key)
		if !ok {
			d.lost = append(d.lost, path)
			continue
		}
		full := join(path, p.key)
		if before, twice := first[p.key]; twice {
			d.keyProblem(p.place, full, "", "is written twice (first in line %d)", before.Line)
			d.lost = append(d.lost, full)
			continue
		}
		first[p.key] = p.place
		p.value = d.node(v.Value, full)
		out.pairs = append(out.pairs, p)
	}
	return out
}

// join is the path of a key in a section, which is "" for the document itself.
func join(section, key string) string {
	if section == "" {
		return key
	}
	return section + "." + key
}

// key is a map's key, which is to be one word.
func (d *document) key(n ast.MapKeyNode) (pair, bool) {
	switch n := n.(type) {
	case *ast.MappingKeyNode:
		d.problemf(d.placeOfToken(n.Start), "a key after ? is not read here (want key: value)")
		return pair{}, false
	case *ast.MergeKeyNode:
		d.problemf(d.placeOf(n), "a merge (<<) is not read here (want the keys themselves)")
		return pair{}, false
	}
	key := d.node(n, "")
	if key.kind != oneWord {
		d.problemf(key.place, "%s is not a key (want a word)", key.kind)
		return pair{}, false
	}
	return pair{place: key.place, key: key.word}, true
}

// words are the words of a list, or the one word that stands for a list of one.
// It reports whether all of it was words.
func (d *document) words(n node, key string) ([]node, bool) {
	items := []node{n}
	if n.kind == aList {
		items = n.items
	}
	words := make([]node, 0, len(items))
	for _, item := range items {
		switch {
		case item.kind == absent:
			d.keyProblem(item.place, key, "", "has an empty entry (want a word)")
		case item.kind != oneWord:
			d.keyProblem(item.place, key, "", "holds %s (want words%s)", item.kind, inQuotes(item))
		case item.word == "":
			d.keyProblem(item.place, key, "", "has an empty word (want [] for none)")
		case strings.Contains(item.word, ","):
			d.keyProblem(item.place, key, item.word, "holds a comma (want a list such as [a, b])")
		default:
			words = append(words, item)
		}
	}
	return words, len(words) == len(items)
}

// oneWord is the word that a key holds, which is to be one.
func (d *document) oneWord(n node, key string) (string, bool) {
	switch {
	case n.kind != oneWord:
		d.keyProblem(n.place, key, "", "is %s (want one word%s)", n.kind, inQuotes(n))
	case n.word == "":
		d.keyProblem(n.place, key, "", "is empty (without the key its default holds)")
	default:
		return n.word, true
	}
	return "", false
}

// inQuotes is the advice for a word such as "fe80:: ", which YAML takes for a
// map.
func inQuotes(n node) string {
	if n.kind == aMap {
		return ", in quotes where one ends in a colon"
	}
	return ""
}
