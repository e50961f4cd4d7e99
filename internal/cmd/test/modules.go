//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A testModule is one whose tests are run.
type testModule struct {
	dir  string
	name string // as in messages: the directory, from the root module
}

// findModules returns the module that we are in and those below it, which "./..." leaves out.
func findModules(ctx context.Context) ([]testModule, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return nil, err
	}
	gomod := strings.TrimSpace(string(out))
	if filepath.Base(gomod) != "go.mod" {
		return nil, errors.New("run this inside the repository: no go.mod here or above")
	}
	root := filepath.Dir(gomod)
	dirs, err := modulesBelow(root)
	if err != nil {
		return nil, err
	}
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return !hasPackages(ctx, dir) })
	var modules []testModule
	for _, dir := range dirs {
		name, err := filepath.Rel(root, dir)
		if err != nil {
			return nil, err
		}
		if name == "." {
			name = "dblocker"
		}
		modules = append(modules, testModule{dir, name})
	}
	return modules, nil
}

// hasPackages is false for a module without Go files, which go test takes for an error. What go list does not understand is
// left to go test, which says why.
func hasPackages(ctx context.Context, dir string) bool {
	list := exec.CommandContext(ctx, "go", "list", "./...")
	list.Dir = dir
	out, err := list.Output()
	return err != nil || len(out) > 0
}

// modulesBelow returns the root first.
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
	slices.Sort(modules)
	return modules, err
}

// ignored is what the go command ignores, too.
func ignored(dir string) bool {
	return dir == "testdata" || dir == "vendor" || strings.HasPrefix(dir, ".") || strings.HasPrefix(dir, "_")
}

// test tests the module, and puts what came of it into the summary. It calls built when the tests begin.
func (m testModule) test(ctx context.Context, flags, env []string, s *summary, built func()) error {
	if !inCI() { // there go test says it, and fails
		if why := impossible(ctx, m.dir); why != "" && ctx.Err() == nil {
			s.leaveOut("module "+m.name, why)
			progress("left out: %s", why)
			return nil
		}
	}
	stop := everyMinute(func(passed time.Duration) { progress("%s: at work for %s", m.name, passed) })
	t, err := goTest(ctx, m.dir, flags, env, built)
	stop()
	s.add(m.name, t)
	return err
}

// everyMinute shows that something goes on: a first build is silent for long.
func everyMinute(say func(passed time.Duration)) (stop func()) {
	ticker := time.NewTicker(time.Minute)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for n := time.Duration(1); ; n++ {
			select {
			case <-ticker.C:
				say(n * time.Minute)
			case <-done:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(done)
		<-ended
	}
}

// notHere matches what the go command says when something must be downloaded and cannot be: the name is not found, nobody
// answers, or it was told not to try.
var notHere = regexp.MustCompile(`dial tcp|no such host|i/o timeout|connection refused|network is unreachable|TLS handshake timeout|disabled by GOPROXY=off`)

// tooOld matches what it says of a module for a newer Go that it may not, or cannot, download.
var tooOld = regexp.MustCompile(`requires go >= \S+ \(running go [^)]*\)|cannot find "go\S*" in PATH|download go\S+ for \S+: toolchain not available`)

// impossible says why a module cannot be tested on this machine, or "". All other faults are go test's to tell.
func impossible(ctx context.Context, dir string) string {
	list := exec.CommandContext(ctx, "go", "list", "-test", "-deps", "./...")
	list.Dir = dir
	var said bytes.Buffer
	list.Stderr = &said
	if list.Run() == nil {
		return ""
	}
	for line := range strings.Lines(said.String()) {
		line = strings.TrimSpace(line)
		switch {
		case tooOld.MatchString(line):
			return "it needs a newer Go: " + line
		case notHere.MatchString(line):
			return "modules that it needs cannot be downloaded: " + line
		}
	}
	return ""
}
