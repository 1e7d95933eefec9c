package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/modes"
)

// Bounds of a document. A configuration that excludes 100,000 prefixes takes
// half of the bytes.
const (
	maxDocument = 4 << 20 // bytes
	maxDepth    = 16      // lists and maps inside each other
	maxKeys     = 10_000
	maxOddities = 100 // tokens that no configuration needs, such as anchors
	maxReading  = 10 * time.Second
	maxBlocky   = 8 << 10 // bytes of a document with what starts a block text or a merge
)

// place is where a word was written. A line and a column count from 1; without
// a line the source is all that is known.
type place struct {
	source       string // a file, or a flag
	line, column int
}

func (p place) String() string {
	source := escape.Text(p.source)
	switch {
	case p.line == 0:
		return source
	case p.column == 0:
		return fmt.Sprintf("%s:%d", source, p.line)
	}
	return fmt.Sprintf("%s:%d:%d", source, p.line, p.column)
}

// placedError is a problem and where it stands.
type placedError struct {
	place place
	err   error
}

func (e *placedError) Error() string { return e.place.before(e.err.Error()) }

func (e *placedError) Unwrap() error { return e.err }

// before is a message with the place in front, where there is one.
func (p place) before(message string) string {
	if p.source == "" {
		return message
	}
	return p.String() + ": " + message
}

// node is a value of a document: one word, a list, or a map.
type node struct {
	place place
	kind  nodeKind
	word  string // as written, without quotes
	items []node
	pairs []pair
}

// pair is an entry of a map.
type pair struct {
	place place // of the key
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

// document is a YAML document that is being read.
type document struct {
	name     string
	problems []error
	lost     []string          // keys, or sections, of which something could not be read
	long     map[int]*longList // that were taken out, by their first lines
}

// problem notes what is wrong at a place.
func (d *document) problem(at place, err error) {
	d.problems = append(d.problems, &placedError{at, err})
}

func (d *document) problemf(at place, format string, args ...any) {
	d.problem(at, fmt.Errorf(format, args...))
}

// keyProblem notes what is wrong with a key, or with a word of it.
func (d *document) keyProblem(at place, key, word, format string, args ...any) {
	d.problem(at, &modes.ConfigError{Key: key, Word: word, Problem: fmt.Sprintf(format, args...)})
}

func (d *document) at(line, column int) place { return place{d.name, line, column} }

func (d *document) err() error { return errors.Join(d.problems...) }

// read reads the one document of a file. Problems are noted; ok is false where
// nothing came of it.
func (d *document) read(data []byte) (root node, ok bool) {
	text, ok := d.text(data)
	if !ok {
		return node{}, false
	}
	if short, lists := cutLongLists(text); len(lists) > 0 {
		cut := &document{name: d.name, long: map[int]*longList{}}
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
		return node{place: place{source: d.name}}, true
	}
	for _, second := range bodies[1:] {
		d.problemf(d.placeOf(second), "a second document begins (want one a file)")
	}
	return d.node(bodies[0], ""), true
}

// text is the document in the form that the YAML reader takes without surprise:
// UTF-8 without a byte order mark, one kind of line end, and no tabs, which it
// counts as no column at all. Columns stay as they were.
func (d *document) text(data []byte) (string, bool) {
	if len(data) > maxDocument {
		d.problemf(place{source: d.name}, "is longer than %d MiB", maxDocument>>20)
		return "", false
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	data = bytes.ReplaceAll(data, []byte("\r"), []byte("\n"))
	before := len(d.problems)
	isJSON := bytes.HasPrefix(bytes.TrimSpace(data), []byte("{"))
	var b strings.Builder
	number := 0
	for line := range bytes.Lines(data) {
		number++
		if !d.plain(line, number) {
			return "", false
		}
		content := bytes.TrimLeft(line, " \t\n")
		indent := line[:len(line)-len(content)]
		if tab := bytes.IndexByte(indent, '\t'); tab >= 0 && len(content) > 0 && content[0] != '#' && !isJSON {
			d.problemf(d.at(number, tab+1), "a tab indents this line (want spaces)")
		}
		if at := blocky(line); at >= 0 && len(data) > maxBlocky {
			d.problemf(d.at(number, utf8.RuneCount(line[:at])+1), "%q is read only in a document of at most %d KiB (want the words themselves, or quotes and a shorter document)", line[at], maxBlocky>>10)
			return "", false
		}
		b.Write(bytes.ReplaceAll(line, []byte("\t"), []byte(" ")))
	}
	return b.String(), len(d.problems) == before
}

// blocky is where a line has what no configuration needs and what the library
// takes time by the square of: the ends of a block text's lines, and the signs
// of a merge. It is -1 where there is none but in a comment.
func blocky(line []byte) int {
	at := bytes.IndexAny(line, "|><")
	if comment := bytes.IndexByte(line, '#'); comment >= 0 && comment < at && (comment == 0 || line[comment-1] == ' ' || line[comment-1] == '\t') {
		return -1
	}
	return at
}

// plain reports whether a line is text.
func (d *document) plain(line []byte, number int) bool {
	if !utf8.Valid(line) {
		d.problemf(d.at(number, 0), "is not UTF-8 text")
		return false
	}
	control := bytes.IndexFunc(line, func(c rune) bool { return c < ' ' && c != '\t' && c != '\n' || c == 0x7f })
	if control >= 0 {
		d.problemf(d.at(number, utf8.RuneCount(line[:control])+1), "holds a control character, %q", line[control])
		return false
	}
	return true
}

// parseBounded parses in bounded time, space and depth, and does not panic. The
// library gives no such promise: it takes time by the square of some texts, and
// its recursion is bounded by the stack alone.
func parseBounded(text string, within time.Duration) ([]*ast.DocumentNode, error) {
	type result struct {
		docs []*ast.DocumentNode
		err  error
	}
	done := make(chan result, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- result{err: fmt.Errorf("its reader failed: %v", r)}
			}
		}()
		tokens := joinColons(lexer.Tokenize(text))
		if err := checkTokens(tokens); err != nil {
			done <- result{err: err}
			return
		}
		file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // ours tell of every duplicate
		if err != nil {
			done <- result{err: err}
			return
		}
		done <- result{docs: file.Docs}
	}()
	select {
	case r := <-done:
		return r.docs, r.err
	case <-time.After(within):
		return nil, fmt.Errorf("it took more than %s to read", within)
	}
}

