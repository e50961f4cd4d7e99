package dblocker

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// A sqliteDSN is what the data source name of a SQLite handle says, read as
// SQLite and its drivers read it (https://www.sqlite.org/uri.html). But where a
// driver drops SQLite's own parameters because the DSN does not begin with
// "file:", they count here.
type sqliteDSN struct {
	raw     string
	library sqliteLibrary
	uri     bool   // whether raw begins with "file:"
	name    string // raw in front of the query
	path    string // name, decoded; "" is a temporary database
	query   string // as it is written
	params  url.Values

	// unreadable tells that the query cannot be read. The driver will say so.
	unreadable bool
}

func parseSQLiteDSN(raw string, library sqliteLibrary) sqliteDSN {
	d := sqliteDSN{raw: raw, library: library, uri: strings.HasPrefix(raw, "file:"), name: raw}
	if pos := strings.IndexByte(raw, '?'); pos >= 1 && (d.uri || library.cutsQuery) {
		d.name, d.query = raw[:pos], raw[pos+1:]
	}
	d.path = d.name
	if d.uri {
		d.path = sqliteURIPath(strings.TrimPrefix(d.name, "file:"))
	}
	query, _, _ := strings.Cut(d.query, "#")
	params, err := url.ParseQuery(query)
	d.params, d.unreadable = params, err != nil
	return d
}

// sqliteURIPath cuts the authority and the fragment off the part between "file:"
// and "?", and decodes it.
func sqliteURIPath(uri string) string {
	uri, _, _ = strings.Cut(uri, "#")
	if rest, ok := strings.CutPrefix(uri, "//"); ok {
		_, path, _ := strings.Cut(rest, "/")
		uri = "/" + path
	}
	var b strings.Builder
	for i := 0; i < len(uri); i++ {
		if uri[i] == '%' && i+2 < len(uri) {
			if c, err := strconv.ParseUint(uri[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(uri[i])
	}
	return b.String()
}

// A sqliteKind says where a SQLite database is.
type sqliteKind int

const (
	sqliteFile        sqliteKind = iota
	sqliteTemporary              // a file without a name, of one connection
	sqliteMemory                 // in memory, of the handle (of one connection, to SQLite)
	sqliteNamedMemory            // in memory, of all connections in the process that name it
)

func (d *sqliteDSN) kind() sqliteKind {
	memory := d.path == ":memory:" || d.last("mode") == "memory" && !d.isFileDespiteMode()
	memdb := d.last("vfs") == "memdb"
	switch {
	case memdb && strings.HasPrefix(d.path, "/"), memory && d.sharedCache():
		return sqliteNamedMemory
	case memdb, memory:
		return sqliteMemory
	case d.path == "":
		return sqliteTemporary
	}
	return sqliteFile
}

// isFileDespiteMode tells of a DSN like "app.db?mode=memory", where the driver
// drops the mode and opens a file. Data that a program has on disk is too much to
// lose to a correction, so there this stays.
func (d *sqliteDSN) isFileDespiteMode() bool {
	return !d.uri && d.path != ":memory:" && d.last("mode") == "memory"
}

// namesDriver returns the name in front of a DSN like "sqlite3:app.db", which is for
// the driver "dblocker" and has come to another.
func (d *sqliteDSN) namesDriver() (name string, ok bool) {
	head, _, found := strings.Cut(d.raw, ":")
	name, _, _ = strings.Cut(head, "?")
	return name, found && wrappedNames[name] != ""
}

// last returns the value of a parameter as SQLite finds it: the last one wins.
func (d *sqliteDSN) last(name string) string {
	if values := d.params[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

// sharedCache tells that connections share a page cache, in which SQLite locks
// tables: readers and the writer then exclude each other, in WAL mode as well.
func (d *sqliteDSN) sharedCache() bool { return d.last("cache") == "shared" }

// isReadOnly tells that nothing can be written to the database through the handle.
func (d *sqliteDSN) isReadOnly() bool {
	return d.last("mode") == "ro" || d.isImmutable() || sqliteTrue(d.library.pragmaValue(d.params, "query_only"))
}

// isImmutable tells that SQLite takes no file locks at all, since the DSN promises
// that nobody writes.
func (d *sqliteDSN) isImmutable() bool { return sqliteTrue(d.params.Get("immutable")) }

// sqliteTrue reads a boolean as SQLite does.
func sqliteTrue(value string) bool {
	switch strings.ToLower(value) {
	case "yes", "true", "on":
		return true
	}
	n, err := strconv.Atoi(value)
	return err == nil && n != 0
}

// sets tells whether the DSN itself gives a value to a PRAGMA.
func (d *sqliteDSN) sets(pragma string) bool { return d.library.pragmaValue(d.params, pragma) != "" }

// osVFS are the ones of SQLite for which a name is a path of the file system.
var osVFS = []string{"", "unix", "unix-dotfile", "unix-excl", "unix-namedsem", "unix-none", "win32", "win32-longpath", "win32-none"}

// memoryNames counts the memory databases that were given a name.
var memoryNames atomic.Int64

// forDriver returns the DSN to open connections with. It is the program's own,
// unless it needs one of these changes:
//   - to the form with "file:", so that the driver passes SQLite's parameters on;
//   - a name for a memory database, so that connections can share it;
//   - an absolute path, so that connections which are opened after the program has
//     changed its working directory get the same file;
//   - the busy timeout, where the driver has none.
func (d *sqliteDSN) forDriver() string {
	name, query := d.name, d.query
	switch kind := d.kind(); {
	case d.unreadable, kind == sqliteTemporary:
		return d.raw
	case kind == sqliteMemory && d.library.memdb:
		name = fmt.Sprintf("file:/dblocker-%d", memoryNames.Add(1))
		query = joinQuery("vfs=memdb", withoutParams(query, "mode", "cache", "vfs"))
	case kind == sqliteNamedMemory && !d.uri:
		name = sqliteURI(d.path)
	case kind == sqliteFile:
		name = d.fileName()
		if d.isFileDespiteMode() {
			query = withoutParams(query, "mode")
		}
	}
	if !d.sets("busy_timeout") {
		query = joinQuery(d.library.busyTimeout, query)
	}
	if query == "" {
		return name
	}
	return name + "?" + query
}

// fileName returns the part of the DSN in front of the query, for a file.
func (d *sqliteDSN) fileName() string {
	path := d.path
	if slices.Contains(osVFS, d.last("vfs")) {
		if abs, err := filepath.Abs(path); err == nil && !filepath.IsAbs(path) {
			path = abs
		}
	}
	needsURI := d.uri || d.library.cutsQuery && slices.ContainsFunc(sqliteURIParams, d.params.Has)
	switch {
	case path == d.path && needsURI == d.uri:
		return d.name
	case needsURI || strings.Contains(path, "?"):
		return sqliteURI(path)
	}
	return path
}

// sqliteURI writes a path in the form that SQLite decodes.
func sqliteURI(path string) string {
	escaped := strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
	if strings.HasPrefix(escaped, "//") { // not an authority
		return "file://" + escaped
	}
	return "file:" + escaped
}

// joinQuery puts param in front, where no fragment can swallow it.
func joinQuery(param, query string) string {
	if param == "" || query == "" {
		return param + query
	}
	return param + "&" + query
}

// withoutParams returns the query without some of its parameters.
func withoutParams(query string, names ...string) string {
	pairs := slices.DeleteFunc(strings.Split(query, "&"), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(name)
		return err == nil && slices.Contains(names, plain)
	})
	return strings.Join(pairs, "&")
}
