package dblocker

import (
	"database/sql/driver"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

const sqliteName = "sqlite"

var sqlite = &dialect{
	name:     sqliteName,
	text:     sqltext.SQLite,
	marks:    []string{"sqlite"},
	bindType: sqlx.QUESTION,
	// A connection is a few file descriptors: there is no server to protect, and
	// a program that works with many on the bare driver must go on to work.
	limits:   poolLimits{maxIdleConns: defaultIdleConns},
	database: sqliteDatabase,

	stmtCache: defaultStmtCache,
	keepFrom: func(ci driver.Conn) int {
		switch driverPackage(ci) {
		case "github.com/mattn/go-sqlite3", "modernc.org/sqlite":
			return 0
		}
		return neverKeep
	},
	// A pragma may change how texts are understood.
	forgets: func(st sqltext.Statement, _ string) bool { return st.Verb == "PRAGMA" },
	// https://www.sqlite.org/c3ref/close.html
	stmtsOutliveConns: true,
}

// sqliteLibraries are the packages that bring an SQLite of their own. Drivers in
// other packages are taken for wrappers around one of them.
var sqliteLibraries = []string{
	"github.com/mattn/go-sqlite3",
	"modernc.org/sqlite",
	"github.com/ncruces/go-sqlite3/driver",
	"github.com/glebarez/go-sqlite",
}

// memoryPrefix marks the identity of a database that is in memory.
const memoryPrefix = "memory:"

// sqliteDatabase returns the absolute path of the file that a DSN opens. Memory
// databases that connections share by name are memoryPrefix and that name; others
// have no identity, "".
func sqliteDatabase(dsn string) string {
	path, query, _ := strings.Cut(dsn, "?")
	params := url.Values{}
	uri, isURI := strings.CutPrefix(path, "file:")
	if isURI {
		params, _ = url.ParseQuery(query)
		path = sqliteURIPath(uri)
	}
	switch memory := path == ":memory:" || params.Get("mode") == "memory"; {
	case memory && params.Get("cache") == "shared", params.Get("vfs") == "memdb" && strings.HasPrefix(path, "/"):
		return memoryPrefix + path
	case memory, path == "", params.Get("vfs") == "memdb":
		return ""
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	return resolvePath(abs)
}

// sqliteURIPath cuts an authority off the part between "file:" and "?" and
// decodes it: https://www.sqlite.org/uri.html
func sqliteURIPath(uri string) string {
	uri, _, _ = strings.Cut(uri, "#")
	if rest, ok := strings.CutPrefix(uri, "//"); ok {
		_, path, _ := strings.Cut(rest, "/")
		uri = "/" + path
	}
	if path, err := url.PathUnescape(uri); err == nil {
		return path
	}
	return uri
}

// resolvePath resolves symbolic links in as much of path as exists.
func resolvePath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	dir, base := filepath.Split(path)
	if real, err := filepath.EvalSymlinks(filepath.Clean(dir)); err == nil {
		return filepath.Join(real, base)
	}
	return path
}

// statSQLite looks at the file of a database with the given identity; it returns
// nil if there is none. It never opens the file, since closing any descriptor of
// a file drops SQLite's locks on it: https://www.sqlite.org/howtocorrupt.html
func statSQLite(id string) os.FileInfo {
	path, ok := strings.CutPrefix(id, sqliteName+":")
	if !ok || strings.HasPrefix(path, memoryPrefix) {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return info
}

// mixedSQLite returns an error if two spaces are of one file and of two SQLite
// libraries, which do not see each other's locks.
func mixedSQLite(open, next *space) error {
	if open.library == next.library || !slices.Contains(sqliteLibraries, open.library) || !slices.Contains(sqliteLibraries, next.library) {
		return nil
	}
	return fmt.Errorf("dblocker: the SQLite file %q is already open in this process through %s; "+
		"a second SQLite library, %s, would break SQLite's file locks (https://www.sqlite.org/howtocorrupt.html): use one driver for both handles",
		strings.TrimPrefix(next.id, sqliteName+":"), open.library, next.library)
}
