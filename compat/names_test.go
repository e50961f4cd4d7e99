package compat

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// hooked counts the connections of the program's own SQLite driver.
var hooked atomic.Int64

// The names say nothing of the engines: those are to be recognized by the types
// of the drivers.
func init() {
	sql.Register("own", hookedSQLite)
	sql.Register("own-too", &pq.Driver{})
	for name, inner := range map[string]driver.Driver{
		"wrapped-one":   plainSQLite,
		"wrapped-two":   &pq.Driver{},
		"wrapped-three": stdlib.GetDefaultDriver(),
		"wrapped-four":  &mysql.MySQLDriver{},
	} {
		if err := dblocker.Register(name, inner); err != nil {
			panic(err)
		}
	}
}

// TestOwnDriverNames expects sqlx to know the placeholders of every name.
func TestOwnDriverNames(t *testing.T) {
	for _, c := range []struct {
		name   string
		engine *engine
		want   string
	}{
		{"sqlite3-dblocker", sqliteEngine, "SELECT ?"},
		{"sqlite-dblocker", sqliteEngine, "SELECT ?"},
		{"postgres-dblocker", postgresEngine, "SELECT $1"},
		{"pgx-dblocker", postgresEngine, "SELECT $1"},
		{"mysql-dblocker", mysqlEngine, "SELECT ?"},
		{"wrapped-one", sqliteEngine, "SELECT ?"},
		{"wrapped-two", postgresEngine, "SELECT $1"},
		{"wrapped-three", postgresEngine, "SELECT $1"},
		{"wrapped-four", mysqlEngine, "SELECT ?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			testdb.NoLeaks(t)
			db, err := sqlx.Open(c.name, c.engine.database(t))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			query := db.Rebind("SELECT ?")
			if query != c.want {
				t.Errorf("sqlx binds %s, want %s", query, c.want)
			}
			var got string
			if err := db.GetContext(dblocker.WithUser(t.Context(), 1), &got, query, "x"); err != nil || got != "x" {
				t.Errorf("%s: %q, %v", query, got, err)
			}
		})
	}
}

// TestOwnDriversAreRecognized by what only their engine needs: a write in a
// read-only transaction is refused, by us on SQLite and by PostgreSQL itself; pq
// meets pgx.
func TestOwnDriversAreRecognized(t *testing.T) {
	t.Run("sqlite3 with a ConnectHook", func(t *testing.T) {
		testdb.NoLeaks(t)
		before := hooked.Load()
		db := open(t, "dblocker", "own:"+testdb.SQLite(t))
		ctx := dblocker.WithUser(t.Context(), 1)
		var got string
		if err := db.QueryRowContext(ctx, "SELECT shout('quiet')").Scan(&got); err != nil || got != "QUIET" {
			t.Errorf("the hook's function: %q, %v", got, err)
		}
		if hooked.Load() == before {
			t.Error("the hook was not called")
		}
		tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, "CREATE TABLE t (id int)"); !errors.Is(err, dblocker.ErrReadOnly) {
			t.Errorf("a write in a read-only transaction: %v, want ErrReadOnly", err)
		}
	})
	t.Run("lib/pq", func(t *testing.T) {
		testdb.NoLeaks(t)
		dsn := testdb.Postgres(t).NewDatabase(t).DSN()
		a, b := handle{"own-too", dsn}.open(t), handle{"pgx", dsn}.open(t)
		defer hold(t, a, dblocker.WithUser(t.Context(), 1))()
		if err := execAs(b, dblocker.WithUser(t.Context(), 1)); !errors.Is(err, dblocker.ErrLockTimeout) {
			t.Errorf("pgx beside a driver of the program's own: %v, want ErrLockTimeout", err)
		}
	})
}

// A tracer counts the queries that pgx tells it of.
type tracer struct{ queries atomic.Int64 }

func (t *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	t.queries.Add(1)
	return ctx
}

func (*tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestPGXTracer(t *testing.T) {
	config := func(t *testing.T) (*pgx.ConnConfig, *tracer) {
		t.Helper()
		c, err := pgx.ParseConfig(testdb.Postgres(t).NewDatabase(t).DSN())
		if err != nil {
			t.Fatal(err)
		}
		tr := new(tracer)
		c.Tracer = tr
		return c, tr
	}
	t.Run("registered config", func(t *testing.T) {
		testdb.NoLeaks(t)
		c, tr := config(t)
		name := stdlib.RegisterConnConfig(c)
		defer stdlib.UnregisterConnConfig(name)
		checkTraced(t, open(t, "pgx-dblocker", name), tr)
	})
	t.Run("connector", func(t *testing.T) {
		testdb.NoLeaks(t)
		c, tr := config(t)
		db, err := dblocker.OpenDB(stdlib.GetConnector(*c))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		checkTraced(t, db, tr)
	})
}

func checkTraced(t *testing.T, db *sql.DB, tr *tracer) {
	t.Helper()
	if err := drain(dblocker.WithUser(t.Context(), 1), db, "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	if tr.queries.Load() != 1 {
		t.Errorf("the tracer was told of %d queries, want 1", tr.queries.Load())
	}
}

// connectors are those that programs make with settings a DSN has no words for.
var connectors = []struct {
	name string
	open func(t *testing.T) (driver.Connector, error)
}{
	{"pq", func(t *testing.T) (driver.Connector, error) {
		return pq.NewConnector(testdb.Postgres(t).NewDatabase(t).DSN())
	}},
	{"pgx", func(t *testing.T) (driver.Connector, error) {
		config, err := pgx.ParseConfig(testdb.Postgres(t).NewDatabase(t).DSN())
		if err != nil {
			return nil, err
		}
		return stdlib.GetConnector(*config), nil
	}},
	{"mysql", func(t *testing.T) (driver.Connector, error) {
		config, err := mysql.ParseDSN(testdb.MySQL(t).NewDatabase(t).DSN())
		if err != nil {
			return nil, err
		}
		return mysql.NewConnector(config)
	}},
}

// TestConnectorsOfOneLockspaceShareItsLocks, since nothing else tells that they
// lead to one database.
func TestConnectorsOfOneLockspaceShareItsLocks(t *testing.T) {
	for _, c := range connectors {
		t.Run(c.name, func(t *testing.T) {
			testdb.NoLeaks(t)
			inner, err := c.open(t)
			if err != nil {
				t.Fatal(err)
			}
			a, b := openConnector(t, inner), openConnector(t, inner)
			defer hold(t, a, dblocker.WithUser(t.Context(), 1))()
			if err := execAs(b, dblocker.WithUser(t.Context(), 1)); !errors.Is(err, dblocker.ErrLockTimeout) {
				t.Errorf("user 1 beside a transaction of user 1: %v, want ErrLockTimeout", err)
			}
			if err := execAs(b, dblocker.WithUser(t.Context(), 2)); err != nil {
				t.Errorf("user 2 beside a transaction of user 1: %v", err)
			}
		})
	}
}

func openConnector(t *testing.T, inner driver.Connector) *sql.DB {
	t.Helper()
	db, err := dblocker.OpenDB(inner, dblocker.Lockspace("connectors"), dblocker.LockTimeout(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
