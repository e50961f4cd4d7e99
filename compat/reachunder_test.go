package compat

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestReachUnder: with pgx too a query outlives no lock that it works under.
func TestReachUnder(t *testing.T) {
	d := testdb.Postgres(t).NewDatabase(t)
	process := func(opts ...dblocker.Option) *sql.DB {
		config, err := pgx.ParseConfig(d.DSN())
		noError(t, err)
		db, err := dblocker.OpenDB(stdlib.GetConnector(*config), append(opts, dblocker.LockScope(dblocker.DatabaseScope))...)
		noError(t, err)
		t.Cleanup(func() { db.Close() })
		return db
	}
	db, other := process(), process(dblocker.LockTimeout(100*time.Millisecond))
	ctx, cancel := context.WithTimeout(dblocker.WithUser(context.Background(), "u"), 20*time.Second)
	defer cancel()
	write := func() error {
		_, err := other.ExecContext(dblocker.WithUser(context.Background(), "u"), "SELECT 1")
		return err
	}
	rows := func() *sql.Rows {
		rows, err := db.QueryContext(ctx, "SELECT generate_series(1, 100000)")
		noError(t, err)
		rows.Next()
		return rows
	}
	tx := func(opts *sql.TxOptions) func() error {
		tx, err := db.BeginTx(ctx, opts)
		noError(t, err)
		return tx.Commit
	}
	for name, take := range map[string]func() func() error{
		"rows":    func() func() error { return rows().Close },
		"Tx":      func() func() error { return tx(nil) },
		"read Tx": func() func() error { return tx(&sql.TxOptions{ReadOnly: true}) },
		"section": func() func() error {
			_, unlock, err := dblocker.Lock(ctx, db)
			noError(t, err)
			return func() error { unlock(); return nil }
		},
	} {
		end := take()
		under := rows()
		noError(t, end())
		if err := write(); !errors.Is(err, dblocker.ErrLockTimeout) {
			t.Errorf("%s: another process beside the rows: got %v, want ErrLockTimeout", name, err)
		}
		noError(t, under.Close())
		for until := time.Now().Add(10 * time.Second); ; {
			err := write()
			if err == nil {
				break
			}
			if time.Now().After(until) {
				t.Fatalf("%s: another process after the rows: %v", name, err)
			}
		}
	}
}
