package sqlite

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	mattnPkg   = "github.com/mattn/go-sqlite3"
	moderncPkg = "modernc.org/sqlite"
	ncrucesPkg = "github.com/ncruces/go-sqlite3/driver"
)

// TestSQLiteDSN: what the driver is given. CWD stands for the working directory.
func TestSQLiteDSN(t *testing.T) {
	cwd, err := os.Getwd()
	must(t, err)
	for _, tc := range []struct{ pkg, dsn, want string }{
		// What says it all is passed on as it is.
		{mattnPkg, "/a.db", "/a.db"},
		{mattnPkg, "/a b%20#.db?_fk=1", "/a b%20#.db?_fk=1"},
		{mattnPkg, "file:/a%20b.db?mode=ro&_fk=1", "file:/a%20b.db?mode=ro&_fk=1"},
		{mattnPkg, "file:///a.db?x=%zz", "file:///a.db?x=%zz"},
		{mattnPkg, "", ""},
		{moderncPkg, "", ""},
		{mattnPkg, "file:a?mode=memory&cache=shared", "file:a?mode=memory&cache=shared"},
		{mattnPkg, "file::memory:?cache=shared", "file::memory:?cache=shared"},
		{mattnPkg, "file:/a?vfs=memdb", "file:/a?vfs=memdb"},
		{mattnPkg, "file:a?vfs=mine", "file:a?vfs=mine"},
		{ncrucesPkg, ":memory:", ":memory:"},

		// Relative paths.
		{mattnPkg, "a.db", "CWD/a.db"},
		{mattnPkg, "./a.db?_fk=1", "CWD/a.db?_fk=1"},
		{mattnPkg, "file:a%3f.db", "file:CWD/a%3f.db"},
		{mattnPkg, "?.db", "file:CWD/%3f.db"},
		{ncrucesPkg, "a.db?mode=ro", "file:CWD/a.db%3fmode=ro"},

		// SQLite's parameters on a plain path.
		{mattnPkg, "a.db?mode=ro&_fk=1", "file:CWD/a.db?mode=ro&_fk=1"},
		{mattnPkg, "/a b%20#.db?immutable=1", "file:/a b%2520%23.db?immutable=1"},
		{mattnPkg, "//a.db?mode=rw", "file:////a.db?mode=rw"},
		{moderncPkg, "/a.db?psow=1", "file:/a.db?_pragma=busy_timeout(5000)&psow=1"},
		{mattnPkg, "/a.db?mode=memory&immutable=1", "file:/a.db?immutable=1"},

		// No file has a shared cache.
		{moderncPkg, "/a.db?cache=shared", "/a.db?_pragma=busy_timeout(5000)"},
		{mattnPkg, "/a.db?mode=memory&cache=shared", "/a.db"},
		{mattnPkg, "/a.db?_fk=1&cache=shared&mode=ro", "file:/a.db?_fk=1&mode=ro"},
		{mattnPkg, "file:/a.db?cache=private&c%61che=shared", "file:/a.db"},
		{mattnPkg, "file:/a.db?cache=shared&cache=private", "file:/a.db?cache=shared&cache=private"},

		// SQLite ends a URI at "#", the driver does not.
		{mattnPkg, "file:/a#b.db?mode=ro&cache=shared", "file:/a#b.db?mode=ro&cache=shared"},
		{mattnPkg, "file:a#b.db?mode=ro", "file:CWD/a#b.db?mode=ro"},
		{moderncPkg, "file:a#?cache=shared", "file:CWD/a#?_pragma=busy_timeout(5000)&cache=shared"},
		{mattnPkg, ":memory:?cache=shared", "file::memory:?cache=shared"},

		// Memory databases get a name.
		{mattnPkg, ":memory:", "file:/dblocker-N?vfs=memdb"},
		{mattnPkg, ":memory:?_fk=1", "file:/dblocker-N?vfs=memdb&_fk=1"},
		{mattnPkg, "file::memory:", "file:/dblocker-N?vfs=memdb"},
		{mattnPkg, "file:a?mode=memory&_loc=auto&cache=private", "file:/dblocker-N?vfs=memdb&_loc=auto"},
		{mattnPkg, "file:a?vfs=memdb", "file:/dblocker-N?vfs=memdb"},
		{moderncPkg, ":memory:", "file:/dblocker-N?_pragma=busy_timeout(5000)&vfs=memdb"},

		// modernc has no busy timeout of its own.
		{moderncPkg, "/a.db", "/a.db?_pragma=busy_timeout(5000)"},
		{moderncPkg, "/a.db?", "/a.db?_pragma=busy_timeout(5000)"},
		{moderncPkg, "/a.db?_txlock=immediate", "/a.db?_pragma=busy_timeout(5000)&_txlock=immediate"},
		{moderncPkg, "/a.db?_timeout=7", "/a.db?_timeout=7"},
		{moderncPkg, "/a.db?_pragma=busy_timeout%3d7", "/a.db?_pragma=busy_timeout%3d7"},
		{moderncPkg, "/a.db?_pragma=main.Busy_Timeout (7)", "/a.db?_pragma=main.Busy_Timeout (7)"},
	} {
		d := parse(tc.dsn, findLibrary(tc.pkg))
		got := d.forDriver()
		if _, after, ok := strings.Cut(got, "/dblocker-"); ok {
			got = "file:/dblocker-N" + after[strings.IndexByte(after, '?'):]
		}
		if want := strings.ReplaceAll(tc.want, "CWD", cwd); got != want {
			t.Errorf("%s %q: the driver is given %q, want %q", tc.pkg, tc.dsn, got, want)
		}
	}
}

