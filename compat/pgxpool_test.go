package compat

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// openPgxPool opens a handle on a pool of pgx that has so many connections.
func openPgxPool(t *testing.T, most int32) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(testdb.Postgres(t).NewDatabase(t).DSN())
	fatal(t, err)
	cfg.MaxConns = most
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	fatal(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// TestPgxPoolIsShared: a handle on a pool of pgx keeps none of its connections, so that more users
// than there are get on, and others who use the pool as it is.
func TestPgxPoolIsShared(t *testing.T) {
	pool := openPgxPool(t, 4)
	db, err := dblocker.OpenDB(stdlib.GetPoolConnector(pool))
	fatal(t, err)
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for user := range 8 {
		wg.Go(func() {
			ctx := dblocker.WithUser(ctx, user+1)
			for range 50 {
				if err := db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)); err != nil {
					t.Errorf("a user of the handle: %v", err)
				}
				if _, err := db.ExecContext(ctx, "SELECT pg_sleep(0.001)"); err != nil {
					t.Errorf("a user of the handle: %v", err)
				}
			}
		})
		wg.Go(func() {
			for range 50 {
				if _, err := pool.Exec(ctx, "SELECT pg_sleep(0.001)"); err != nil {
					t.Errorf("a user of the pool: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for pool.Stat().AcquiredConns() > 0 && ctx.Err() == nil { // connections go back in the background
		time.Sleep(time.Millisecond)
	}
	if n := pool.Stat().AcquiredConns(); n > 0 {
		t.Errorf("%d connections of the pool are kept by a handle that nobody uses", n)
	}
}

// TestPgxPoolThatIsUsedUp: where others have all connections of the pool, the wait for one ends with
// lock_timeout, as it does with the context.
func TestPgxPoolThatIsUsedUp(t *testing.T) {
	pool := openPgxPool(t, 1)
	db, err := dblocker.OpenDB(stdlib.GetPoolConnector(pool), dblocker.LockTimeout(50*time.Millisecond))
	fatal(t, err)
	defer db.Close()
	other, err := pool.Acquire(context.Background())
	fatal(t, err)
	ctx, cancel := context.WithTimeout(dblocker.WithUser(context.Background(), 1), time.Minute)
	defer cancel()
	if _, err := db.ExecContext(ctx, "SELECT 1"); !errors.Is(err, dblocker.ErrLockTimeout) {
		t.Errorf("the wait for the pool ended with %v", err)
	}
	other.Release()
	_, err = db.ExecContext(ctx, "SELECT 1")
	fatal(t, err)
}

// TestPgxSecondName: the driver's other name is good in a DSN too.
func TestPgxSecondName(t *testing.T) {
	db := open(t, "dblocker", "pgx/v5?lock_timeout=30s:"+testdb.Postgres(t).NewDatabase(t).DSN())
	if got := one(t, db, "SELECT 1"); got != "1" {
		t.Errorf("got %s", got)
	}
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
