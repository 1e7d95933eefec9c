// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestFewNamesAreExported: what a reader of the package has to know before anything
// else, its types, functions and constants, stays a page or two. A third of them are
// selectors, in nft's words. Each kind of node is one, and so is each way of reading bytes
// that have no name.
func TestFewNamesAreExported(t *testing.T) {
	const most = 150
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var exported []string
	note := func(id *ast.Ident) {
		if id.IsExported() {
			exported = append(exported, id.Name)
		}
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					note(d.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						note(s.Name)
					case *ast.ValueSpec:
						for _, id := range s.Names {
							note(id)
						}
					}
				}
			}
		}
	}
	if len(exported) > most || len(exported) < most/2 {
		t.Errorf("%d names are exported, want at most %d: %v", len(exported), most, exported)
	}
}