// TestSQLiteDSNIsStable: what the driver is given means the same when it is read
// again, by a driver that does not drop parameters.
func TestSQLiteDSNIsStable(t *testing.T) {
	for _, dsn := range []string{"a.db", "a b%41#.db?mode=ro", "file:a%2541%3f%23.db?mode=ro", "//a.db?cache=shared", ":memory:", "x%?immutable=1"} {
		first := parse(dsn, findLibrary(mattnPkg))
		again := parse(first.forDriver(), findLibrary(mattnPkg))
		if got := again.forDriver(); again.kind() == kindFile && got != again.raw {
			t.Errorf("%q: %q, and then %q", dsn, again.raw, got)
		}
		if abs, _ := filepath.Abs(first.path); first.kind() == kindFile && filepath.Clean(again.path) != abs || again.isReadOnly() != first.isReadOnly() {
			t.Errorf("%q: file %q, read-only %v; after rewriting %q, %v", dsn, abs, first.isReadOnly(), again.path, again.isReadOnly())
		}
	}
}

func TestSQLiteDSNReadOnly(t *testing.T) {
	for dsn, want := range map[string]bool{
		"a.db": false, "a.db?mode=ro": true, "a.db?mode=rw": false, "file:a.db?mode=ro&mode=rwc": false, "file:a.db?immutable=1": true,
		"file:a.db?immutable=no": false, "file:a.db?immutable=1&immutable=0": true, "file:a.db#?mode=ro": false, "file:a.db?x=1#&mode=ro": false, "a.db?_query_only=1": true, "a.db?_query_only=off": false, "a.db?_pragma=query_only(1)": false,
	} {
		if d := parse(dsn, findLibrary(mattnPkg)); d.isReadOnly() != want {
			t.Errorf("mattn %q: read-only %v", dsn, !want)
		}
	}
	for dsn, want := range map[string]bool{"a.db?_query_only=1": true, "a.db?_pragma=query_only(1)": true, "a.db?_pragma=query_only=true": true, "a.db?_pragma=query_only(0)": false} {
		if d := parse(dsn, findLibrary(moderncPkg)); d.isReadOnly() != want {
			t.Errorf("modernc %q: read-only %v", dsn, !want)
		}
	}
}

func TestIgnoredSQLiteParams(t *testing.T) {
	for _, tc := range []struct{ pkg, query, want string }{
		{mattnPkg, "_fk=1&_journal_mode=WAL&mode=ro&x=1&busy=2", ""},
		{mattnPkg, "_foreign_key=1", "_foreign_key: _foreign_keys"},
		{mattnPkg, "_FK=1", "_FK: _fk"},
		{mattnPkg, "journal_mode=WAL", "journal_mode: _journal_mode"},
		{mattnPkg, "_pragma=foreign_keys(1)", "_pragma: _foreign_keys"},
		{mattnPkg, "_pragma=busy_timeout%3D5000&_jornal=WAL", "_jornal: _journal, _pragma: _busy_timeout"},
		{moderncPkg, "_pragma=foreign_keys(1)&_fk=1&_time_format=sqlite", ""},
		{moderncPkg, "_cache_size=100", "_cache_size: _pragma=cache_size(...)"},
		{moderncPkg, "_texttotimes=1", "_texttotimes: _texttotime"},
		{"example.com/wrapper", "_whatever=1", ""},
	} {
		params, err := url.ParseQuery(tc.query)
		must(t, err)
		var got []string
		for _, p := range findLibrary(tc.pkg).ignored(params) {
			got = append(got, p.name+": "+p.write)
		}
		if got := strings.Join(got, ", "); got != tc.want {
			t.Errorf("%s %s: ignored %q, want %q", tc.pkg, tc.query, got, tc.want)
		}
	}
}

// FuzzSQLiteDSN: reading a DSN and rewriting it never panics, and the result is
// not rewritten further.
func FuzzSQLiteDSN(f *testing.F) {
	for _, dsn := range []string{"a.db", "?", "file:", "file:?#", "a%?mode=ro", ":memory:?cache=shared", "file://x", "file:a%4", "a?_pragma=busy_timeout(", "file:/a?vfs=memdb&vfs=", "//?mode=ro", "/?vfs=memdb&vfs", "/a?vfs=&vfs=memdb&mode=ro"} {
		f.Add(dsn)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		for _, pkg := range []string{mattnPkg, moderncPkg, ncrucesPkg} {
			d := parse(dsn, findLibrary(pkg))
			once := d.forDriver()
			again := parse(once, d.library)
			if twice := again.forDriver(); twice != once {
				t.Errorf("%s %q: %q, and then %q", pkg, dsn, once, twice)
			}
			if k := d.kind(); k != again.kind() && !(k == kindMemory && again.kind() == kindNamedMemory) {
				t.Errorf("%s %q is of kind %d, but %q of %d", pkg, dsn, k, once, again.kind())
			}
			d.library.ignored(d.params)
			database(dsn)
		}
	})
}
