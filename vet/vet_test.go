package vet

import (
	"go/types"
	"slices"
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

// TestOwnPackageSetsItsLimits: what dblocker does with its own handles is no fault of a program.
func TestOwnPackageSetsItsLimits(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), Pool, ours)
}
