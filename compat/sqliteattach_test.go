package compat

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestAttachedFilesAreNeverBusy: two handles attach each other's file, on both drivers, and write
// to both files in transactions.
func TestAttachedFilesAreNeverBusy(t *testing.T) {
	for driver, params := range map[string]string{
		"sqlite3": sqlite3Params,
		"sqlite":  "_pragma=busy_timeout(%d)&_pragma=journal_mode=%s",
	} {
		for mode, timeout := range map[string]int{"WAL": 100, "DELETE": 50} {
			t.Run(driver+" "+mode, func(t *testing.T) {
				testdb.NoLeaks(t)
				dir := t.TempDir()
				paths := []string{filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")}
				var dbs []*sql.DB
				for _, path := range paths {
					db := open(t, driver+"-dblocker", "file:"+path+"?"+fmt.Sprintf(params, timeout, mode))
					if _, err := db.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1, 0), (2, 0)"); err != nil {
						t.Fatal(err)
					}
					dbs = append(dbs, db)
				}
				var wg sync.WaitGroup
				for i, db := range dbs {
					for range 3 {
						wg.Go(func() { writeAttached(t, db, paths[1-i]) })
						wg.Go(func() {
							for n := range 20 {
								if err := increment(context.Background(), db, n%2+1); err != nil {
									t.Error(err)
								}
							}
						})
					}
				}
				wg.Wait()
			})
		}
	}
}

func writeAttached(t *testing.T, db *sql.DB, other string) {
	ctx := context.Background()
	for range 10 {
		c := conn(t, db)
		for _, query := range []string{
			"ATTACH '" + other + "' AS other", "BEGIN", "UPDATE t SET n = n + 1", "UPDATE other.t SET n = n + 1", "COMMIT", "SELECT * FROM t, other.t", "DETACH other",
		} {
			if _, err := c.ExecContext(ctx, query); err != nil {
				t.Errorf("%s: %v", query, err)
			}
		}
		c.Close()
	}
}
