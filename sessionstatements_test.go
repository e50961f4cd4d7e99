package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// sessionStatements are some that concern nothing but the session, by dialect.
var sessionStatements = map[string][]string{
	"postgres": {
		"SET app.tenant = 'a'", "SET LOCAL search_path TO a", "SET ROLE r", "RESET ALL", "LISTEN c", "DISCARD ALL", "DEALLOCATE ALL",
		"SELECT set_config('app.tenant', $1, false)", "SELECT pg_advisory_lock(hashtext($1))", "SELECT pg_advisory_unlock(1)",
		"SET a = 1; SET b = 2",
	},
	"mysql":   {"SET @tenant = 'a'", "SET NAMES utf8mb4", "USE db", "SELECT GET_LOCK('a', 10)", "DO RELEASE_LOCK('a')", "SELECT RELEASE_ALL_LOCKS()"},
	"generic": {"SET a = 1"},
}

// ways are those to send a statement.
var ways = map[string]func(ctx context.Context, conn *sql.Conn, text string) error{
	"Exec": func(ctx context.Context, conn *sql.Conn, text string) error {
		_, err := conn.ExecContext(ctx, text)
		return err
	},
	"Query": func(ctx context.Context, conn *sql.Conn, text string) error {
		rows, err := conn.QueryContext(ctx, text)
		return closeRows(rows, err)
	},
	"prepared Exec": func(ctx context.Context, conn *sql.Conn, text string) error {
		s, err := conn.PrepareContext(ctx, text)
		if err != nil {
			return err
		}
		defer s.Close()
		_, err = s.ExecContext(ctx)
		return err
	},
	"prepared Query": func(ctx context.Context, conn *sql.Conn, text string) error {
		s, err := conn.PrepareContext(ctx, text)
		if err != nil {
			return err
		}
		defer s.Close()
		rows, err := s.QueryContext(ctx)
		return closeRows(rows, err)
	},
}

func closeRows(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return errors.Join(rows.Err(), rows.Close())
}

// eachSessionStatement sends them all, in all ways.
func eachSessionStatement(t *testing.T, dialect string, test func(t *testing.T, db *sql.DB, send func(context.Context, *sql.Conn) error)) {
	for name, way := range ways {
		for _, text := range sessionStatements[dialect] {
			t.Run(name+" of "+text, func(t *testing.T) {
				db := openStub(t, &stub{}, LockTimeout(0), Dialect(dialect))
				test(t, db, func(ctx context.Context, conn *sql.Conn) error { return way(ctx, conn, text) })
			})
		}
	}
}

func TestSessionStatementsTakeNoLock(t *testing.T) {
	for dialect := range sessionStatements {
		eachSessionStatement(t, dialect, func(t *testing.T, db *sql.DB, send func(context.Context, *sql.Conn) error) {
			conn, err := db.Conn(context.Background())
			must(t, err)
			defer conn.Close()
			tx, err := db.BeginTx(asUser(1), nil) // another request has the lock
			must(t, err)
			if err := send(asUser(1), conn); err != nil {
				t.Errorf("beside a transaction of the user: %v", err)
			}
			if err := send(WithMode(asUser(1), Exclusive), conn); !errors.Is(err, ErrLockTimeout) {
				t.Errorf("WithMode(Exclusive) does not strengthen it: %v", err)
			}
			must(t, tx.Commit())
			must(t, send(WithMode(asUser(1), Exclusive), conn))
		})
	}
}

