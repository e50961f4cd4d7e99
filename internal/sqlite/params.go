package sqlite

import (
	"net/url"
	"slices"
	"strings"
)

// A library is a Go package that brings an SQLite of its own, with the
// driver for it.
type library struct {
	pkg string

	// params is the column of paramTable; 0 if its parameters are not known.
	params column

	// cutsQuery tells that the driver cuts the query off a DSN that does not begin
	// with "file:", so that only its own parameters are read there.
	cutsQuery bool

	// memdb tells that SQLite's VFS of that name is built in.
	memdb bool

	// busyTimeout is the parameter to give to the driver where the DSN has none
	// like it, because the driver has no busy timeout of its own.
	busyTimeout string
}

// libraries do not see each other's file locks. Drivers in other packages
// are taken for wrappers around one of them.
var libraries = []library{
	{pkg: "github.com/mattn/go-sqlite3", params: inMattn, cutsQuery: true, memdb: true},
	{pkg: "modernc.org/sqlite", params: inModernc, cutsQuery: true, memdb: true, busyTimeout: moderncBusyTimeout},
	{pkg: "github.com/glebarez/go-sqlite", cutsQuery: true, memdb: true, busyTimeout: moderncBusyTimeout},
	{pkg: "github.com/ncruces/go-sqlite3/driver"},
}

// moderncBusyTimeout gives what mattn/go-sqlite3 has by default. The driver
// applies it before all other parameters.
const moderncBusyTimeout = "_pragma=busy_timeout(5000)"

// findLibrary returns the library that a driver's package is, or what most
// wrappers wrap.
func findLibrary(pkg string) library {
	for _, l := range libraries {
		if l.pkg == pkg {
			return l
		}
	}
	return library{pkg: pkg, cutsQuery: true, memdb: true}
}

func isLibrary(pkg string) bool {
	return slices.ContainsFunc(libraries, func(l library) bool { return l.pkg == pkg })
}

// walParam is the parameter that puts a database into WAL mode.
func (l library) walParam() string {
	if l.busyTimeout == moderncBusyTimeout {
		return "_pragma=journal_mode(WAL)"
	}
	return "_journal_mode=WAL"
}

// A column says in which libraries a parameter exists.
type column int

const (
	inMattn column = 1 << iota
	inModernc
	inBoth = inMattn | inModernc
)

// A param is one thing that DSNs set.
type param struct {
	names  []string
	pragma string // that it sets, if it is one
	in     column
}

// paramTable are the DSN parameters of mattn/go-sqlite3 v1.14.53 and of
// modernc.org/sqlite v1.61.1. Of two names in a row the second wins.
var paramTable = []param{
	{[]string{"_auto_vacuum", "_vacuum"}, "auto_vacuum", inBoth},
	{[]string{"_busy_timeout", "_timeout"}, "busy_timeout", inBoth},
	{[]string{"_foreign_keys", "_fk"}, "foreign_keys", inBoth},
	{[]string{"_journal_mode", "_journal"}, "journal_mode", inBoth},
	{[]string{"_query_only"}, "query_only", inBoth},
	{[]string{"_synchronous", "_sync"}, "synchronous", inBoth},
	{[]string{"_txlock"}, "", inBoth},

	{[]string{"_cache_size"}, "cache_size", inMattn},
	{[]string{"_case_sensitive_like", "_cslike"}, "case_sensitive_like", inMattn},
	{[]string{"_defer_foreign_keys", "_defer_fk"}, "defer_foreign_keys", inMattn},
	{[]string{"_ignore_check_constraints"}, "ignore_check_constraints", inMattn},
	{[]string{"_locking_mode", "_locking"}, "locking_mode", inMattn},
	{[]string{"_recursive_triggers", "_rt"}, "recursive_triggers", inMattn},
	{[]string{"_secure_delete"}, "secure_delete", inMattn},
	{[]string{"_writable_schema"}, "writable_schema", inMattn},
	{[]string{"_auth"}, "", inMattn},
	{[]string{"_auth_user"}, "", inMattn},
	{[]string{"_auth_pass"}, "", inMattn},
	{[]string{"_auth_crypt"}, "", inMattn},
	{[]string{"_auth_salt"}, "", inMattn},
	{[]string{"_loc"}, "", inMattn},
	{[]string{"_mutex"}, "", inMattn},
	{[]string{"_stmt_cache_size"}, "", inMattn},

	{[]string{"_pragma"}, "", inModernc}, // any number of them
	{[]string{"_defensive"}, "", inModernc},
	{[]string{"_dqs"}, "", inModernc},
	{[]string{"_error_rc"}, "", inModernc},
	{[]string{"_inttotime"}, "", inModernc},
	{[]string{"_texttotime"}, "", inModernc},
	{[]string{"_time_format"}, "", inModernc},
	{[]string{"_time_integer_format"}, "", inModernc},
	{[]string{"_timezone"}, "", inModernc},
}

