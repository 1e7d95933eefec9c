// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"regexp"
	"strconv"
	"testing"
)

// TestConflictIsDocumented: users of package capture see no documentation of this package,
// so that theirs names every field of a Conflict and every kind.
func TestConflictIsDocumented(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../../capture/conflict.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, d := range f.Decls {
		if d, ok := d.(*ast.GenDecl); ok && d.Tok == token.TYPE && d.Specs[0].(*ast.TypeSpec).Name.Name == "Conflict" {
			text = d.Doc.Text()
		}
	}
	for field := range reflect.TypeFor[Conflict]().Fields() {
		if !regexp.MustCompile(`(?m)^\t` + field.Name + ` +\S`).MatchString(text) {
			t.Errorf("field %s is not documented", field.Name)
		}
	}
	kinds := declaredKinds(t)
	if len(kinds) == 0 {
		t.Fatal("there are no kinds")
	}
	for _, kind := range kinds {
		if !regexp.MustCompile(`[ \n]` + kind + `[ ,;.\n]`).MatchString(text) {
			t.Errorf("kind %s is not documented", kind)
		}
	}
}

// declaredKinds are the words of the constants of type Kind.
func declaredKinds(t *testing.T) (kinds []string) {
	f, err := parser.ParseFile(token.NewFileSet(), "conflict.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "Kind" {
			word, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			kinds = append(kinds, word)
		}
		return true
	})
	return kinds
}
