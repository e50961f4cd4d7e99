package vet

import (
	"bytes"
	"go/format"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"
	"golang.org/x/tools/go/analysis/passes/ctrlflow"
	"golang.org/x/tools/go/analysis/passes/inspect"
)

// byPackage runs, on each package of testdata, the analyzer that has its name, so that all are loaded together.
var byPackage = &analysis.Analyzer{
	Name: "bypackage",
	Doc:  "run the analyzer that the package is for",
	Run: func(pass *analysis.Pass) (any, error) {
		a := NoContext
		if i := slices.IndexFunc(Analyzers, func(a *analysis.Analyzer) bool { return a.Name == "dblocker"+pass.Pkg.Path() }); i >= 0 {
			a = Analyzers[i]
		}
		return a.Run(pass)
	},
	Requires: []*analysis.Analyzer{inspect.Analyzer, ctrlflow.Analyzer, handles},
}

// TestAnalyzers: each reports what is wrong in its package of testdata, and nothing else there; what its fixes give is in the
// golden file. In allhandles and everywhere
// the flags of those names are set.
func TestAnalyzers(t *testing.T) {
	defer func(before func(*types.Package) settings) { settingsFor = before }(settingsFor)
	settingsFor = func(pkg *types.Package) settings {
		return settings{all: pkg.Path() == "allhandles", everywhere: pkg.Path() == "everywhere"}
	}
	packages := []string{"allhandles", "everywhere"}
	for _, a := range Analyzers {
		packages = append(packages, a.Name[len("dblocker"):])
	}
	analysistest.RunWithSuggestedFixes(t, analysistest.TestData(), byPackage, packages...)
}

// TestFixesCompile: what the fixes give compiles, and is in the format of gofmt.
func TestFixesCompile(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(analysistest.TestData())); err != nil {
		t.Fatal(err)
	}
	var packages []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, fixed := strings.CutSuffix(path, ".golden")
		if err != nil || !fixed {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if formatted, err := format.Source(text); err != nil || !bytes.Equal(formatted, text) {
			t.Errorf("%s is not in the format of gofmt: %v", path, err)
		}
		packages = append(packages, filepath.Base(filepath.Dir(path)))
		return os.WriteFile(name, regexp.MustCompile("// want .*").ReplaceAll(text, nil), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) < 7 {
		t.Errorf("only %q have fixes", packages)
	}
	nothing := &analysis.Analyzer{Name: "nothing", Doc: "compile", Run: func(*analysis.Pass) (any, error) { return nil, nil }}
	analysistest.Run(t, dir, nothing, packages...)
}

// TestOwnPackageSetsItsLimits: what dblocker does with its own handles is no fault of a program.
func TestOwnPackageSetsItsLimits(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), Pool, ours)
}
