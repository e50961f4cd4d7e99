package compat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

const idleConns = 10

// privateServers are started once for the drivers of an engine.
var privateServers = []struct {
	engine *engine
	start  func(testing.TB) *testdb.PrivateServer
}{
	{postgresEngine, testdb.PrivatePostgres},
	{mysqlEngine, testdb.PrivateMySQL},
}

// TestServerRestart breaks ten idle connections, which is more than database/sql
// has tries, and expects the program not to notice.
func TestServerRestart(t *testing.T) {
	mysql.SetLogger(&mysql.NopLogger{})
	for _, private := range privateServers {
		t.Run(private.engine.name, func(t *testing.T) {
			testdb.NoLeaks(t)
			server := private.start(t)
			for _, d := range mainDrivers(private.engine) {
				t.Run(d.title, func(t *testing.T) {
					testdb.NoLeaks(t)
					database := server.NewDatabase(t)
					for _, way := range waysToBreak(server, database) {
						t.Run(way.name, func(t *testing.T) { surviveBreak(t, d.name, database.DSN(), way.run) })
					}
				})
			}
		})
	}
}

type wayToBreak struct {
	name string
	run  func(testing.TB)
}

// waysToBreak end all idle connections from the server's side.
func waysToBreak(server *testdb.PrivateServer, database *testdb.Database) []wayToBreak {
	return []wayToBreak{
		{"server restarted", server.Restart},
		{"server crashed", func(t testing.TB) {
			server.Kill(t)
			server.Start(t)
		}},
		{"sessions killed", database.KillSessions},
	}
}

// surviveBreak breaks the connections of one handle for each operation, so that
// none finds a pool that another has cleaned up. Each is then tried alone, and ten
// times at once.
func surviveBreak(t *testing.T, driver, dsn string, breakConns func(testing.TB)) {
	dbs := make([]*sql.DB, len(operations))
	run := make([]func(context.Context) error, len(operations))
	for i, op := range operations {
		dbs[i] = open(t, "dblocker", fmt.Sprintf("%s?max_idle_conns=%d:%s", driver, idleConns, dsn))
		run[i] = op.prepare(t, dbs[i])
	}
	for _, atOnce := range []int{1, idleConns} {
		for _, db := range dbs {
			fillPool(t, db)
		}
		breakConns(t)
		if driver == "pgx" {
			rest()
		}
		for i, op := range operations {
			if err := inParallel(t.Context(), atOnce, run[i]); err != nil {
				t.Errorf("%s, %d at once: %v", op.name, atOnce, err)
			}
		}
	}
}

// rest lets pgx grow suspicious: it looks whether a connection is alive only if
// that has been idle for a second, and else shows the server's farewell as the
// error of the next statement.
func rest() { time.Sleep(1100 * time.Millisecond) }

// operations are what may come first after a break.
var operations = []struct {
	name    string
	prepare func(*testing.T, *sql.DB) func(context.Context) error
}{
	{"exec", func(_ *testing.T, db *sql.DB) func(context.Context) error {
		return func(ctx context.Context) error { _, err := db.ExecContext(ctx, "SELECT 1"); return err }
	}},
	{"query", func(_ *testing.T, db *sql.DB) func(context.Context) error {
		return func(ctx context.Context) error { return drain(ctx, db, "SELECT 1") }
	}},
	{"ping", func(_ *testing.T, db *sql.DB) func(context.Context) error { return db.PingContext }},
	{"prepared statement", func(t *testing.T, db *sql.DB) func(context.Context) error {
		stmt, err := db.Prepare("SELECT 1")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stmt.Close() })
		return func(ctx context.Context) error { return drain(ctx, prepared{stmt}, "") }
	}},
	{"transaction", func(_ *testing.T, db *sql.DB) func(context.Context) error {
		return func(ctx context.Context) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			return errors.Join(drain(ctx, tx, "SELECT 1"), tx.Commit())
		}
	}},
	{"connection", func(_ *testing.T, db *sql.DB) func(context.Context) error {
		return func(ctx context.Context) error {
			conn, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			return errors.Join(drain(ctx, conn, "SELECT 1"), conn.Close())
		}
	}},
}

// fillPool has ten connections open at a time, which are idle afterwards.
func fillPool(t *testing.T, db *sql.DB) {
	t.Helper()
	for range idleConns {
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := drain(t.Context(), conn, "SELECT 1"); err != nil {
			t.Fatal(err)
		}
	}
}

// inParallel runs n operations at once, each for a user of its own.
func inParallel(ctx context.Context, n int, run func(context.Context) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = run(dblocker.WithUser(ctx, i)) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
