//go:build unix

package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
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
	return modulesBelow(filepath.Dir(gomod))
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

// goTest runs all tests of a module. It gets a process group of its own, so that a signal which reaches only us can be passed
// on to the test programs as well.
func goTest(ctx context.Context, dir string, flags, env []string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "./..."}, flags...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	progress("%s: go test ./... %s", dir, strings.Join(flags, " "))
	err := cmd.Run()
	if ctx.Err() != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // test programs that go on after SIGINT
	}
	return err
}
