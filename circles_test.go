package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A wayToConn is a way in which a call of a statement comes to wait for a server connection
// while it has a lock of the user "y". prepare is what the request has before that; it
// takes taken connections of the handle.
type wayToConn struct {
	taken   int
	prepare func(t *testing.T, db *sql.DB) (ctx context.Context, end func())
	call    func(ctx context.Context, db *sql.DB) error
}

// asY returns a context of the user y, of the owner of ctx.
func asY(ctx context.Context) context.Context { return context.WithValue(ctx, UserKey, "y") }

func execAsY(ctx context.Context, db *sql.DB) error {
	return second(db.ExecContext(asY(ctx), "UPDATE t"))
}

// inRows opens rows with ctx.
func inRows(t *testing.T, db *sql.DB, ctx context.Context) (end func()) {
	t.Helper()
	rows, err := db.QueryContext(ctx, "SELECT 1")
	must(t, err)
	if !rows.Next() {
		t.Fatal("no row")
	}
	return func() { rows.Close() }
}

var waysToConn = map[string]wayToConn{
	"exec": {
		prepare: func(*testing.T, *sql.DB) (context.Context, func()) { return asUser("x"), func() {} },
		call:    execAsY,
	},
	"exec in own rows": {
		taken: 1,
		prepare: func(t *testing.T, db *sql.DB) (context.Context, func()) {
			ctx := asUser("x")
			return ctx, inRows(t, db, ctx)
		},
		call: execAsY,
	},
	"exec of the user whose rows they are": {
		taken: 1,
		prepare: func(t *testing.T, db *sql.DB) (context.Context, func()) {
			ctx := asUser("y")
			return ctx, inRows(t, db, ctx)
		},
		call: execAsY,
	},
	"exec in rows in a section": {
		taken: 1,
		prepare: func(t *testing.T, db *sql.DB) (context.Context, func()) {
			ctx, unlock, err := Lock(asUser("x"), db)
			must(t, err)
			closeRows := inRows(t, db, ctx)
			return ctx, func() { closeRows(); unlock() }
		},
		call: execAsY,
	},
	"exec in a pinned section": {
		prepare: func(t *testing.T, db *sql.DB) (context.Context, func()) {
			ctx, unlock, err := Lock(asUser("x"), db, Pin())
			must(t, err)
			return ctx, unlock
		},
		call: execAsY,
	},
	"exec of another request in a pinned section": {
		prepare: func(t *testing.T, db *sql.DB) (context.Context, func()) {
			ctx, unlock, err := Lock(asUser("x"), db, Pin())
			must(t, err)
			return Fork(ctx), unlock
		},
		call: execAsY,
	},
	"prepared exec": {
		prepare: func(*testing.T, *sql.DB) (context.Context, func()) { return asUser("x"), func() {} },
		call: func(ctx context.Context, db *sql.DB) error {
			c, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			return second(c.ExecContext(asY(ctx), "UPDATE t"))
		},
	},
	"query that writes": {
		prepare: func(*testing.T, *sql.DB) (context.Context, func()) { return asUser("x"), func() {} },
		call: func(ctx context.Context, db *sql.DB) error {
			rows, err := db.QueryContext(asY(ctx), "UPDATE t RETURNING v")
			if err == nil {
				rows.Close()
			}
			return err
		},
	},
	"transaction": {
		prepare: func(*testing.T, *sql.DB) (context.Context, func()) { return asUser("x"), func() {} },
		call: func(ctx context.Context, db *sql.DB) error {
			tx, err := db.BeginTx(asY(ctx), nil)
			if err == nil {
				tx.Rollback()
			}
			return err
		},
	},
}

// TestCirclesThroughConnectionsAreFound: one request has the lock of y and waits for a
// connection, and who has the connection waits for the lock. That is found at once.
func TestCirclesThroughConnectionsAreFound(t *testing.T) {
	for name, way := range waysToConn {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := openStub(t, &stub{}, MaxOpenConns(way.taken+1))
				defer db.Close()
				ctx, end := way.prepare(t, db)
				defer end()
				z := asUser("z")
				c, err := db.Conn(z)
				must(t, err)
				defer c.Close()
				must(t, second(c.ExecContext(z, "UPDATE t"))) // it keeps the connection

				start := time.Now()
				first := make(chan error, 1)
				go func() { first <- way.call(ctx, db) }()
				synctest.Wait()
				err = second(c.ExecContext(asY(z), "UPDATE t"))
				c.Close()
				errs := []error{err, <-first}
				if !errors.Is(errs[0], ErrDeadlock) && !errors.Is(errs[1], ErrDeadlock) || errs[0] != nil && errs[1] != nil {
					t.Errorf("got %v; want ErrDeadlock for one of the two", fmt.Sprint(errs))
				}
				if waited := time.Since(start); waited != 0 {
					t.Errorf("the circle was found after %v, want at once", waited)
				}
			})
		})
	}
}
