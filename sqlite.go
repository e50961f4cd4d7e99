package dblocker

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

var sqlite = &dialect{
	name:     "sqlite",
	text:     sqltext.SQLite,
	marks:    []string{"sqlite"},
	bindType: sqlx.QUESTION,
	// A connection is a few file descriptors: there is no server to protect, and
	// a program that works with many on the bare driver must go on to work.
	limits:   poolLimits{maxIdleConns: defaultIdleConns},
	database: sqliteDatabase,
}

// sqliteDatabase returns the absolute path of the file that a DSN opens. Memory
// databases that connections share by name are "memory:" and that name; others
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
		return "memory:" + path
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

// sameSQLiteFile tells whether two identities given by sqliteDatabase are one
// database: files are by any path, hard links included. It never opens them,
// since closing any descriptor of a file drops SQLite's locks on it:
// https://www.sqlite.org/howtocorrupt.html
func sameSQLiteFile(a, b string) bool {
	if a == b {
		return true
	}
	fa, err := os.Stat(a)
	if err != nil {
		return false
	}
	fb, err := os.Stat(b)
	return err == nil && os.SameFile(fa, fb)
}
