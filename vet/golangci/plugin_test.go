package golangci_test

import (
	"testing"

	"github.com/golangci/plugin-module-register/register"

	_ "github.com/calmdocs/dblocker/vet/golangci"

	"github.com/calmdocs/dblocker/vet"
)

// TestPlugin: golangci-lint finds it by its name, and gets all analyzers.
func TestPlugin(t *testing.T) {
	newPlugin, err := register.GetPlugin("dblocker")
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlugin(nil)
	if err != nil {
		t.Fatal(err)
	}
	all, err := p.BuildAnalyzers()
	if err != nil || len(all) != len(vet.Analyzers) {
		t.Errorf("got %d analyzers, want %d: %v", len(all), len(vet.Analyzers), err)
	}
	if mode := p.GetLoadMode(); mode != register.LoadModeTypesInfo {
		t.Errorf("the load mode is %q", mode)
	}
}
