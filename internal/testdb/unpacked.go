package testdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/calmdocs/dblocker/internal/debs"
)

// The variables that say which programs are used.
const (
	// Unpacked lists the directories that Unpack has filled, for other processes, as PATH does. They are preferred to what is
	// installed.
	Unpacked = "DBLOCKER_TEST_UNPACKED"

	// IgnoreInstalled, if it is not empty, hides the installed servers, to try what happens without.
	IgnoreInstalled = "DBLOCKER_TEST_IGNORE_INSTALLED"

	// Cache names the directory for downloaded programs, instead of dblocker-test in the user's cache directory.
	Cache = "DBLOCKER_TEST_CACHE"
)

// root returns the directory below which the engine's programs were unpacked, or "".
func (e *Engine) root() string {
	for _, root := range filepath.SplitList(os.Getenv(Unpacked)) {
		if filepath.Base(root) == e.unpacked.Dir {
			return root
		}
	}
	return ""
}

// Unpack downloads the programs of engines, with nothing installed and no root needed, and keeps them for the next time. It
// adds them to the variable Unpacked, for this process and those that it starts, and tells say what it does.
func Unpack(ctx context.Context, say func(format string, args ...any), engines ...*Engine) error {
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	dir := debs.CacheDir(cache)
	var programs []debs.Program
	for _, e := range engines {
		programs = append(programs, e.unpacked)
	}
	err = debs.Bring(ctx, dir, say, programs...)
	for _, e := range engines { // some may be there beside an error
		root := filepath.Join(dir, e.unpacked.Dir)
		if debs.Whole(root) {
			err = errors.Join(err, e.use(root))
		}
	}
	return err
}

// UnpackProgram is Unpack for a program that is none of an engine. It returns its root, which is in the cache.
func UnpackProgram(ctx context.Context, say func(format string, args ...any), p debs.Program) (root string, err error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := debs.CacheDir(cache)
	return filepath.Join(dir, p.Dir), debs.Bring(ctx, dir, say, p)
}

// use has the programs below root used, if they run.
func (e *Engine) use(root string) error {
	before := os.Getenv(Unpacked)
	roots := append(filepath.SplitList(before), root)
	if err := os.Setenv(Unpacked, strings.Join(roots, string(filepath.ListSeparator))); err != nil {
		return err
	}
	if err := e.check(); err != nil {
		return errors.Join(err, os.Setenv(Unpacked, before))
	}
	return nil
}

// check runs the unpacked server for a moment: a library that it lacks shows then.
func (e *Engine) check() error {
	_, serve := e.programs()
	cmd := exec.Command(serve, "--version")
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+debs.Libraries(e.root()))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s was unpacked, but does not run: %w\n%s", e.Name, err, out)
	}
	return nil
}

// cacheDir is where the account of the servers can read: root's own directory may be closed to it.
func cacheDir() (string, error) {
	if dir := os.Getenv(Cache); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if os.Geteuid() == 0 && (err != nil || !openToAll(dir)) {
		return "/var/cache/dblocker-test", nil
	}
	return filepath.Join(dir, "dblocker-test"), err
}
