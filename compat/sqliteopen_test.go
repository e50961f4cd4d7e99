package compat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/calmdocs/dblocker"
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

// TestModerncIsNeverBusy: requests that read and then write, beside some that query
// inside their open rows, get no error and lose nothing.
func TestModerncIsNeverBusy(t *testing.T) {
	for name, dsn := range map[string]string{
		"memory": ":memory:", "shared cache": "file:busy?mode=memory&cache=shared",
		"wal": testdb.SQLite(t), "delete": testdb.SQLite(t) + "?_pragma=journal_mode(DELETE)&_txlock=deferred",
	} {
		t.Run(name, func(t *testing.T) {
			testdb.NoLeaks(t)
			db := open(t, "sqlite-dblocker", dsn)
			if _, err := db.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (0, 0), (1, 0), (2, 0), (3, 0)"); err != nil {
				t.Fatal(err)
			}
			const requests, rounds = 8, 25
			var wg sync.WaitGroup
			for i := range requests {
				ctx := dblocker.WithUser(t.Context(), i)
				wg.Go(func() {
					for range rounds {
						if err := errors.Join(addOne(ctx, db, i%4), readInRows(ctx, db)); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			if got := one(t, db, "SELECT sum(n) FROM t"); got != fmt.Sprint(requests*rounds) {
				t.Errorf("%s of %d updates are left", got, requests*rounds)
			}
			db.Close()
		})
	}
}

func addOne(ctx context.Context, db *sql.DB, id int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT n FROM t WHERE id = ?", id).Scan(&n); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE t SET n = ? WHERE id = ?", n+1, id); err != nil {
		return err
	}
	return tx.Commit()
}

func readInRows(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SELECT id FROM t")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, n int
		if err := rows.Scan(&id); err != nil {
			return err
		}
		if err := db.QueryRowContext(ctx, "SELECT n FROM t WHERE id = ?", id).Scan(&n); err != nil {
			return err
		}
	}
	return rows.Err()
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
