package compat

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestModerncDefaults: as with mattn/go-sqlite3, in the words of modernc.org/sqlite.
func TestModerncDefaults(t *testing.T) {
	testdb.NoLeaks(t)
	for _, tc := range []struct{ params, journal, timeout string }{
		{"", "wal", "5000"},
		{"?_time_format=sqlite", "wal", "5000"},
		{"?_pragma=journal_mode(DELETE)&_pragma=busy_timeout(70)", "delete", "70"},
		{"?_journal_mode=TRUNCATE&_timeout=80", "truncate", "80"},
	} {
		db := open(t, "sqlite-dblocker", testdb.SQLite(t)+tc.params)
		if got := one(t, db, "PRAGMA journal_mode"); got != tc.journal {
			t.Errorf("%q: journal mode %s, want %s", tc.params, got, tc.journal)
		}
		if got := one(t, db, "PRAGMA busy_timeout"); got != tc.timeout {
			t.Errorf("%q: busy timeout %s, want %s", tc.params, got, tc.timeout)
		}
	}
	if got := one(t, open(t, "sqlite-dblocker", newFile(t)), "PRAGMA journal_mode"); got != "delete" {
		t.Errorf("a file in rollback-journal mode has been switched to %s", got)
	}
}

func TestModerncPlainPathParameters(t *testing.T) {
	path := newFile(t)
	db := open(t, "sqlite-dblocker", path+"?mode=ro")
	if _, err := db.Exec("INSERT INTO t VALUES (1)"); err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("a write with mode=ro: %v", err)
	}
	if got := one(t, db, "SELECT count(*) FROM t"); got != "0" {
		t.Errorf("%s rows", got)
	}
}

// TestModerncMemoryDatabaseIsOne: for all connections of a handle, as long as it is
// open, though its pool keeps none.
func TestModerncMemoryDatabaseIsOne(t *testing.T) {
	for _, dsn := range []string{":memory:", "file::memory:", "file:m?mode=memory", "file:m?mode=memory&cache=shared", "file:/m?vfs=memdb"} {
		testdb.NoLeaks(t)
		db := open(t, "dblocker", "sqlite?max_idle_conns=0:"+dsn)
		if _, err := db.Exec("CREATE TABLE t (v)"); err != nil {
			t.Fatal(err)
		}
		first, second := conn(t, db), conn(t, db)
		for _, c := range []*sql.Conn{first, second} {
			if _, err := c.ExecContext(t.Context(), "INSERT INTO t VALUES (1)"); err != nil {
				t.Errorf("%s: %v", dsn, err)
			}
		}
		first.Close()
		second.Close()
		if got := one(t, db, "SELECT count(*) FROM t"); got != "2" {
			t.Errorf("%s: %s rows of 2", dsn, got)
		}
		db.Close()
	}
}

// TestSecondSQLiteLibraryIsRefusedUntilTheFirstIsClosed, whatever the path; memory
// databases of two libraries are two.
func TestSecondSQLiteLibraryIsRefusedUntilTheFirstIsClosed(t *testing.T) {
	path := newFile(t)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Link(path, link); err != nil {
		t.Fatal(err)
	}
	first, second := open(t, "sqlite3-dblocker", path), open(t, "sqlite-dblocker", "file:"+link)
	if err := first.Ping(); err != nil {
		t.Fatal(err)
	}
	err := second.Ping()
	if err == nil || !strings.Contains(err.Error(), "second SQLite library") {
		t.Errorf("the second library: %v", err)
	}
	first.Close()
	if err := second.Ping(); err != nil {
		t.Errorf("after the first library has closed the file: %v", err)
	}
	err = errors.Join(open(t, "sqlite3-dblocker", "file:m?mode=memory&cache=shared").Ping(), open(t, "sqlite-dblocker", "file:m?mode=memory&cache=shared").Ping())
	if err != nil {
		t.Errorf("memory databases of the same name: %v", err)
	}
}

// one returns the only value that a query finds.
func one(t *testing.T, db *sql.DB, query string) (v string) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func conn(t *testing.T, db *sql.DB) *sql.Conn {
	t.Helper()
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}
