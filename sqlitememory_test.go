package dblocker

import (
	"context"
	"database/sql"
	"fmt"
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
			_, err := db.Exec("CREATE TABLE counters (id TEXT PRIMARY KEY, n INTEGER); INSERT INTO counters VALUES (0, 0), (1, 0), (2, 0), (3, 0)")
			must(t, err)
			const requests, rounds = 16, 50
			var wg sync.WaitGroup
			for i := range requests {
				for name, do := range map[string]func(context.Context, *sql.DB, string) error{"writer": increment, "reader": readInRows} {
					wg.Go(func() {
						for range rounds {
							if err := do(asUser(i), db, fmt.Sprint(i%4)); err != nil {
								t.Errorf("%s %d: %v", name, i, err)
								return
							}
						}
					})
				}
			}
			wg.Wait()
			var sum int
			must(t, db.QueryRow("SELECT sum(n) FROM counters").Scan(&sum))
			if sum != requests*rounds {
				t.Errorf("%d of %d updates are left", sum, requests*rounds)
			}
			must(t, db.Close())
		})
	}
}

// readInRows queries in a loop over the rows of another query.
func readInRows(ctx context.Context, db *sql.DB, _ string) error {
	rows, err := db.QueryContext(ctx, "SELECT id FROM counters")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var n int
		if err := rows.Scan(&id); err != nil {
			return err
		}
		if err := db.QueryRowContext(ctx, "SELECT n FROM counters WHERE id = ?", id).Scan(&n); err != nil {
			return err
		}
	}
	return rows.Err()
}
