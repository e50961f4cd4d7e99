package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/sqlite"
)

// expectOwnSection checks that a wait has ended because of the caller's own section.
func expectOwnSection(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrDeadlock) {
		t.Errorf("got %v, want ErrDeadlock", err)
		return
	}
	for _, want := range []string{"caller's own section", "pass its handle or its context on", "WithUser"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}

// TestStoreHandleInsideAnother: helpers that call each other, each with a handle of its own and a
// context without a user, wait for themselves no longer than self_wait, and are told so.
func TestStoreHandleInsideAnother(t *testing.T) {
	request, end := context.WithCancel(context.Background())
	defer end()
	for name, ctx := range map[string]context.Context{"background": context.Background(), "request": request} {
		t.Run(name, func(t *testing.T) {
			onStores(t, func(t *testing.T, s *Store, driver string) {
				s.own.c.selfWait = 100 * time.Millisecond
				for outerName, outer := range map[string]func(any, context.Context, string) (context.CancelFunc, *sqlx.DB, error){"read": s.ReadGetDB, "write": s.RWGetDB} {
					cancel, db, err := outer(1, ctx, "outer")
					must(t, err)
					must(t, db.Get(new(int), "SELECT n FROM counters WHERE id = '1'"))
					start := time.Now()
					_, _, err = s.RWGetDB(1, ctx, "inner")
					expectOwnSection(t, err)
					if waited := time.Since(start); waited < 90*time.Millisecond || waited > 20*time.Second || !strings.Contains(err.Error(), "outer") {
						t.Errorf("inside one that may %s: %v after %v", outerName, err, waited)
					}
					must(t, db.Get(new(int), "SELECT n FROM counters WHERE id = '1'"))
					cancel()
				}
			})
		})
	}
}

// TestSectionInsideAnotherOfNobody is the same for the other sections that need no owner, and
// for a statement.
func TestSectionInsideAnotherOfNobody(t *testing.T) {
	keyed := withUserKey(context.Background(), 1)
	lockUsers := func(db *sql.DB) error {
		_, _, err := LockUsers(context.Background(), db, 1, 2)
		return err
	}
	for name, inner := range map[string]func(db *sql.DB) error{
		"LockUsers": lockUsers,
		"LockAll":   func(db *sql.DB) error { return second2(LockAll(context.Background(), db)) },
		"Lock":      func(db *sql.DB) error { return second2(Lock(keyed, db)) },
		"Exec":      func(db *sql.DB) error { return second(db.ExecContext(keyed, "UPDATE t SET v = 1")) },
		"WithUser":  func(db *sql.DB) error { return second(db.ExecContext(asUser(1), "UPDATE t SET v = 1")) },
		"BeginTx":   func(db *sql.DB) error { return second(db.BeginTx(keyed, nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db := openStub(t, &stub{})
				_, unlock, err := LockUsers(context.Background(), db, 1, 3)
				must(t, err)
				start := time.Now()
				expectOwnSection(t, inner(db))
				if waited := time.Since(start); waited != 5*time.Second {
					t.Errorf("waited %v, want self_wait", waited)
				}
				unlock()
				synctest.Wait()
			})
		})
	}
}

func second2[A, B, C any](_ A, _ B, c C) C { return c }

// TestReadInsideAnotherBehindAWriter: a handle that reads, asked for by who has one already, does not
// wait for a writer that waits for the first.
func TestReadInsideAnotherBehindAWriter(t *testing.T) {
	onStores(t, func(t *testing.T, s *Store, driver string) {
		cancel, _, err := s.ReadGetDB(1, context.Background(), "outer")
		must(t, err)
		wrote := make(chan error)
		go func() {
			wrote <- s.RWDo(1, context.Background(), "writer", func(db *sqlx.DB) error { return nil })
		}()
		waitFor(t, func() bool { return first(Stats(s.DB())).Waiting == 1 })
		start := time.Now()
		must(t, s.ReadDo(1, context.Background(), "inner", func(db *sqlx.DB) error {
			return db.Get(new(int), "SELECT n FROM counters WHERE id = '1'")
		}))
		if waited := time.Since(start); waited > 4*time.Second {
			t.Errorf("the inner one waited %v", waited)
		}
		stranger := make(chan error)
		go func() {
			stranger <- s.ReadDo(1, context.Background(), "stranger", func(db *sqlx.DB) error { return nil })
		}()
		waitFor(t, func() bool { return first(Stats(s.DB())).Waiting == 2 })
		cancel()
		must(t, <-wrote)
		must(t, <-stranger)
	})
}