func TestSessionStatementsWhereOnlyReadingIsAllowed(t *testing.T) {
	for dialect := range sessionStatements {
		eachSessionStatement(t, dialect, func(t *testing.T, db *sql.DB, send func(context.Context, *sql.Conn) error) {
			ctx, unlock, err := RLock(asUser(1), db)
			must(t, err)
			defer unlock()
			conn, err := db.Conn(ctx)
			must(t, err)
			if err := send(ctx, conn); err != nil {
				t.Errorf("in a shared section: %v", err)
			}
			if err := send(WithMode(ctx, Exclusive), conn); !errors.Is(err, ErrReadOnly) {
				t.Errorf("strengthened in a shared section: got %v, want ErrReadOnly", err)
			}
			if err := send(WithUser(ctx, 2), conn); err != nil {
				t.Errorf("for another user in the section: %v", err)
			}
			must(t, conn.Close())
		})
	}
	t.Run("read-only Tx", func(t *testing.T) {
		db := openStub(t, &stub{}) // an engine that enforces nothing by itself
		tx, err := db.BeginTx(asUser(1), &sql.TxOptions{ReadOnly: true})
		must(t, err)
		if _, err := tx.Exec("SET a = 1"); err != nil {
			t.Error(err)
		}
		must(t, tx.Commit())
	})
}

// TestSessionStatementsJoinNothing: in a transaction that is nobody's, what waits for a lock of
// the engine's own must not have the user's lock meanwhile.
func TestSessionStatementsJoinNothing(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0), Dialect("postgres"))
	tx, err := db.Begin()
	must(t, err)
	_, err = tx.ExecContext(asUser(1), "SELECT pg_advisory_xact_lock(1)")
	must(t, err)
	_, err = db.ExecContext(asUser(1), "UPDATE t SET v = 1")
	must(t, err)
	_, err = tx.ExecContext(asUser(1), "UPDATE t SET v = 1") // now it joins
	must(t, err)
	if _, err := db.ExecContext(asUser(1), "UPDATE t SET v = 1"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("beside a transaction that the user has joined: got %v, want ErrLockTimeout", err)
	}
	must(t, tx.Commit())
}

// TestTenantsInParallel: requests of one user that name their tenant on a connection of their
// own, read, and reset it are all in their reads at the same time.
func TestTenantsInParallel(t *testing.T) {
	const requests = 16
	for dialect, settings := range map[string][2]string{
		"postgres": {"SELECT set_config('app.tenant', $1, false)", "RESET app.tenant"},
		"mysql":    {"SET @tenant = ?", "SET @tenant = NULL"},
	} {
		bubble(t, func(t *testing.T) {
			reading, all := 0, make(chan struct{})
			s := &stub{run: func(_ context.Context, query string) error {
				if strings.HasPrefix(query, "SELECT v") {
					if reading++; reading == requests { // one at a time in a bubble that waits
						close(all)
					}
					<-all
				}
				return nil
			}}
			db := openStub(t, s, Dialect(dialect), LockTimeout(time.Second))
			errs := make(chan error, requests)
			for range requests {
				go func() { errs <- readAsTenant(db, settings) }()
				synctest.Wait()
			}
			for range requests {
				if err := <-errs; err != nil {
					t.Errorf("%s: %v", dialect, err)
				}
			}
		})
	}
}

func readAsTenant(db *sql.DB, settings [2]string) error {
	ctx := asUser(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, settings[0], "a"); err != nil {
		return err
	}
	rows, err := conn.QueryContext(ctx, "SELECT v FROM t")
	if err := closeRows(rows, err); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, settings[1])
	return err
}

// handMade is how an engine locks by a name, and tells that somebody waits for that.
var handMade = map[string]struct{ lock, unlock, waiting string }{
	"postgres": {"SELECT pg_advisory_lock(4711)", "SELECT pg_advisory_unlock(4711)",
		"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"},
	"mysql": {"SELECT GET_LOCK('hand made', 60)", "SELECT RELEASE_LOCK('hand made')",
		"SELECT count(*) FROM information_schema.processlist WHERE state = 'User lock'"},
}

