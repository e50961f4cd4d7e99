package compat

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestReachPooled: with both drivers, processes behind a pooler that runs each transaction in another session lose no update of each other, nor of one
// that is not behind it. Each handle here has locks of its own in the process: one lockspace of them is the address that it connects to.
func TestReachPooled(t *testing.T) {
	server := testdb.Postgres(t)
	d := server.NewDatabase(t)
	one, other := testdb.PrivatePgBouncer(t, server), testdb.PrivatePgBouncer(t, server)
	plain := open(t, "postgres", d.DSN())
	if _, err := plain.Exec("CREATE TABLE reached (id INT PRIMARY KEY, n INT)"); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Exec("INSERT INTO reached VALUES (1, 0)"); err != nil {
		t.Fatal(err)
	}
	handles := []*sql.DB{
		open(t, "dblocker", "pgx?lock_scope=database&pooler=transaction:"+one.DSN(d)),
		open(t, "dblocker", "postgres?lock_scope=database&pooler=transaction:"+other.DSN(d)),
		open(t, "dblocker", "pgx?lock_scope=database:"+d.DSN()),
	}
	ways := []func(ctx context.Context, db *sql.DB) error{
		incrementByTx(nil),
		incrementByTx(&sql.TxOptions{Isolation: sql.LevelRepeatableRead}),
		incrementByTx(&sql.TxOptions{Isolation: sql.LevelSerializable}),
		func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "UPDATE reached SET n = n + $1", 1)
			return err
		},
		func(ctx context.Context, db *sql.DB) error {
			return db.QueryRowContext(ctx, "UPDATE reached SET n = n + $1 RETURNING n", 1).Scan(new(int))
		},
		func(ctx context.Context, db *sql.DB) error {
			stmt, err := db.PrepareContext(ctx, "UPDATE reached SET n = n + $1")
			if err != nil {
				return err
			}
			defer stmt.Close()
			_, err = stmt.ExecContext(ctx, 1)
			return err
		},
		func(ctx context.Context, db *sql.DB) error { // a statement beside the request's own Tx
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if err := incrementOn(ctx, db); err != nil {
				return err
			}
			return tx.Commit()
		},
	}
	const workers, rounds = 2, 10
	var all sync.WaitGroup
	for _, db := range handles {
		for range workers {
			all.Go(func() {
				for i := range rounds * len(ways) {
					ctx := dblocker.WithUser(context.Background(), "u")
					if err := ways[i%len(ways)](ctx, db); err != nil {
						t.Errorf("way %d: %v", i%len(ways), err)
					}
				}
			})
		}
	}
	all.Wait()
	var n int
	if err := plain.QueryRow("SELECT n FROM reached").Scan(&n); err != nil || n != len(handles)*workers*rounds*len(ways) {
		t.Errorf("counted %d (%v), want %d", n, err, len(handles)*workers*rounds*len(ways))
	}
	db := handles[0]
	ctx := dblocker.WithUser(context.Background(), "u")
	if _, err := db.ExecContext(ctx, "VACUUM reached"); err == nil || !strings.Contains(err.Error(), "pooler=transaction") {
		t.Errorf("VACUUM: got %v, want an error that names the option", err)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	tx.Exec("SELECT 1/0")
	if err := tx.Commit(); err == nil {
		t.Error("the COMMIT of a failed transaction says nothing")
	}
	if _, unlock, err := dblocker.Lock(ctx, db); err == nil || !strings.Contains(err.Error(), "pooler=transaction") {
		t.Errorf("Lock: got %v, want that it is refused", err)
	} else {
		unlock()
	}
	named := open(t, "dblocker", "pgx?lock_scope=database&pooler=transaction:"+one.DSN(d)+" default_query_exec_mode=cache_statement")
	if err := named.Ping(); err == nil || !strings.Contains(err.Error(), "default_query_exec_mode=exec") {
		t.Errorf("with prepared statements: got %v, want what to write instead", err)
	}
}
