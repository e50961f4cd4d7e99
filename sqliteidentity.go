package dblocker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

const sqliteName = "sqlite"

// memoryPrefix marks the identity of a database that is in memory.
const memoryPrefix = "memory:"

// sqliteDatabase returns the absolute path of the file that a DSN opens. Memory
// databases that connections share by name are memoryPrefix and that name; others
// have no identity, "".
func sqliteDatabase(dsn string) string {
	d := parseSQLiteDSN(dsn, findSQLiteLibrary(""))
	switch d.kind() {
	case sqliteNamedMemory:
		return memoryPrefix + d.path
	case sqliteMemory, sqliteTemporary:
		return ""
	}
	abs, err := filepath.Abs(d.path)
	if err != nil {
		return ""
	}
	return resolvePath(abs)
}

// inSQLiteMemory tells whether the identity is of a database in memory.
func inSQLiteMemory(id string) bool { return strings.HasPrefix(id, memoryPrefix) }

// attachedSQLite returns the resolved path of the file that an ATTACH of that name attaches;
// "" if it is none.
func attachedSQLite(name string) string {
	d := parseSQLiteDSN(name, sqliteLibrary{})
	if name == "" || d.kind() != sqliteFile {
		return ""
	}
	abs, err := filepath.Abs(d.path)
	if err != nil {
		return ""
	}
	return resolvePath(abs)
}

// resolvePath resolves symbolic links in as much of path as exists. SQLite makes
// a file that is not there where the links lead to.
func resolvePath(path string) string {
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

// statSQLite looks at the file of a database with the given identity; it returns
// nil if there is none.
func statSQLite(id string) os.FileInfo {
	path, ok := strings.CutPrefix(id, sqliteName+":")
	if !ok || strings.HasPrefix(path, memoryPrefix) {
		return nil
	}
	return statFile(path)
}

// statFile never opens the file, since closing any descriptor of a file drops SQLite's
// locks on it: https://www.sqlite.org/howtocorrupt.html
func statFile(path string) os.FileInfo {
	sqliteLooks.Add(1)
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return info
}

// sqliteLooks counts how often a file was looked at.
var sqliteLooks atomic.Int64

// mixedSQLite returns an error if a file that is open through one SQLite library is to be
// opened by another, which does not see the locks of the first.
func mixedSQLite(id, open, library string) error {
	if open == library || !isSQLiteLibrary(open) || !isSQLiteLibrary(library) {
		return nil
	}
	return fmt.Errorf("dblocker: the SQLite file %q is already open in this process through %s; "+
		"a second SQLite library, %s, would break SQLite's file locks (https://www.sqlite.org/howtocorrupt.html): use one driver for both handles",
		strings.TrimPrefix(id, sqliteName+":"), open, library)
}
