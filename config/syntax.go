// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/token"
)

// notYAML says the parser's error, with its place.
func (d *document) notYAML(err error) {
	var much *tooMuch
	if errors.As(err, &much) {
		d.problemf(d.placeOfToken(much.at), "%s", much.what)
		return
	}
	var syntax *yaml.SyntaxError
	if !errors.As(err, &syntax) {
		d.problemf(d.source, "cannot be read as YAML: %w", err)
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
