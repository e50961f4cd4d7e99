// Package debs brings programs of Debian's packages, such as database servers, into a cache of its own. It takes no root and
// installs nothing: apt-get downloads the packages into a directory, with its own checks of signatures and sums, and dpkg-deb
// unpacks them there, with the shared libraries that they need.
package debs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// A Program is what is wanted: a directory in the cache that becomes the root of a file system with some packages.
type Program struct {
	Dir     string         // its name in the cache, as in "postgresql"
	Package string         // what apt-get would be told to install
	Wanted  *regexp.Regexp // the packages that are unpacked, of those which Package depends on; shared libraries are always
}

// ErrNoApt is the error of Bring on a machine that does not have Debian's tools.
var ErrNoApt = errors.New("apt-get and dpkg-deb are not here: only Debian, Ubuntu and their kin have them")

// CacheDir is the directory of this machine's programs below a cache: those of another release or processor have another.
func CacheDir(cache string) string {
	return filepath.Join(cache, release()+"-"+runtime.GOARCH)
}

// release is the system's name and version, as in "debian-12".
func release() string {
	content, _ := os.ReadFile("/etc/os-release")
	field := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + `="?([\w.-]+)`).FindSubmatch(content)
		if m == nil {
			return "unknown"
		}
		return string(m[1])
	}
	return field("ID") + "-" + field("VERSION_ID")
}

// Bring makes sure that dir has the programs, whole. It downloads those that are missing or broken, and tells say what it
// does. Several processes may call it at once: one works, the others wait for it. What is interrupted leaves nothing that
// another call would take for a program.
func Bring(ctx context.Context, dir string, say func(format string, args ...any), programs ...Program) error {
	if len(missing(dir, programs)) == 0 {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	unlock, err := lock(ctx, filepath.Join(dir, "lock"), func() { say("waiting for another run, which fills %s", dir) })
	if err != nil {
		return err
	}
	defer unlock()
	removeUnfinished(dir)
	programs = missing(dir, programs) // another may have brought them
	if len(programs) == 0 {
		return nil
	}
	return bring(ctx, dir, say, programs)
}

func missing(dir string, programs []Program) (left []Program) {
	for _, p := range programs {
		if !Whole(filepath.Join(dir, p.Dir)) {
			left = append(left, p)
		}
	}
	return left
}

const unfinished = "unfinished-"

// removeUnfinished removes what an interrupted run has left. The lock is held, so nobody works on it.
func removeUnfinished(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, unfinished+"*"))
	for _, path := range left {
		os.RemoveAll(path)
	}
}

func bring(ctx context.Context, dir string, say func(string, ...any), programs []Program) error {
	for _, tool := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return ErrNoApt
		}
	}
	work, err := os.MkdirTemp(dir, unfinished)
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	a, err := newApt(work)
	if err != nil {
		return err
	}
	say("reading the lists of packages")
	if err := a.update(ctx); err != nil {
		return err
	}
	for _, p := range programs {
		if err := bringOne(ctx, a, dir, work, say, p); err != nil {
			return fmt.Errorf("package %s: %w", p.Package, err)
		}
	}
	return nil
}

// bringOne puts a program in its place with one rename, so that it is there whole or not at all.
func bringOne(ctx context.Context, a *apt, dir, work string, say func(string, ...any), p Program) error {
	start := time.Now()
	packages, err := a.closure(ctx, p.Package)
	if err != nil {
		return err
	}
	names, size := choose(packages, p.Wanted)
	if len(names) == 0 {
		return errors.New("none of the packages that it depends on is wanted")
	}
	say("downloading %d packages of %s, %d MB", len(names), p.Package, (size+500_000)/1_000_000)
	root := filepath.Join(work, p.Dir)
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	files, err := a.download(ctx, filepath.Join(work, p.Dir+"-debs"), names)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := run(ctx, "", nil, "dpkg-deb", "-x", file, root); err != nil {
			return err
		}
	}
	if err := os.Chmod(root, 0o755); err != nil { // dpkg-deb gives it the mode that the package has for /
		return err
	}
	if err := writeManifest(root); err != nil {
		return err
	}
	place := filepath.Join(dir, p.Dir)
	if err := os.RemoveAll(place); err != nil { // a broken one
		return err
	}
	if err := os.Rename(root, place); err != nil {
		return err
	}
	say("%s is in %s after %.0f s", p.Package, place, time.Since(start).Seconds())
	return nil
}

// Libraries are the directories of shared libraries below the root of a program, as LD_LIBRARY_PATH takes them.
func Libraries(root string) string {
	var dirs []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu*", "lib/*-linux-gnu*", "usr/lib", "lib"} {
		found, _ := filepath.Glob(filepath.Join(root, pattern))
		dirs = append(dirs, found...)
	}
	return strings.Join(dirs, ":")
}
