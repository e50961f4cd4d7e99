package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
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
			bubble(t, func(t *testing.T) {
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

// gateWaysToConn are the ways in which a call that nobody owns comes to wait for a server
// connection while it has the gate of a SQLite database, or a part of it. Those that only
// read have none of a file in WAL mode.
var gateWaysToConn = map[string]struct {
	reads bool
	call  func(db *sql.DB) error
}{
	"exec": {call: func(db *sql.DB) error { return second(db.Exec("UPDATE counters SET n = 1")) }},
	"exec of a user without an owner": {call: func(db *sql.DB) error {
		return execCounters(asY(context.Background()), db)
	}},
	"exec on a connection": {call: func(db *sql.DB) error {
		c, err := db.Conn(context.Background())
		if err != nil {
			return err
		}
		defer c.Close()
		return execCounters(context.Background(), c)
	}},
	"query that writes": {call: func(db *sql.DB) error {
		return db.QueryRow("UPDATE counters SET n = 1 RETURNING n").Scan(new(int))
	}},
	"transaction in SQL": {call: func(db *sql.DB) error {
		c, err := db.Conn(context.Background())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.ExecContext(context.Background(), "BEGIN IMMEDIATE")
		if err == nil {
			_, err = c.ExecContext(context.Background(), "ROLLBACK")
		}
		return err
	}},
	"query": {reads: true, call: func(db *sql.DB) error {
		return db.QueryRow("SELECT n FROM counters").Scan(new(int))
	}},
	"prepare": {reads: true, call: func(db *sql.DB) error {
		stmt, err := db.Prepare("SELECT n FROM counters")
		if err == nil {
			stmt.Close()
		}
		return err
	}},
	"transaction": {reads: true, call: func(db *sql.DB) error { // which draws its connection early
		tx, err := db.Begin()
		if err == nil {
			tx.Rollback()
		}
		return err
	}},
}

func execCounters(ctx context.Context, e execer) error {
	return second(e.ExecContext(ctx, "UPDATE counters SET n = 1"))
}

// TestCirclesThroughConnectionsAtTheGateAreFound: a call that nobody owns has the gate and
// waits for a connection, and who has the connection waits for the gate, be it a user's or nobody's.
func TestCirclesThroughConnectionsAtTheGateAreFound(t *testing.T) {
	for name, way := range gateWaysToConn {
		for _, mode := range []string{"WAL", "DELETE"} {
			if way.reads && mode == "WAL" {
				continue
			}
			for whose, z := range map[string]context.Context{"a user": asUser("z"), "nobody": context.Background()} {
				t.Run(name+"/"+mode+"/"+whose, func(t *testing.T) {
					db := openJournal(t, mode, "max_open_conns=1&lock_timeout=1m")
					c, err := db.Conn(z)
					must(t, err)
					defer c.Close()
					must(t, execCounters(z, c)) // it keeps the connection

					first := make(chan error, 1)
					go func() { first <- way.call(db) }()
					waitFor(t, func() bool { return waitingForConn(t, db) == 1 })
					wantCircle(t, func() error { return execCounters(z, c) }, func() { c.Close() }, first)
				})
			}
		}
	}
}

// TestTransactionThatDrawsLateIsInCircle: a transaction of nobody that has passed the gate
// waits for a connection in place of the one that it gave back.
func TestTransactionThatDrawsLateIsInCircle(t *testing.T) {
	for _, opts := range []sql.TxOptions{{}, {ReadOnly: true}} {
		for _, mode := range []string{"WAL", "DELETE"} {
			if opts.ReadOnly && mode == "WAL" {
				continue
			}
			t.Run(fmt.Sprintf("read-only=%v/%s", opts.ReadOnly, mode), func(t *testing.T) {
				db := openJournal(t, mode, "max_open_conns=2&lock_timeout=1m")
				z := asUser("z")
				c, err := db.Conn(z)
				must(t, err)
				defer c.Close()
				tx, err := db.BeginTx(context.Background(), &opts)
				must(t, err)
				defer tx.Rollback()
				must(t, second(c.ExecContext(z, "BEGIN IMMEDIATE")))

				first := make(chan error, 1)
				go func() { first <- tx.QueryRow("SELECT n FROM counters").Scan(new(int)) }()
				waitFor(t, func() bool { return waitingAtGates() == 1 })
				defer takeSlot(t, db, z)()
				must(t, second(c.ExecContext(z, "COMMIT")))
				waitFor(t, func() bool { return waitingForConn(t, db) == 1 })
				wantCircle(t, func() error { return execCounters(z, c) }, func() { c.Close() }, first)
			})
		}
	}
}

// takeSlot takes the place of a server connection for the request of ctx.
func takeSlot(t *testing.T, db *sql.DB, ctx context.Context) (giveBack func()) {
	t.Helper()
	_, b, err := backendOf(db)
	must(t, err)
	defer b.Release()
	id, _ := identityFrom(ctx)
	slot := &rwlock.Hold{Owner: id.LockOwner(), Kind: rwlock.Session}
	must(t, b.Servers.Slots.Acquire(ctx, rwlock.Shared, slot, rwlock.Wait{}))
	return slot.Release
}

// wantCircle makes the call that closes a circle with first; end ends it.
func wantCircle(t *testing.T, call func() error, end func(), first chan error) {
	t.Helper()
	start := time.Now()
	err := call()
	waited := time.Since(start)
	end()
	errs := []error{err, <-first}
	if !errors.Is(errs[0], ErrDeadlock) && !errors.Is(errs[1], ErrDeadlock) || errs[0] != nil && errs[1] != nil {
		t.Errorf("got %v; want ErrDeadlock for one of the two", errs)
	}
	if waited > 30*time.Second {
		t.Errorf("the circle was found after %v, want at once", waited)
	}
}

// waitingForConn counts those who wait for a server connection of the handle.
func waitingForConn(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	_, b, err := backendOf(db)
	must(t, err)
	defer b.Release()
	for _, info := range b.Servers.Slots.Snapshot() {
		if info.Waiting {
			n++
		}
	}
	return n
}
