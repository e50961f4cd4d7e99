package compat

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// slowQueries take much longer than the tests would wait.
var slowQueries = map[*engine][]string{
	sqliteEngine:   {"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n"},
	postgresEngine: {"SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 100000000000)"},
	mysqlEngine:    {"SELECT SLEEP(60)", "SELECT BENCHMARK(100000000000, SHA2('x', 512))"},
}

// TestStatementTimeoutEndsStatements also looks, by NewDatabase, whether the
// statement has ended on the server.
func TestStatementTimeoutEndsStatements(t *testing.T) {
	for _, d := range mainDrivers(sqliteEngine, postgresEngine, mysqlEngine) {
		t.Run(d.title, func(t *testing.T) {
			testdb.NoLeaks(t)
			db := open(t, "dblocker", d.name+"?statement_timeout=100ms:"+d.database(t))
			ctx := dblocker.WithUser(t.Context(), 1)
			for _, query := range slowQueries[d.engine] {
				for _, s := range statementsOf(db, query) {
					if took := inTime(ctx, t, s); took > 10*time.Second {
						t.Errorf("%s: %s took %v in spite of statement_timeout=100ms", s.name, query, took)
					}
				}
			}
			var err error // of a quick statement, for which 100ms are too short now and then
			for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
				if err = drain(ctx, db, "SELECT 1"); err == nil {
					break
				}
			}
			if err != nil {
				t.Errorf("a quick statement afterwards: %v", err)
			}
		})
	}
}

// A statement is one way to run a query.
type statement struct {
	name string
	run  func(context.Context) error
}

func statementsOf(db *sql.DB, query string) []statement {
	return []statement{
		{"query", func(ctx context.Context) error { return drain(ctx, db, query) }},
		{"exec", func(ctx context.Context) error { _, err := db.ExecContext(ctx, query); return err }},
		{"prepared", func(ctx context.Context) error {
			stmt, err := db.PrepareContext(ctx, query)
			if err != nil {
				return err
			}
			defer stmt.Close()
			return drain(ctx, prepared{stmt}, "")
		}},
		{"transaction", func(ctx context.Context) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			return drain(ctx, tx, query)
		}},
	}
}

// inTime measures a statement. Its error is not asked for: MariaDB and MySQL end
// SLEEP and BENCHMARK with a value.
func inTime(ctx context.Context, t *testing.T, s statement) time.Duration {
	start := time.Now()
	err := s.run(ctx)
	t.Logf("%s: %v after %v", s.name, err, time.Since(start).Round(time.Millisecond))
	return time.Since(start)
}
