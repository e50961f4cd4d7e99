package vet

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// TestOptionsAreThoseOfDblocker: the list is that of its table, which cannot be imported without the drivers.
func TestOptionsAreThoseOfDblocker(t *testing.T) {
	files, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == "optionTable" && len(spec.Values) == 1 {
				for _, row := range spec.Values[0].(*ast.CompositeLit).Elts {
					key, err := strconv.Unquote(row.(*ast.CompositeLit).Elts[0].(*ast.BasicLit).Value)
					if err != nil {
						t.Fatal(err)
					}
					found = append(found, key)
				}
			}
			return true
		})
	}
	if !slices.Equal(found, options) {
		t.Errorf("the options of dblocker are %q, and those that are known here %q", found, options)
	}
}
