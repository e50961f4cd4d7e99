//go:build unix

package main

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// findModules returns the directories of the module that we are in and of those below it, which "./..." leaves out.
func findModules(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return nil, err
	}
	gomod := strings.TrimSpace(string(out))
	if filepath.Base(gomod) != "go.mod" {
		return nil, errors.New("run this inside the repository: no go.mod here or above")
	}
	modules, err := modulesBelow(filepath.Dir(gomod))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(modules, func(dir string) bool { return !hasPackages(ctx, dir) }), nil
}

// hasPackages is false for a module without Go files, which go test takes for an error. What go list does not understand is
// left to go test, which says why.
func hasPackages(ctx context.Context, dir string) bool {
	list := exec.CommandContext(ctx, "go", "list", "./...")
	list.Dir = dir
	out, err := list.Output()
	return err != nil || len(out) > 0
}

func modulesBelow(root string) ([]string, error) {
	var modules []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && ignored(entry.Name()):
			return filepath.SkipDir
		case entry.Name() == "go.mod":
			modules = append(modules, filepath.Dir(path))
		}
		return nil
	})
	return modules, err
}

// ignored is what the go command ignores, too.
func ignored(dir string) bool {
	return dir == "testdata" || dir == "vendor" || strings.HasPrefix(dir, ".") || strings.HasPrefix(dir, "_")
}
