package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// Name is the engine's, as the option dialect writes it, and as identities begin.
const Name = "sqlite"

// memoryPrefix marks the identity of a database that is in memory.
const memoryPrefix = "memory:"

// database returns the absolute path of the file that a DSN opens. Memory
// databases that connections share by name are memoryPrefix and that name; others
// have no identity, "".
func database(dsn string) string {
	d := parse(dsn, findLibrary(""))
	switch d.kind() {
	case kindNamedMemory:
		return memoryPrefix + d.path
	case kindMemory, kindTemporary:
		return ""
	}
	abs, err := filepath.Abs(d.path)
	if err != nil {
		return ""
	}
	return ResolvePath(abs)
}

// InMemory tells whether the identity is of a database in memory.
func InMemory(id string) bool { return strings.HasPrefix(id, memoryPrefix) }

// ResolvePath resolves symbolic links in as much of path as exists. SQLite makes
// a file that is not there where the links lead to.
func ResolvePath(path string) string {
	const maxLinks = 40 // as Linux
	for range maxLinks {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return real
		}
		dir, base := filepath.Split(path)
		if real, err := filepath.EvalSymlinks(filepath.Clean(dir)); err == nil {
			path = filepath.Join(real, base)
		}
		link, err := os.Readlink(path)
		if err != nil {
			return path
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(path), link)
		}
		path = link
	}
	return path
}

// Stat looks at the file of a database with the given identity; it returns
// nil if there is none.
func Stat(id string) os.FileInfo {
	path, ok := strings.CutPrefix(id, Name+":")
	if !ok || strings.HasPrefix(path, memoryPrefix) {
		return nil
	}
	return StatFile(path)
}

// StatFile never opens the file, since closing any descriptor of a file drops SQLite's
// locks on it: https://www.sqlite.org/howtocorrupt.html
func StatFile(path string) os.FileInfo {
	Looks.Add(1)
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return info
}

// Looks counts how often a file was looked at.
var Looks atomic.Int64

// Mixed returns an error if a file that is open through one SQLite library is to be
// opened by another, which does not see the locks of the first.
func Mixed(name, open, library string) error {
	if open == library || !isLibrary(open) || !isLibrary(library) {
		return nil
	}
	return fmt.Errorf("dblocker: the SQLite file %q is already open in this process through %s; "+
		"a second SQLite library, %s, would break SQLite's file locks (https://www.sqlite.org/howtocorrupt.html): use one driver for both handles",
		strings.TrimPrefix(name, Name+":"), open, library)
}