// ownParams are SQLite's own: https://www.sqlite.org/uri.html. The drivers
// read vfs too, with or without "file:".
var ownParams = []string{"mode", "cache", "immutable", "nolock", "psow", "modeof"}

// pragmaValue returns the value that params give to a PRAGMA, or "".
func (l library) pragmaValue(params url.Values, pragma string) string {
	value := ""
	for _, p := range paramTable {
		if p.pragma != pragma {
			continue
		}
		for _, name := range p.names {
			if params.Has(name) {
				value = params.Get(name)
			}
		}
	}
	if l.params == inMattn || value != "" {
		return value
	}
	for _, text := range params["_pragma"] {
		if name, v := splitPragma(text); name == pragma && v != "" {
			value = v
		}
	}
	return value
}

// splitPragma reads what follows the word PRAGMA: name, name(value), name = value.
func splitPragma(text string) (name, value string) {
	name, value = text, ""
	if i := strings.IndexAny(text, "(="); i >= 0 {
		name, value = text[:i], text[i+1:]
		value, _, _ = strings.Cut(value, ")")
	}
	name = strings.ToLower(strings.TrimSpace(name))
	return name[strings.LastIndexByte(name, '.')+1:], strings.Trim(value, "'\" ;") // without the schema's name
}

// An ignoredParam is a parameter that does nothing, and what may have been meant.
type ignoredParam struct{ name, write string }

// ignored returns the parameters that neither SQLite nor the library will read,
// although their names look as if somebody should.
func (l library) ignored(params url.Values) []ignoredParam {
	if l.params == 0 || len(params) == 0 {
		return nil
	}
	known := l.paramNames()
	var found []ignoredParam
	for name := range params {
		_, underscore := strings.CutPrefix(name, "_")
		if slices.Contains(known, name) || !underscore && !slices.Contains(known, "_"+name) {
			continue // those without an underscore may be of a VFS
		}
		found = append(found, ignoredParam{name, l.suggest(name, params[name], known)})
	}
	slices.SortFunc(found, func(a, b ignoredParam) int { return strings.Compare(a.name, b.name) })
	return found
}

func (l library) paramNames() []string { return paramNames[l.params] }

var paramNames = map[column][]string{inMattn: inMattn.names(), inModernc: inModernc.names()}

func (c column) names() (names []string) {
	for _, p := range paramTable {
		if p.in&c != 0 {
			names = append(names, p.names...)
		}
	}
	return names
}

// suggest returns what to write in place of an unknown parameter: the same thing
// in the words of this library, or else the known name that looks most like it.
func (l library) suggest(name string, values, known []string) string {
	for _, p := range paramTable {
		switch {
		case p.pragma == "":
		case name == "_pragma" && p.in&l.params != 0 && slices.ContainsFunc(values, func(v string) bool { n, _ := splitPragma(v); return n == p.pragma }):
			return p.names[0]
		case l.params == inModernc && slices.Contains(p.names, name):
			return "_pragma=" + p.pragma + "(...)"
		}
	}
	return nearest("_"+strings.Trim(strings.ToLower(name), "_"), known)
}

// nearest returns the name with the least edits between it and got.
func nearest(got string, names []string) string {
	return slices.MinFunc(names, func(a, b string) int { return editDistance(got, a) - editDistance(got, b) })
}

// editDistance is Levenshtein's: how many bytes to insert, delete or replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