// tooMuch is what a document has too much of.
type tooMuch struct {
	at   *token.Token
	what string
}

func (e *tooMuch) Error() string { return e.what }

// checkTokens refuses what would take the parser long or deep, before it does.
func checkTokens(tokens token.Tokens) error {
	depth, entries, keys, oddities := 0, 0, 0, 0
	var before, scalar *token.Token // scalar is the one before, where it follows another
	for _, t := range tokens {
		if t.Type == token.CommentType {
			continue
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.MappingValueType:
			keys++
		case token.AnchorType, token.AliasType, token.TagType, token.MappingKeyType, token.MergeKeyType, token.DirectiveType:
			oddities++
		}
		// A block opens a level only by going right: "- - -" on one line, or
		// lines of more and more spaces, which the size bounds.
		if t.Type == token.SequenceEntryType && before != nil && before.Type == token.SequenceEntryType && before.Position.Line == t.Position.Line {
			entries++
		} else {
			entries = 0
		}
		if t.Type == token.SequenceEntryType && before != nil && before.Type == token.SequenceEntryType {
			oddities++ // an entry of nothing
		}
		if scalar != nil && t.Type != token.MappingValueType {
			oddities++ // a value after a value, which is no key
		}
		scalar = nil
		if before != nil && isScalar(before) && isScalar(t) {
			scalar = t
		}
		before = t
		switch {
		case depth > maxDepth || entries > maxDepth:
			return &tooMuch{t, fmt.Sprintf("is more than %d levels deep here", maxDepth)}
		case keys > maxKeys:
			return &tooMuch{t, fmt.Sprintf("has more than %d keys", maxKeys)}
		case oddities > maxOddities:
			return &tooMuch{t, "has values where none can stand, entries of nothing, anchors, aliases or tags, and many of them"}
		}
	}
	return nil
}

