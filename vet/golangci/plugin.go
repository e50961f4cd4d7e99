// Package golangci makes the analyzers of package vet a module plugin of golangci-lint, by the name dblocker. It is a package of
// its own, so that who runs them by go vet does not compile golangci-lint's part.
package golangci

import (
	"github.com/golangci/plugin-module-register/register"
	"golang.org/x/tools/go/analysis"

	"github.com/calmdocs/dblocker/vet"
)

func init() { register.Plugin("dblocker", New) }

// New is what golangci-lint calls. There are no settings.
func New(any) (register.LinterPlugin, error) { return plugin{}, nil }

type plugin struct{}

// BuildAnalyzers implements [register.LinterPlugin].
func (plugin) BuildAnalyzers() ([]*analysis.Analyzer, error) { return vet.Analyzers, nil }

// GetLoadMode implements [register.LinterPlugin].
func (plugin) GetLoadMode() string { return register.LoadModeTypesInfo }
