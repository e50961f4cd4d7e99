package compat

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// A handle is what sql.Open takes.
type handle struct{ driver, dsn string }

func (h handle) open(t *testing.T) *sql.DB {
	t.Helper()
	db := open(t, "dblocker", withOption(h.driver, "lock_timeout=20ms")+":"+h.dsn)
	if err := db.Ping(); err != nil {
		t.Fatal(err)
	}
	return db
}

// sameDatabase are pairs of handles that lead to one database.
var sameDatabase = []struct {
	name string
	pair func(t *testing.T) (a, b handle)
}{
	{"pq and pgx", func(t *testing.T) (a, b handle) {
		d := testdb.Postgres(t).NewDatabase(t)
		return handle{"postgres", d.DSN()}, handle{"pgx", d.URL()}
	}},
	{"pq by URL and by keywords", func(t *testing.T) (a, b handle) {
		d := testdb.Postgres(t).NewDatabase(t)
		return handle{"postgres", d.URL()}, handle{"postgres", d.DSN()}
	}},
	{"mysql by DSN and by URL", func(t *testing.T) (a, b handle) {
		d := testdb.MySQL(t).NewDatabase(t)
		return handle{"mysql", d.DSN() + "?parseTime=true"}, handle{"mysql", d.URL()}
	}},
	{"a file by its path and by a URI", func(t *testing.T) (a, b handle) {
		path := newFile(t)
		return handle{"sqlite3", path}, handle{"sqlite3", "file:" + path + "?_busy_timeout=5000"}
	}},
	{"a file by its path and by a URI with authority", func(t *testing.T) (a, b handle) {
		path := newFile(t)
		return handle{"sqlite3", path}, handle{"sqlite3", "file://localhost" + path}
	}},
	{"a file by a path with detours", func(t *testing.T) (a, b handle) {
		path := newFile(t)
		dir, base := filepath.Split(path)
		return handle{"sqlite3", path}, handle{"sqlite3", dir + "./../" + filepath.Base(dir) + "//" + base}
	}},
	{"a file that is not there yet", func(t *testing.T) (a, b handle) {
		path := testdb.SQLite(t)
		return handle{"sqlite3", path}, handle{"sqlite3", "file:" + path}
	}},
	{"a file and a symbolic link", func(t *testing.T) (a, b handle) { return linked(t, "sqlite3", os.Symlink) }},
	{"a file and a hard link", func(t *testing.T) (a, b handle) { return linked(t, "sqlite3", os.Link) }},
	{"a file and a symbolic link, modernc", func(t *testing.T) (a, b handle) { return linked(t, "sqlite", os.Symlink) }},
	{"a shared memory database", func(*testing.T) (a, b handle) {
		return handle{"sqlite3", "file:shared_name?mode=memory&cache=shared"}, handle{"sqlite3", "file:shared_name?mode=memory&cache=shared"}
	}},
	{"different servers, one lockspace", func(t *testing.T) (a, b handle) {
		pg, my := testdb.Postgres(t).NewDatabase(t), testdb.MySQL(t).NewDatabase(t)
		return handle{"postgres?lockspace=compat", pg.DSN()}, handle{"mysql?lockspace=compat", my.DSN()}
	}},
}

// newFile makes an SQLite database with something in it.
func newFile(t *testing.T) string {
	t.Helper()
	path := testdb.SQLite(t)
	if _, err := open(t, "sqlite3", path).Exec("CREATE TABLE t (id int)"); err != nil {
		t.Fatal(err)
	}
	return path
}

func linked(t *testing.T, driver string, link func(from, to string) error) (a, b handle) {
	t.Helper()
	path := newFile(t)
	other := path + ".link"
	if err := link(path, other); err != nil {
		t.Fatal(err)
	}
	return handle{driver, path}, handle{driver, other}
}

