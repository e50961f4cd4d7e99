package dblocker

import (
	"database/sql"
	"sync"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestMemoryDatabaseIsNeverBusy: sixteen requests that read and then write, beside
// sixteen that query inside their open rows, get no error and lose nothing.
func TestMemoryDatabaseIsNeverBusy(t *testing.T) {
	for _, dsn := range memoryDSNs {
		t.Run(dsn, func(t *testing.T) {
			testdb.NoLeaks(t)
			db := openSQLite(t, "sqlite3-dblocker", dsn)
			_, err := db.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1,0), (2,0), (3,0), (4,0)")
			must(t, err)
			const requests, rounds = 16, 50
			var wg sync.WaitGroup
			for i := range requests {
				for name, do := range map[string]func(*sql.DB, int) error{"writer": addOne, "reader": readInRows} {
					wg.Go(func() {
						for range rounds {
							if err := do(db, i); err != nil {
								t.Errorf("%s %d: %v", name, i, err)
								return
							}
						}
					})
				}
			}
			wg.Wait()
			var sum int
			must(t, db.QueryRow("SELECT sum(n) FROM t").Scan(&sum))
			if sum != requests*rounds {
				t.Errorf("%d of %d updates are left", sum, requests*rounds)
			}
			must(t, db.Close())
		})
	}
}

// addOne reads a number and writes the next, in a transaction.
func addOne(db *sql.DB, user int) error {
	tx, err := db.BeginTx(asUser(user), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var n int
	if err := tx.QueryRow("SELECT n FROM t WHERE id = ?", user%4+1).Scan(&n); err != nil {
		return err
	}
	if _, err := tx.Exec("UPDATE t SET n = ? WHERE id = ?", n+1, user%4+1); err != nil {
		return err
	}
	return tx.Commit()
}

// readInRows queries in a loop over the rows of another query.
func readInRows(db *sql.DB, user int) error {
	ctx := asUser(user)
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
