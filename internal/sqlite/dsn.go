// Package sqlite has what is special to SQLite and its drivers.
package sqlite

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/drivers"
)

// A dsn is what the data source name of a SQLite handle says, read as
// SQLite and its drivers read it (https://www.sqlite.org/uri.html). But where a
// driver drops SQLite's own parameters because the DSN does not begin with
// "file:", they count here.
type dsn struct {
	raw     string
	library library
	uri     bool   // whether raw begins with "file:"
	name    string // raw in front of the query
	path    string // name, decoded; "" is a temporary database
	query   string // as it is written

	params   url.Values // as the driver reads them
	own      []uriParam // as SQLite does, which finds its own there
	fragment string     // of a URI, from "#" on, if that is in front of the query: SQLite ends the URI there

	// unreadable tells that the query cannot be read. The driver will say so.
	unreadable bool

	// What parseOnce finds out for all handles.
	given string // forDriver, if that is the same each time; else ""
	notes []note
}

// parseOnce is parse for the DSN of a handle. It remembers what it has parsed, since a
// program may open a handle for each request.
func parseOnce(raw, pkg string) *dsn {
	if d, ok := parsed.Load(raw); ok && d.(*dsn).library.pkg == pkg {
		return d.(*dsn)
	}
	d := parse(raw, findLibrary(pkg))
	d.notes = d.findNotes()
	if d.kind() == kindFile && filepath.IsAbs(d.path) {
		d.given = d.forDriver()
	}
	if parsed.count.Add(1) <= maxParsed {
		parsed.Store(raw, &d)
	}
	return &d
}

// parsed has the first DSNs of handles. Nobody changes them.
var parsed struct {
	sync.Map // of *dsn by what was parsed
	count    atomic.Int64
}

const maxParsed = 100

func parse(raw string, library library) dsn {
	d := dsn{raw: raw, library: library, uri: strings.HasPrefix(raw, "file:"), name: raw}
	if pos := strings.IndexByte(raw, '?'); pos >= 1 && (d.uri || library.cutsQuery) {
		d.name, d.query = raw[:pos], raw[pos+1:]
	}
	d.path = d.name
	if d.uri {
		d.path = uriPath(strings.TrimPrefix(d.name, "file:"))
		if pos := strings.IndexByte(d.name, '#'); pos >= 0 {
			d.fragment = d.name[pos:]
		}
	}
	if d.fragment == "" {
		d.own = uriQuery(d.query)
	}
	params, err := url.ParseQuery(d.query)
	d.params, d.unreadable = params, err != nil
	return d
}

// A kind says where a SQLite database is.
type kind int

const (
	kindFile        kind = iota
	kindTemporary        // a file without a name, of one connection
	kindMemory           // in memory, of the handle (of one connection, to SQLite)
	kindNamedMemory      // in memory, of all connections in the process that name it
)

func (d *dsn) kind() kind {
	memory, memdb := d.isMemory(), d.vfs() == "memdb"
	switch {
	case memory && d.last("cache") == "shared", memdb && !memory && strings.HasPrefix(d.path, "/"):
		return kindNamedMemory
	case memory, memdb:
		return kindMemory
	case d.path == "":
		return kindTemporary
	}
	return kindFile
}

// isMemory tells that SQLite makes no file, and asks no VFS for one.
func (d *dsn) isMemory() bool {
	return d.path == ":memory:" || d.last("mode") == "memory" && !d.isFileDespiteMode()
}

// isFileDespiteMode tells of a DSN like "app.db?mode=memory", where the driver
// drops the mode and opens a file. Data that a program has on disk is too much to
// lose to a correction, so there this stays.
func (d *dsn) isFileDespiteMode() bool {
	return !d.uri && d.path != ":memory:" && d.last("mode") == "memory"
}

// namesDriver returns the name in front of a DSN like "sqlite3:app.db", which is for
// the driver "dblocker" and has come to another.
func (d *dsn) namesDriver() (name string, ok bool) {
	head, _, found := strings.Cut(d.raw, ":")
	name, _, _ = strings.Cut(head, "?")
	return name, found && drivers.Named[name] != ""
}

// last returns the value of a parameter of SQLite's that it reads when it opens the
// database, of which the last one wins; first of one that is looked up later.
func (d *dsn) last(name string) (value string) {
	for _, p := range d.own {
		if p.name == name {
			value = p.value
		}
	}
	return value
}