// TestUserInASectionThatHasJoinedAnother: a section that reads beside one that the same goroutine has begun
// is of the same owner, also for whoever is tagged with another user in it.
func TestUserInASectionThatHasJoinedAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{})
		keyed := withUserKey(context.Background(), 1)
		outer, unlockOuter, err := RLock(keyed, db)
		must(t, err)
		wrote := make(chan error)
		go func() { wrote <- second(db.ExecContext(asUser(1), "UPDATE t SET v = 1")) }()
		synctest.Wait()
		inner, unlock, err := RLock(keyed, db) // behind the writer, but for the first
		must(t, err)
		rows, err := db.QueryContext(WithUser(outer, 2), "SELECT v FROM t")
		must(t, err)
		start := time.Now()
		_, err = db.ExecContext(WithUser(inner, 2), "UPDATE t SET v = 1")
		must(t, err)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("a write waited %v for rows of the same request", waited)
		}
		must(t, rows.Close())
		unlock()
		unlockOuter()
		must(t, <-wrote)
	})
}

// TestStrangersWithOneContext: another goroutine that has the lock may take its time, and so may
// one that has the caller's section and works in it.
func TestStrangersWithOneContext(t *testing.T) {
	for name, work := range map[string]func(db *sql.DB, begin func() (context.Context, func())){
		"begun by another": func(db *sql.DB, begin func() (context.Context, func())) {
			began := make(chan bool)
			go func() {
				_, unlock := begin()
				close(began)
				time.Sleep(time.Minute)
				unlock()
			}()
			<-began
		},
		"passed on to another": func(db *sql.DB, begin func() (context.Context, func())) {
			ctx, unlock := begin()
			go func() {
				time.Sleep(time.Second)
				db.ExecContext(ctx, "UPDATE t SET v = 1")
				time.Sleep(59 * time.Second)
				unlock()
			}()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db := openStub(t, &stub{}, LockTimeout(2*time.Minute))
				start := time.Now()
				work(db, func() (context.Context, func()) {
					ctx, unlock, err := LockUsers(context.Background(), db, 1)
					must(t, err)
					return ctx, unlock
				})
				_, unlock, err := LockUsers(context.Background(), db, 1)
				if err != nil || time.Since(start) != time.Minute {
					t.Errorf("after %v: %v", time.Since(start), err)
				}
				unlock()
				synctest.Wait()
			})
		})
	}
}

// TestStoreHandleAtItsOwnGate: on SQLite a handle waits at the gate for what the same goroutine has
// left open with a handle of another user.
func TestStoreHandleAtItsOwnGate(t *testing.T) {
	s := sqliteStore(t, SelfWait(50*time.Millisecond))
	cancel, db, err := s.RWGetDB(1, context.Background(), "outer")
	must(t, err)
	defer cancel()
	tx := db.MustBegin()
	defer tx.Rollback()
	tx.MustExec("UPDATE counters SET n = 1 WHERE id = '1'")
	err = s.RWDo(2, context.Background(), "inner", func(db *sqlx.DB) error {
		return second(db.Exec("UPDATE counters SET n = 1 WHERE id = '2'"))
	})
	expectOwnSection(t, err)
}

// TestSameContextIsNamed: a wait in vain for a section that another goroutine has begun with the
// same context says so.
func TestSameContextIsNamed(t *testing.T) {
	request, end := context.WithCancel(context.Background())
	defer end()
	for ctx, want := range map[context.Context]bool{request: true, context.Background(): false} {
		db := openStub(t, &stub{}, LockTimeout(0))
		unlocks := make(chan func())
		go func() {
			_, unlock, err := LockUsers(ctx, db, 1)
			if err != nil {
				t.Error(err)
			}
			unlocks <- unlock
		}()
		unlock := <-unlocks
		_, _, err := LockUsers(ctx, db, 1)
		if !errors.Is(err, ErrLockTimeout) || strings.Contains(err.Error(), "begun with the same context") != want {
			t.Errorf("%v: %v", ctx, err)
		}
		unlock()
	}
}

// TestHandleSaysWhatEndedIt: its cancel, its context, or the end of the Store.
func TestHandleSaysWhatEndedIt(t *testing.T) {
	s := sqliteStore(t)
	ctx, end := context.WithCancel(context.Background())
	_, db, err := s.RWGetDB(1, ctx, "test")
	must(t, err)
	end()
	waitFor(t, func() bool { return db.Ping() != nil })
	if err := db.Ping(); !errors.Is(err, context.Canceled) || errors.Is(err, ErrReleased) || !strings.Contains(err.Error(), "ended with the context") {
		t.Errorf("after the end of its context: %v", err)
	}
	var all []*sqlx.DB
	for range 3 * keptHandles {
		cancel, db, err := s.ReadGetDB(1, context.Background(), "test")
		must(t, err)
		must(t, db.Get(new(int), "SELECT n FROM counters WHERE id = '1'"))
		cancel()
		all = append(all, db)
	}
	for i, db := range all {
		if err := db.Ping(); saysGivenBack(err) != (i >= 2*keptHandles) || err == nil {
			t.Errorf("handle %d: %v", i, err)
		}
		if n := db.Stats().OpenConnections; n != 0 {
			t.Errorf("handle %d has %d connections", i, n)
		}
	}
}

