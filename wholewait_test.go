package dblocker

import (
	"context"
	"database/sql"
	"testing"
	"testing/synctest"
	"time"
)

// TestGivingWayIsOneWait: a request that gives way to others, or has its rows make way, and asks again, waits once. Nobody
// is told of a deadlock, since there is none.
func TestGivingWayIsOneWait(t *testing.T) {
	for _, tc := range []struct {
		name    string
		dialect string
		scene   func(t *testing.T, db *sql.DB)
		waits   int
	}{
		{"at a gate that the same user keeps", "sqlite", func(t *testing.T, db *sql.DB) { beginBeside(t, db, 1) }, 1},
		{"at a gate that another user keeps", "sqlite", func(t *testing.T, db *sql.DB) { beginBeside(t, db, 2) }, 1},
		{"at the gate, in a circle", "sqlite", beginInCircle, 2},
		{"a statement in rows", "postgres", func(t *testing.T, db *sql.DB) {
			writeInRows(t, db, func(ctx context.Context) error { return execAs(db, ctx) })
		}, 2},
		{"a section in rows", "postgres", func(t *testing.T, db *sql.DB) {
			writeInRows(t, db, func(ctx context.Context) error {
				_, unlock, err := Lock(ctx, db)
				unlock()
				return err
			})
		}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var l eventLog
				db := openStub(t, &stub{}, Dialect(tc.dialect), l.option())
				tc.scene(t, db)
				synctest.Wait()
				ended := l.of(EventWaitEnded)
				for _, e := range ended {
					if e.Outcome != OutcomeGranted {
						t.Errorf("a wait that was granted in the end is told as %s: %+v", e.Outcome, e)
					}
				}
				if began := l.of(EventWaitBegan); len(began) != tc.waits || len(ended) != tc.waits {
					t.Errorf("%d waits are told to begin, and %d to end, want %d: %+v", len(began), len(ended), tc.waits, ended)
				}
				st, err := Stats(db)
				must(t, err)
				if st.Locks.Waits != int64(tc.waits) || st.Locks.Deadlocks != 0 {
					t.Errorf("counted are %+v, want %d waits and no deadlock", st.Locks, tc.waits)
				}
			})
		})
	}
}

// beginBeside begins a transaction of user 1 while one of the user has the gate.
func beginBeside(t *testing.T, db *sql.DB, user int) {
	first, err := db.BeginTx(asUser(user), nil)
	must(t, err)
	mustExec(t, first, "UPDATE t SET v = 1")
	done := make(chan error, 1)
	go func() {
		tx, err := db.BeginTx(asUser(1), nil)
		if err == nil {
			err = tx.Rollback()
		}
		done <- err
	}()
	time.Sleep(time.Second)
	must(t, first.Commit())
	must(t, <-done)
}

// beginInCircle has a transaction want the gate, with its user's lock, while who has the gate wants that lock.
func beginInCircle(t *testing.T, db *sql.DB) {
	tx, err := db.BeginTx(asUser(1), nil)
	must(t, err)
	hasGate, err := db.Begin()
	must(t, err)
	mustExec(t, hasGate, "UPDATE t SET v = 1")
	done := make(chan error, 1)
	go func() {
		_, err := tx.ExecContext(asUser(1), "UPDATE t SET v = 2")
		done <- err
	}()
	synctest.Wait()
	_, err = hasGate.ExecContext(asUser(1), "UPDATE t SET v = 3")
	must(t, err)
	must(t, hasGate.Commit())
	must(t, <-done)
	must(t, tx.Commit())
}

// writeInRows has two requests of user 1 write in rows of theirs, each in the way of the other.
func writeInRows(t *testing.T, db *sql.DB, write func(context.Context) error) {
	open := func() (context.Context, *sql.Rows) {
		ctx := asUser(1)
		rows, err := db.QueryContext(ctx, "SELECT v FROM t")
		must(t, err)
		rows.Next()
		return ctx, rows
	}
	ctx1, rows1 := open()
	ctx2, rows2 := open()
	done := make(chan error, 1)
	go func() {
		done <- write(ctx1)
		rows1.Close()
	}()
	synctest.Wait()
	must(t, write(ctx2))
	must(t, rows2.Close())
	must(t, <-done)
}
