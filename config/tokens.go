// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

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
		file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // this package reports every duplicate itself
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
			oddities++ // a value after a value, which is not a key
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