// TestCircleThroughTheServer: a worker locks a job's row in a transaction for nobody, and goes on
// for the job's user, whose own statement waits on the server for the row. The worker learns it, and
// when it has rolled back the user's statement goes on.
func TestCircleThroughTheServer(t *testing.T) {
	onEngines(t, "self_wait=200ms", func(t *testing.T, db *sql.DB, c *Connector) {
		if c.engine == sqlite.Engine {
			t.Skip("has one gate instead")
		}
		tx, err := db.Begin()
		must(t, err)
		defer tx.Rollback()
		must(t, tx.QueryRow("SELECT id FROM counters WHERE id = '1' FOR UPDATE").Scan(new(string)))
		done := make(chan error)
		go func() { done <- second(db.ExecContext(asUser(1), "UPDATE counters SET n = 7 WHERE id = '1'")) }()
		waitFor(t, func() bool { return first(Stats(db)).Held == 1 })
		start := time.Now()
		_, err = tx.ExecContext(asUser(1), "UPDATE counters SET n = 8 WHERE id = '2'")
		if !errors.Is(err, ErrDeadlock) || time.Since(start) > 20*time.Second {
			t.Errorf("the worker got %v after %v", err, time.Since(start))
		}
		for _, want := range []string{"wait on the server for rows", "begin the transaction with a context of dblocker.WithUser"} {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("the error does not say %q: %v", want, err)
			}
		}
		must(t, tx.Rollback())
		must(t, <-done)
	})
}

// TestWhatIsTakenForACircleThroughTheServer: one call that has been running for self_wait, be it
// of whatever the user has; not several short ones, nor what is going on outside of calls.
func TestWhatIsTakenForACircleThroughTheServer(t *testing.T) {
	for _, tc := range []struct {
		name   string
		holder func(ctx context.Context, db *sql.DB, statement func(ctx context.Context, on execer))
		circle bool
	}{
		{"a statement", func(ctx context.Context, db *sql.DB, statement func(context.Context, execer)) { statement(ctx, db) }, true},
		{"a transaction", func(ctx context.Context, db *sql.DB, statement func(context.Context, execer)) {
			tx, err := db.BeginTx(ctx, nil)
			if err == nil {
				statement(ctx, tx)
				tx.Rollback()
			}
		}, true},
		{"a section", func(ctx context.Context, db *sql.DB, statement func(context.Context, execer)) {
			ctx, unlock, err := Lock(ctx, db)
			if err == nil {
				statement(ctx, db)
				unlock()
			}
		}, true},
		{"a transaction in a section", func(ctx context.Context, db *sql.DB, statement func(context.Context, execer)) {
			ctx, unlock, err := Lock(ctx, db)
			if err == nil {
				tx, err := db.BeginTx(ctx, nil)
				if err == nil {
					statement(ctx, tx)
				}
				unlock()
			}
		}, true},
		{"other work", func(ctx context.Context, db *sql.DB, statement func(context.Context, execer)) {
			_, unlock, err := Lock(ctx, db)
			if err == nil {
				time.Sleep(time.Minute)
				unlock()
			}
		}, false},
		{"short statements", func(ctx context.Context, db *sql.DB, statement func(context.Context, execer)) {
			tx, err := db.BeginTx(ctx, nil)
			if err == nil {
				for range 60 {
					tx.ExecContext(ctx, "UPDATE short")
				}
				tx.Rollback()
			}
		}, false},
	} {
		for _, joins := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, joins=%v", tc.name, joins), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					db := openStub(t, &stub{run: func(ctx context.Context, query string) error {
						switch query {
						case "UPDATE long":
							time.Sleep(time.Minute)
						case "UPDATE short":
							time.Sleep(time.Second)
						}
						return nil
					}}, LockTimeout(2*time.Minute))
					ctx := context.Background()
					if !joins {
						ctx = asUser(1)
					}
					tx, err := db.Begin()
					must(t, err)
					go tc.holder(asUser(1), db, func(ctx context.Context, on execer) { on.ExecContext(ctx, "UPDATE long") })
					synctest.Wait()
					start := time.Now()
					if joins {
						_, err = tx.ExecContext(asUser(1), "UPDATE t")
					} else {
						_, err = db.ExecContext(ctx, "UPDATE t")
					}
					want := time.Minute
					if tc.circle && joins {
						want = 5 * time.Second
					}
					if waited := time.Since(start); waited != want || errors.Is(err, ErrDeadlock) != (tc.circle && joins) {
						t.Errorf("got %v after %v, want an end after %v", err, waited, want)
					}
					tx.Rollback()
					time.Sleep(time.Minute)
				})
			})
		}
	}
}
