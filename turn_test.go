package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestPinnedCircleIsFound: a call that has the turn on a pinned connection waits for a lock that
// somebody has who waits for the turn. One of them gets ErrDeadlock at once, and the other goes on.
func TestPinnedCircleIsFound(t *testing.T) {
	for name, hold := range map[string]func(t *testing.T, db *sql.DB, ctx context.Context) (inside context.Context, end func()){
		"nested section": func(t *testing.T, db *sql.DB, ctx context.Context) (context.Context, func()) {
			ctx, unlock, err := Lock(WithUser(ctx, 2), db)
			must(t, err)
			return ctx, unlock
		},
		"rows of a fork": func(t *testing.T, db *sql.DB, ctx context.Context) (context.Context, func()) {
			ctx = Fork(WithUser(ctx, 2))
			rows, err := db.QueryContext(WithMode(ctx, Exclusive), "SELECT v FROM t")
			must(t, err)
			return ctx, func() { rows.Close() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db := openStub(t, &stub{})
				ctx, unlock, err := Lock(asUser(1), db, Pin())
				must(t, err)
				defer unlock()
				inside, end := hold(t, db, ctx)
				defer end()

				start := time.Now()
				forked := make(chan error)
				go func() {
					forked <- second(db.ExecContext(Fork(WithUser(ctx, 2)), "UPDATE t SET v = 1")) // has the turn, waits for user 2
				}()
				synctest.Wait()
				err = second(db.ExecContext(inside, "UPDATE t SET v = 1")) // waits for the turn
				if !errors.Is(err, ErrDeadlock) {
					t.Errorf("got %v, want ErrDeadlock", err)
				}
				end()
				must(t, <-forked)
				if waited := time.Since(start); waited != 0 {
					t.Errorf("it took %v", waited)
				}
			})
		})
	}
}

// TestTurnObeysLockTimeout: and a call of the same owner is no reason to wait less.
func TestTurnObeysLockTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		returnNow := make(chan bool)
		db := openStub(t, &stub{run: func(_ context.Context, query string) error {
			if query == "long" {
				<-returnNow
			}
			return nil
		}}, LockTimeout(20*time.Second))
		ctx, unlock, err := Lock(asUser(1), db, Pin())
		must(t, err)
		defer unlock()
		rows, err := db.QueryContext(ctx, "SELECT v FROM t")
		must(t, err)
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		long := make(chan error)
		go func() { long <- second(db.ExecContext(ctx, "long")) }()
		synctest.Wait()
		for name, f := range map[string]func() error{
			"Exec":   func() error { return second(db.ExecContext(ctx, "UPDATE t SET v = 1")) },
			"Commit": tx.Commit,
			"rows":   rows.Close,
		} {
			start := time.Now()
			err := f()
			if waited := time.Since(start); waited > 20*time.Second {
				t.Errorf("%s waited %v", name, waited)
			}
			if name != "rows" && !errors.Is(err, ErrLockTimeout) {
				t.Errorf("%s: got %v, want ErrLockTimeout", name, err)
			}
		}
		close(returnNow)
		must(t, <-long)
		unlock()
		if !isFree(t, db, 1) {
			t.Error("the lock is still taken")
		}
		synctest.Wait()
	})
}

// TestTurnIsTriedByMany: a fill and the end of a section try at any time, and have it one at a time.
func TestTurnIsTriedByMany(t *testing.T) {
	turn := newTurn()
	var tries sync.WaitGroup
	var n int // guarded by the turn
	for range 4 {
		tries.Go(func() {
			for range 1000 {
				if turn.tryLock() {
					n++
					turn.unlock()
				}
			}
		})
	}
	if tries.Wait(); n == 0 || !turn.tryLock() {
		t.Errorf("had by %d, the turn is not free", n)
	}
}

// TestDueIsSweptWhoeverHasTheTurn: the end of a section that finds a client connection or the turn in use leaves what
// is due to whoever uses them, in whatever order they let go of both.
func TestDueIsSweptWhoeverHasTheTurn(t *testing.T) {
	db := openStub(t, &stub{})
	ctx, unlock, err := Lock(asUser(1), db, Pin())
	must(t, err)
	defer unlock()
	var on [2]*conn
	for i := range on {
		dc, err := db.Conn(ctx)
		must(t, err)
		defer dc.Close()
		must(t, second(dc.ExecContext(ctx, "UPDATE t SET v = 1")))
		must(t, dc.Raw(func(dc any) error { on[i] = dc.(*conn); return nil }))
	}
	due, other := on[0], on[1]
	p := due.pinned
	p.reach.over = true // so that look does not begin again
	call := func() {
		must(t, other.enter())
		other.leave()
	}
	for name, meanwhile := range map[string][]func(){
		"call": {call},
		"fill": {call, func() {
			if due.tryEnter() {
				due.leaveFill()
			}
		}},
		"look": {func() { p.look(nil) }},
		"sweep": {func() {
			other.resident.Due.Store(true)
			other.sweep()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			lost := 0
			for range 5000 {
				due.resident.Due.Store(true)
				var all sync.WaitGroup
				for _, f := range append(meanwhile, due.sweep) {
					all.Go(f)
				}
				all.Wait()
				if due.resident.Due.Load() || other.resident.Due.Load() {
					lost++
					due.sweep()
					other.sweep()
				}
			}
			if lost > 0 {
				t.Errorf("nobody swept, %d times", lost)
			}
		})
	}
}