// TestHandMadeLocks has two requests of a user exclude each other by a lock of the engine's own. One
// waits for it on the server; the other must come to write, and to unlock.
func TestHandMadeLocks(t *testing.T) {
	onEngines(t, "lock_timeout=5s", func(t *testing.T, db *sql.DB, c *Connector) {
		by, ok := handMade[c.engine.Name]
		if !ok {
			t.Skip("the engine has no such locks")
		}
		for name, way := range ways {
			t.Run(name, func(t *testing.T) {
				locked := func(before func()) error {
					ctx := asUser(1)
					conn, err := db.Conn(ctx)
					if err != nil {
						return err
					}
					defer conn.Close()
					if err := way(ctx, conn, by.lock); err != nil {
						return err
					}
					before()
					_, err = conn.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = '1'")
					return errors.Join(err, way(ctx, conn, by.unlock))
				}
				second := make(chan error, 1)
				must(t, locked(func() {
					go func() { second <- locked(func() {}) }()
					waitFor(t, func() bool {
						var n int
						must(t, db.QueryRow(by.waiting).Scan(&n))
						return n == 1
					})
				}))
				must(t, <-second)
			})
		}
	})
}

// TestConnectionPragmas: what only concerns a connection of SQLite takes the gate, but no user's
// lock.
func TestConnectionPragmas(t *testing.T) {
	db, err := sql.Open("dblocker", "sqlite3?lock_timeout=0:"+testdb.SQLite(t))
	must(t, err)
	defer db.Close()
	_, err = db.Exec("CREATE TABLE t (a)")
	must(t, err)
	ctx, unlock, err := RLock(asUser(1), db)
	must(t, err)
	defer unlock()
	conn, err := db.Conn(context.Background())
	must(t, err)
	defer conn.Close()
	for _, pragma := range []string{"PRAGMA foreign_keys = 1", "PRAGMA busy_timeout(100)", "PRAGMA case_sensitive_like = 1", "PRAGMA query_only = 1", "PRAGMA temp_store = 2"} {
		for name, way := range ways {
			if err := way(asUser(1), conn, pragma); err != nil {
				t.Errorf("%s of %q beside a reader of the user: %v", name, pragma, err)
			}
			if err := way(ctx, conn, pragma); err != nil {
				t.Errorf("%s of %q in a shared section: %v", name, pragma, err)
			}
		}
	}
	for _, pragma := range []string{"PRAGMA user_version = 1", "PRAGMA query_only = 0", "PRAGMA writable_schema = 1"} {
		if _, err := db.ExecContext(ctx, pragma); !errors.Is(err, ErrReadOnly) {
			t.Errorf("%q in a shared section: got %v, want ErrReadOnly", pragma, err)
		}
	}
	unlock()
	tx, err := db.Begin() // has the gate
	must(t, err)
	if _, err := tx.Exec("INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(asUser(1), "PRAGMA foreign_keys = 0"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("beside a transaction, which has the gate: got %v, want ErrLockTimeout", err)
	}
	must(t, tx.Rollback())
}

// TestPragmaTablesThatWrite: SQLite makes a table of nearly every PRAGMA, and to read it is to do
// what the PRAGMA does.
func TestPragmaTablesThatWrite(t *testing.T) {
	db, err := sql.Open("dblocker", "sqlite3:"+testdb.SQLite(t))
	must(t, err)
	defer db.Close()
	for _, query := range []string{"CREATE TABLE t (a)", "CREATE INDEX i ON t (a)", "INSERT INTO t VALUES (1), (2)"} {
		_, err := db.Exec(query)
		must(t, err)
	}
	ctx, unlock, err := RLock(asUser(1), db)
	must(t, err)
	defer unlock()
	for _, table := range []string{"pragma_optimize", `"pragma_optimize"`, "[PRAGMA_OPTIMIZE]", "`pragma_optimize`", "'pragma_optimize'", "main.pragma_optimize", "pragma_optimize(-1)"} {
		rows, err := db.QueryContext(ctx, "SELECT * FROM "+table)
		if err := closeRows(rows, err); !errors.Is(err, ErrReadOnly) {
			t.Errorf("SELECT * FROM %s in a shared section: got %v, want ErrReadOnly", table, err)
		}
	}
	var n int
	must(t, db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'").Scan(&n))
	if n != 0 {
		t.Error("a shared section has written statistics")
	}
	must(t, db.QueryRowContext(ctx, "SELECT count(*) FROM pragma_table_info('t')").Scan(&n))
	if n != 1 {
		t.Errorf("pragma_table_info tells of %d columns, want 1", n)
	}
}
