package compat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// onSQLiteDrivers runs a test on both SQLite drivers, in WAL mode and with a rollback
// journal. SQLite itself waits for nothing, but in WAL mode 100 ms: a reader who finds the
// index of the WAL half written takes the write lock for a moment, to look again.
func onSQLiteDrivers(t *testing.T, test func(t *testing.T, db *sql.DB)) {
	for driver, params := range map[string]string{
		"sqlite3": sqlite3Params,
		"sqlite":  "_pragma=busy_timeout(%d)&_pragma=journal_mode=%s",
	} {
		for mode, timeout := range map[string]int{"WAL": 100, "DELETE": 0} {
			t.Run(driver+" "+mode, func(t *testing.T) {
				testdb.NoLeaks(t)
				db, err := sql.Open(driver+"-dblocker", "file:"+testdb.SQLite(t)+"?"+fmt.Sprintf(params, timeout, mode))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { db.Close() })
				for _, query := range []string{"CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)", "INSERT INTO t VALUES (1, 0), (2, 0)"} {
					if _, err := db.Exec(query); err != nil {
						t.Fatal(err)
					}
				}
				test(t, db)
			})
		}
	}
}

func TestSQLiteIsNeverBusy(t *testing.T) {
	onSQLiteDrivers(t, func(t *testing.T, db *sql.DB) {
		const workers, times = 8, 25
		var wg sync.WaitGroup
		for i := range workers {
			for _, work := range []func(context.Context, *sql.DB, int) error{increment, readNested} {
				wg.Go(func() {
					for range times {
						if err := work(dblocker.WithUser(context.Background(), i), db, i%2+1); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		wg.Wait()
		var n int
		if err := db.QueryRow("SELECT SUM(n) FROM t").Scan(&n); err != nil || n != workers*times {
			t.Errorf("%d updates are there, want %d (%v)", n, workers*times, err)
		}
	})
}

func increment(ctx context.Context, db *sql.DB, id int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var n int
	if err := tx.QueryRow("SELECT n FROM t WHERE id = ?", id).Scan(&n); err != nil {
		return err
	}
	if _, err := tx.Exec("UPDATE t SET n = ? WHERE id = ?", n+1, id); err != nil {
		return err
	}
	return tx.Commit()
}

func readNested(ctx context.Context, db *sql.DB, id int) error {
	rows, err := db.QueryContext(ctx, "SELECT id FROM t")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := db.QueryRowContext(ctx, "SELECT n FROM t WHERE id = ?", id).Scan(new(int)); err != nil {
			return err
		}
	}
	return rows.Err()
}

// TestInterruptedSQLiteTx: with a driver that does not tell that SQLite has rolled the
// transaction back, too, nothing that is done in it afterwards is written.
func TestInterruptedSQLiteTx(t *testing.T) {
	onSQLiteDrivers(t, func(t *testing.T, db *sql.DB) {
		ctx := dblocker.WithUser(context.Background(), 1)
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec("INSERT INTO t VALUES (1, 1)"); err == nil || errors.Is(err, dblocker.ErrRolledBack) {
			t.Errorf("a constraint: %v", err)
		}
		if _, err := tx.Exec("UPDATE t SET n = 5"); err != nil {
			t.Errorf("an error that does not end the transaction: %v", err)
		}
		interruptSQLite(t, tx)
		if _, err := tx.Exec("UPDATE t SET n = 6"); !errors.Is(err, dblocker.ErrRolledBack) {
			t.Errorf("got %v, want ErrRolledBack", err)
		}
		if err := tx.Commit(); !errors.Is(err, dblocker.ErrRolledBack) {
			t.Errorf("Commit: got %v, want ErrRolledBack", err)
		}
		conn, err := db.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
			t.Fatal(err)
		}
		interruptSQLite(t, conn)
		if _, err := conn.ExecContext(ctx, "UPDATE t SET n = 7"); !errors.Is(err, dblocker.ErrRolledBack) {
			t.Errorf("in SQL: got %v, want ErrRolledBack", err)
		}
		if _, err := conn.ExecContext(ctx, "ROLLBACK"); err == nil || !strings.Contains(err.Error(), "no transaction is active") {
			t.Errorf("ROLLBACK: %v", err)
		}
		if _, err := conn.ExecContext(ctx, "UPDATE t SET n = 1"); err != nil {
			t.Errorf("after it: %v", err)
		}
		read, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := read.QueryRow("SELECT MAX(n) FROM t").Scan(new(int)); err != nil {
			t.Error(err)
		}
		if _, err := read.ExecContext(dblocker.WithMode(ctx, dblocker.Shared), "UPDATE t SET n = 8"); !errors.Is(err, dblocker.ErrReadOnly) {
			t.Errorf("a write in a read-only transaction: %v", err)
		}
		if err := read.Commit(); err != nil {
			t.Error(err)
		}
		var n int
		if err := db.QueryRow("SELECT MAX(n) FROM t").Scan(&n); err != nil || n != 1 {
			t.Errorf("n is %d, want 1 (%v)", n, err)
		}
	})
}

// interruptSQLite begins a long write and ends its context. The write is under way by then: the
// drivers ask SQLite only once to interrupt whatever is running.
func interruptSQLite(t *testing.T, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	_, err := db.ExecContext(ctx, "INSERT INTO t WITH RECURSIVE r(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM r) SELECT i, i FROM r")
	if err == nil || ctx.Err() == nil { // ncruces has an error of its own
		t.Fatalf("the long write: %v", err)
	}
}
