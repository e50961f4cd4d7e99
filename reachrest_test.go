package dblocker

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"
)

// Locks rest on a connection for a while when nobody relies on them any more: see server.Conn.Rest. What follows is that nobody is kept
// out by one.

// eachReach runs a test with two handles that stand for processes, on each engine. wait is with a lock_timeout of a second.
func eachReach(t *testing.T, test func(t *testing.T, process func(...Option) *sql.DB)) {
	t.Run("postgres", func(t *testing.T) {
		s := newReachScene(t)
		test(t, s.process)
	})
	t.Run("mysql", func(t *testing.T) {
		s := newReachMySQLScene(t)
		test(t, s.process)
	})
}

const touchCounters = "UPDATE counters SET n = n + 1 WHERE name = 'a'"

// TestReachRunEnds: while one process goes on with a user, under a lock that it does not give up in between, another that waits gets in after a
// few calls, in whatever way the first works.
func TestReachRunEnds(t *testing.T) {
	works := []reachWork{
		{"Exec", func(ctx context.Context, db *sql.DB) error { _, err := db.ExecContext(ctx, touchCounters); return err }},
		{"Tx", func(ctx context.Context, db *sql.DB) error { return incrementEmptyTx(ctx, db) }},
		{"section", func(ctx context.Context, db *sql.DB) error {
			return Do(ctx, db, func(context.Context) error { return nil })
		}},
	}
	test := func(t *testing.T, process func(...Option) *sql.DB, untilWaits func(), there func() int) {
		const few = 40
		a, b := process(), process()
		ctx := WithUser(context.Background(), "u")
		for i, busy := range works {
			_, unlock, err := Lock(ctx, a)
			must(t, err)
			done := make(chan error, 1)
			go func() {
				_, err := b.ExecContext(WithUser(context.Background(), "u"), "UPDATE counters SET n = n + 1 WHERE name = 'b'")
				done <- err
			}()
			untilWaits()
			unlock()
			for range few {
				must(t, busy.do(ctx, a))
			}
			if n := there(); n != i+1 {
				t.Errorf("another process still waits after %d of %s", few, busy.name)
			}
			must(t, <-done)
		}
	}
	t.Run("postgres", func(t *testing.T) {
		s := newReachScene(t)
		test(t, s.process, s.untilWaits, func() (n int) {
			must(t, s.plain.QueryRow("SELECT n FROM counters WHERE name = 'b'").Scan(&n))
			return n
		})
	})
	t.Run("mysql", func(t *testing.T) {
		s := newReachMySQLScene(t)
		wait := func() { s.until("somebody waits", func() bool { return s.waiting() > 0 }) }
		test(t, s.process, wait, func() int { return s.number("SELECT n FROM counters WHERE name = 'b'") })
	})
}

// TestReachRestInTheWay: what rests on the connection of a sql.Conn, which nobody uses, is in nobody's way, in this process or in another,
// in whatever mode it is wanted.
func TestReachRestInTheWay(t *testing.T) {
	eachReach(t, func(t *testing.T, process func(...Option) *sql.DB) {
		a, b := process(LockTimeout(5*time.Second)), process(LockTimeout(5*time.Second))
		for name, next := range map[string]func(ctx context.Context) error{
			"Exec":    func(ctx context.Context) error { _, err := a.ExecContext(ctx, touchCounters); return err },
			"Tx":      func(ctx context.Context) error { return incrementEmptyTx(ctx, a) },
			"Lock":    func(ctx context.Context) error { return Do(ctx, a, func(context.Context) error { return nil }) },
			"RLock":   func(ctx context.Context) error { return RDo(ctx, a, func(context.Context) error { return nil }) },
			"TryLock": func(ctx context.Context) error { _, unlock, err := TryLock(ctx, a); unlock(); return err },
			"LockAll": func(ctx context.Context) error { _, unlock, err := LockAll(ctx, a); unlock(); return err },
			"there":   func(ctx context.Context) error { _, err := b.ExecContext(ctx, touchCounters); return err },
			"there, LockAll": func(ctx context.Context) error {
				_, unlock, err := LockAll(ctx, b)
				unlock()
				return err
			},
		} {
			for range 5 {
				conn, err := a.Conn(context.Background())
				must(t, err)
				_, err = conn.ExecContext(WithUser(context.Background(), "u"), touchCounters)
				must(t, err)
				if err := next(WithUser(context.Background(), "u")); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				var n int // by the connection again
				must(t, conn.QueryRowContext(WithUser(context.Background(), "v"), "SELECT n FROM counters WHERE name = 'b'").Scan(&n))
				must(t, conn.Close())
			}
		}
	})
}

func incrementEmptyTx(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, touchCounters); err != nil {
		tx.Rollback()
		return err
	}
	return tx.Commit()
}

// TestReachRestsOfOthers: connections go from user to user, whose locks are exchanged on them, and from those who have none, whatever comes
// after whatever; nothing is lost, and no more connections are opened than there are calls at a time.
func TestReachRestsOfOthers(t *testing.T) {
	eachReach(t, func(t *testing.T, process func(...Option) *sql.DB) {
		db := process(MaxOpenConns(2))
		works := []func(ctx context.Context) error{
			func(ctx context.Context) error { _, err := db.ExecContext(ctx, touchCounters); return err },
			func(ctx context.Context) error {
				var n int
				return db.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = 'a'").Scan(&n)
			},
			func(ctx context.Context) error { return incrementEmptyTx(ctx, db) },
			func(ctx context.Context) error { return incrementInRest(ctx, db) },
			func(ctx context.Context) error {
				_, err := db.ExecContext(context.Background(), "UPDATE counters SET n = n WHERE name = 'b'")
				return err
			},
			func(ctx context.Context) error { return db.PingContext(ctx) },
		}
		for range 4 {
			for i := range works {
				for j := range works {
					for k, do := range []func(context.Context) error{works[i], works[j]} {
						if err := do(WithUser(context.Background(), fmt.Sprint("user", (i+j*k)%3))); err != nil {
							t.Fatalf("%d after %d: %v", j, i, err)
						}
					}
				}
			}
		}
	})
}

func incrementInRest(ctx context.Context, db *sql.DB) error {
	return Do(ctx, db, func(ctx context.Context) error { _, err := db.ExecContext(ctx, touchCounters); return err })
}

// TestReachAfterWatchedTx: lib/pq goes on to watch over the context of a transaction that it has begun itself when it ends others. These
// are not closed by it, nor does it panic.
func TestReachAfterWatchedTx(t *testing.T) {
	s := newReachScene(t)
	db := s.process(MaxOpenConns(1))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := range 20 {
		of := ctx
		if i > 0 {
			of = WithUser(ctx, "u")
		}
		if err := incrementEmptyTx(of, db); err != nil {
			t.Fatalf("transaction %d: %v", i+1, err)
		}
	}
	s.checkCounter("all committed", 20)
}