func TestHandlesOnOneDatabaseShareItsLocks(t *testing.T) {
	for _, c := range sameDatabase {
		t.Run(c.name, func(t *testing.T) {
			testdb.NoLeaks(t)
			ha, hb := c.pair(t)
			a, b := ha.open(t), hb.open(t)
			alice, bob := dblocker.WithUser(t.Context(), "alice"), dblocker.WithUser(t.Context(), "bob")
			defer hold(t, a, alice)()

			err := execAs(b, dblocker.WithUser(t.Context(), "alice"))
			lockErr, ok := errors.AsType[*dblocker.LockError](err)
			if !ok || !errors.Is(err, dblocker.ErrLockTimeout) || lockErr.User != "alice" {
				t.Errorf("through the other handle, past alice's transaction: %v; want a LockError of alice", err)
			}
			err = execAs(b, bob)
			lockErr, ok = errors.AsType[*dblocker.LockError](err)
			if err != nil && !(ok && strings.Contains(lockErr.Error(), "the gate of the SQLite database")) { // where writers queue, whoever they are
				t.Errorf("bob waits for alice: %v", err)
			}
		})
	}
}

// TestHandlesOnTwoDatabasesShareNothing is the other half: one user's work on
// one database is not in the way of the same user's work on another.
func TestHandlesOnTwoDatabasesShareNothing(t *testing.T) {
	testdb.NoLeaks(t)
	alice := dblocker.WithUser(t.Context(), "alice")
	for _, h := range []handle{
		{"postgres", testdb.Postgres(t).NewDatabase(t).DSN()},
		{"pgx", testdb.Postgres(t).NewDatabase(t).DSN()},
		{"mysql", testdb.MySQL(t).NewDatabase(t).DSN()},
		{"mysql", testdb.MySQL(t).NewDatabase(t).DSN()},
		{"sqlite3", newFile(t)},
		{"sqlite3", newFile(t)},
		{"sqlite", newFile(t)},
		{"sqlite3", ":memory:"},
		{"sqlite3", ":memory:"},
	} {
		defer hold(t, h.open(t), alice)()
	}
}

// hold begins a transaction for ctx's user, and returns its end.
func hold(t *testing.T, db *sql.DB, ctx context.Context) (release func()) {
	t.Helper()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() { tx.Rollback() }
}

// execAs takes the lock of ctx's user, and asks nothing of the database that its
// other transactions could be in the way of.
func execAs(db *sql.DB, ctx context.Context) error {
	_, err := db.ExecContext(ctx, "SELECT 1")
	return err
}

// TestTwoSQLiteLibrariesOnOneFileAreRefused: the locks of POSIX belong to the
// process, so each library would drop those of the other.
func TestTwoSQLiteLibrariesOnOneFileAreRefused(t *testing.T) {
	testdb.NoLeaks(t)
	path := newFile(t)
	link := path + ".link"
	if err := os.Link(path, link); err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]handle{
		{{"sqlite3", path}, {"sqlite", path}},
		{{"sqlite", path}, {"sqlite3", "file:" + link}},
		{{"sqlite3?lockspace=one", path}, {"sqlite?lockspace=two", path}},
	} {
		first := pair[0].open(t)
		second := open(t, "dblocker", pair[1].driver+":"+pair[1].dsn)
		err := second.Ping()
		if err == nil || !strings.Contains(err.Error(), path) ||
			!strings.Contains(err.Error(), sqlite3Library) || !strings.Contains(err.Error(), "modernc.org/sqlite") {
			t.Errorf("%s beside %s: %v; want an error that names the file and both libraries", pair[1].driver, pair[0].driver, err)
		}
		first.Close()
		if err := second.Ping(); err != nil {
			t.Errorf("%s after %s is closed: %v", pair[1].driver, pair[0].driver, err)
		}
		second.Close()
	}
}

// withOption adds an option to a driver's name, which may have some.
func withOption(driver, option string) string {
	if strings.Contains(driver, "?") {
		return driver + "&" + option
	}
	return driver + "?" + option
}