// joinColons makes one word of what is one in YAML 1.2: in a list inside braces,
// the library takes the first colon of [fd00::/8, 80:90] for a key's end.
func joinColons(tokens token.Tokens) token.Tokens {
	var out token.Tokens
	var open []token.Type
	joined := false
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			open = append(open, t.Type)
		case token.SequenceEndType, token.MappingEndType:
			open = open[:max(len(open)-1, 0)]
		}
		inList := len(open) > 0 && open[len(open)-1] == token.SequenceStartType
		if t.Type != token.MappingValueType || !inList || i+1 == len(tokens) || !isPlain(tokens[i+1]) || !touch(t, tokens[i+1]) {
			out = append(out, t)
			continue
		}
		joined = true
		value, at := ":"+tokens[i+1].Value, t.Position
		if last := len(out) - 1; last >= 0 && isPlain(out[last]) && touch(out[last], t) {
			value, at = out[last].Value+value, out[last].Position
			out = out[:last]
		}
		out = append(out, token.String(value, value, at))
		i++
	}
	if !joined {
		return tokens
	}
	var linked token.Tokens
	for _, t := range out {
		t.Prev, t.Next = nil, nil
		linked.Add(t)
	}
	return linked
}

// touch reports whether b begins where a ends.
func touch(a, b *token.Token) bool {
	return a.Position.Line == b.Position.Line && a.Position.Column+utf8.RuneCountInString(a.Value) == b.Position.Column
}

// isPlain reports whether the token is a word without quotes.
func isPlain(t *token.Token) bool {
	return isScalar(t) && t.Type != token.SingleQuoteType && t.Type != token.DoubleQuoteType
}

func isScalar(t *token.Token) bool {
	switch t.Type {
	case token.StringType, token.SingleQuoteType, token.DoubleQuoteType, token.NullType, token.BoolType, token.IntegerType,
		token.FloatType, token.HexIntegerType, token.OctetIntegerType, token.BinaryIntegerType, token.InfinityType, token.NanType:
		return true
	}
	return false
}

// notYAML says the parser's error, with its place.
func (d *document) notYAML(err error) {
	var much *tooMuch
	if errors.As(err, &much) {
		d.problemf(d.placeOfToken(much.at), "%s", much.what)
		return
	}
	var syntax *yaml.SyntaxError
	if !errors.As(err, &syntax) {
		d.problemf(place{source: d.name}, "cannot be read as YAML: %w", err)
		return
	}
	at := d.placeOfToken(syntax.Token)
	switch {
	case lonelyStar(syntax.Token) != nil:
		d.problemf(d.placeOfToken(lonelyStar(syntax.Token)), `is not YAML: * begins an alias (want "*" in quotes, or all)`)
	case strings.HasPrefix(syntax.Message, "mapping value is not allowed"):
		d.problemf(at, "is not YAML: a colon makes this a key, and none can stand here (want quotes around a value with a colon, or another indentation)")
	default:
		d.problemf(at, "is not YAML: %s", syntax.Message)
	}
}

// lonelyStar is an alias without a name, where the token is or follows one.
func lonelyStar(t *token.Token) *token.Token {
	switch {
	case t == nil:
		return nil
	case t.Type == token.AliasType:
		return t
	case t.Prev != nil && t.Prev.Type == token.AliasType && !touch(t.Prev, t):
		return t.Prev
	case t.Prev != nil && t.Prev.Type == token.AliasType && !isScalar(t):
		return t.Prev
	}
	return nil
}

func (d *document) placeOf(n ast.Node) place {
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

func (d *document) placeOfToken(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{source: d.name}
	}
	return d.at(t.Position.Line, t.Position.Column)
}

// node is the value that n writes, below the key of that path. What no
// configuration needs is a problem, and read as well as can be.
func (d *document) node(n ast.Node, path string) node {
	if n == nil {
		return node{place: place{source: d.name}}
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

func (d *document) pairs(at place, path string, values []*ast.MappingValueNode) node {
	out := node{place: at, kind: aMap, pairs: make([]pair, 0, len(values))}
	first := map[string]place{}
	for _, v := range values {
		p, ok := d.key(v.Key)
		if !ok {
			d.lost = append(d.lost, path)
			continue
		}
		full := join(path, p.key)
		if before, twice := first[p.key]; twice {
			d.keyProblem(p.place, full, "", "is written twice (first in line %d)", before.line)
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
		d.problemf(key.place, "%s is no key (want a word)", key.kind)
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