func (d *dsn) first(name string) string {
	for _, p := range d.own {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// has tells whether SQLite finds a parameter.
func (d *dsn) has(name string) bool {
	return slices.ContainsFunc(d.own, func(p uriParam) bool { return p.name == name })
}

// vfs returns the name of the VFS, which the driver passes on as well; what SQLite finds
// comes before that.
func (d *dsn) vfs() string {
	if d.uri && d.has("vfs") {
		return d.last("vfs")
	}
	return d.params.Get("vfs")
}

// isSharedFile tells that the connections to a file would share a page cache. There SQLite
// locks tables, so that readers and the writer exclude each other in WAL mode as well, and
// with SQLITE_LOCKED, for which no busy timeout waits. It saves nothing behind a gate.
func (d *dsn) isSharedFile() bool {
	return d.kind() == kindFile && d.last("cache") == "shared"
}

// isReadOnly tells that nothing can be written to the database through the handle.
func (d *dsn) isReadOnly() bool {
	return d.last("mode") == "ro" || d.isImmutable() || isTrue(d.library.pragmaValue(d.params, "query_only"))
}

// isImmutable tells that SQLite takes no file locks at all, since the DSN promises
// that nobody writes. Where there is no file it means nothing.
func (d *dsn) isImmutable() bool {
	return isTrue(d.first("immutable")) && !d.isMemory() && d.kind() != kindTemporary
}

// promoted returns the parameters that count here and that the driver would drop, since the
// DSN does not begin with "file:".
func (d *dsn) promoted() (names []string) {
	if d.uri || !d.library.cutsQuery {
		return nil
	}
	for _, name := range ownParams {
		switch {
		case !d.has(name), name == "mode" && d.isFileDespiteMode(), name == "cache" && d.kind() == kindFile:
		default:
			names = append(names, name)
		}
	}
	return names
}

// sets tells whether the DSN itself gives a value to a PRAGMA.
func (d *dsn) sets(pragma string) bool { return d.library.pragmaValue(d.params, pragma) != "" }

// osVFS are the ones of SQLite for which a name is a path of the file system.
var osVFS = []string{"", "unix", "unix-dotfile", "unix-excl", "unix-namedsem", "unix-none", "win32", "win32-longpath", "win32-none"}

// memoryNames counts the memory databases that were given a name.
var memoryNames atomic.Int64

// explainOpen tells why a database cannot be opened that the driver, which drops the mode,
// would make.
func (d *dsn) explainOpen(err error) error {
	mode := d.last("mode")
	if err == nil || Code(err) != CodeCantOpen || mode != "ro" && mode != "rw" || !slices.Contains(d.promoted(), "mode") {
		return err
	}
	return fmt.Errorf(`%w (with mode=%s the file must exist; the driver would drop the parameter, since the DSN does not begin with "file:", but here it counts)`, err, mode)
}

// forDriver returns the DSN to open connections with. It is the program's own,
// unless it needs one of these changes:
//   - to the form with "file:", so that the driver passes SQLite's parameters on;
//   - a name for a memory database, so that connections can share it;
//   - without cache=shared, for a file;
//   - an absolute path, so that connections which are opened after the program has
//     changed its working directory get the same file;
//   - the busy timeout, where the driver has none.
func (d *dsn) forDriver() string {
	name, query := d.name, d.query
	switch kind := d.kind(); {
	case d.unreadable, kind == kindTemporary:
		return d.raw
	case kind == kindMemory && d.library.memdb:
		name = fmt.Sprintf("file:/dblocker-%d", memoryNames.Add(1))
		query = joinQuery("vfs=memdb", withoutParams(query, "mode", "cache", "vfs", "immutable"))
	case kind == kindNamedMemory && !d.uri:
		name = uriOf(d.path)
	case kind == kindFile:
		name = d.fileName()
		if d.isFileDespiteMode() {
			query = withoutParams(query, "mode")
		}
		if d.isSharedFile() {
			query = withoutParams(query, "cache")
		}
	}
	if !d.uri && strings.HasPrefix(name, "file:") && len(d.params["vfs"]) > 1 { // of which the driver takes the first, and SQLite the last
		query = withoutParams(query, "vfs")
		if vfs := d.vfs(); vfs != "" {
			query = joinQuery("vfs="+strings.ReplaceAll(url.QueryEscape(vfs), "+", "%20"), query)
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
func (d *dsn) fileName() string {
	path := d.path
	if slices.Contains(osVFS, d.vfs()) {
		if abs, err := filepath.Abs(path); err == nil && !filepath.IsAbs(path) {
			path = abs
		}
	}
	needsURI := d.uri || len(d.promoted()) > 0
	switch {
	case path == d.path && needsURI == d.uri:
		return d.name
	case needsURI || strings.Contains(path, "?"):
		return uriOf(path) + d.fragment
	}
	return path
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
		return slices.Contains(names, unescape(name))
	})
	return strings.Join(pairs, "&")
}

// FilePattern returns the absolute path of the file that a DSN is of, if that contains the mark; else "".
func FilePattern(raw, mark string) string {
	d := parse(raw, findLibrary(""))
	if d.kind() != kindFile || !strings.Contains(d.path, mark) {
		return ""
	}
	path, _ := filepath.Abs(d.path)
	return path
}

// Absolute returns the DSN of a file with its path from the root, so that it stays the same where the program changes its working directory.
func Absolute(raw string) string {
	d := parse(raw, findLibrary(""))
	if d.kind() != kindFile || filepath.IsAbs(d.path) || !slices.Contains(osVFS, d.vfs()) {
		return raw
	}
	path, err := filepath.Abs(d.path)
	if err != nil {
		return raw
	}
	if d.uri {
		path = uriOf(path)
	}
	return path + strings.TrimPrefix(raw, d.name)
}
