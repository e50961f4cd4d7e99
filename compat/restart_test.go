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

func surviveBreak(t *testing.T, driver, dsn string, breakConns func(testing.TB)) {
	db := open(t, "dblocker", fmt.Sprintf("%s?max_idle_conns=%d:%s", driver, idleConns, dsn))
	stmt, err := db.Prepare("SELECT 1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stmt.Close() })
	for _, op := range operationsAfterBreak(db, stmt) {
		t.Run(op.name, func(t *testing.T) {
			fillPool(t, db)
			breakConns(t)
			rest()
			if err := op.run(dblocker.WithUser(t.Context(), 1)); err != nil {
				t.Errorf("alone: %v", err)
			}
			fillPool(t, db)
			breakConns(t)
			rest()
			if err := inParallel(t.Context(), op.run); err != nil {
				t.Errorf("one of %d: %v", idleConns, err)
			}
		})
	}
}

// rest lets pgx grow suspicious: it looks whether a connection is alive only if
// that has been idle for a second.
func rest() { time.Sleep(1100 * time.Millisecond) }

type operation struct {
	name string
	run  func(context.Context) error
}

func operationsAfterBreak(db *sql.DB, stmt *sql.Stmt) []operation {
	return []operation{
		{"exec", func(ctx context.Context) error { _, err := db.ExecContext(ctx, "SELECT 1"); return err }},
		{"query", func(ctx context.Context) error { return drain(ctx, db, "SELECT 1") }},
		{"prepared", func(ctx context.Context) error { return drain(ctx, prepared{stmt}, "") }},
		{"ping", db.PingContext},
		{"transaction", func(ctx context.Context) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			return errors.Join(drain(ctx, tx, "SELECT 1"), tx.Commit())
		}},
	}
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

// inParallel runs ten operations at once, each for a user of its own.
func inParallel(ctx context.Context, run func(context.Context) error) error {
	errs := make([]error, idleConns)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = run(dblocker.WithUser(ctx, i)) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
