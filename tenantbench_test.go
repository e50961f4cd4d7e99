package dblocker_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/calmdocs/dblocker"
)

// BenchmarkTenantHit is a point query, and an Exec, on a database that is open, beside a handle on one file.
func BenchmarkTenantHit(b *testing.B) {
	for name, file := range map[string]string{"one file": "app.db", "file of the user": "{user}.db"} {
		db, err := sql.Open("dblocker", "sqlite3:"+filepath.Join(b.TempDir(), file))
		if err != nil {
			b.Fatal(err)
		}
		defer db.Close()
		ctx := dblocker.WithUser(b.Context(), "ann")
		if _, err := db.ExecContext(ctx, "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'x')"); err != nil {
			b.Fatal(err)
		}
		b.Run("query/"+name, func(b *testing.B) {
			b.ReportAllocs()
			var v string
			for b.Loop() {
				if err := db.QueryRowContext(ctx, "SELECT v FROM t WHERE id = ?", 1).Scan(&v); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("exec/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := db.ExecContext(ctx, "UPDATE t SET v = 'x' WHERE id = 2"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
