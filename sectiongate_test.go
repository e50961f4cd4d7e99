package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/server"
)

// addOne reads and writes with Go code in between, and without a transaction.
func addOne(ctx context.Context, db *sql.DB, id string) error {
	var n int64
	if err := db.QueryRowContext(ctx, "SELECT n FROM counters WHERE id = ?", id).Scan(&n); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, "UPDATE counters SET n = ? WHERE id = ?", n+1, id)
	return err
}

// TestSectionsAreNeverBusy: sections lose no update and hear of no lock of SQLite's,
// whoever else writes.
func TestSectionsAreNeverBusy(t *testing.T) {
	onJournals(t, "self_wait=30s", func(t *testing.T, db *sql.DB, mode string) {
		const rounds = 20
		var wg sync.WaitGroup
		work := func(f func() error) {
			wg.Go(func() {
				for range rounds {
					if err := f(); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for _, id := range []string{"1", "1", "2", "2"} {
			work(func() error {
				return Do(asUser(id), db, func(ctx context.Context) error { return addOne(ctx, db, id) })
			})
			work(func() error { // the same in a loop over rows, on one connection
				return Do(asUser(id), db, func(ctx context.Context) error {
					rows, err := db.QueryContext(ctx, "SELECT n FROM counters")
					if err != nil {
						return err
					}
					defer rows.Close()
					rows.Next()
					return addOne(ctx, db, id)
				}, Pin())
			})
		}
		work(func() error { _, err := db.Exec("UPDATE counters SET n = n + 1 WHERE id = '3'"); return err })
		work(func() error {
			_, err := db.ExecContext(asUser(1), "UPDATE counters SET n = n + 1 WHERE id = '3'")
			return err
		})
		work(func() error {
			tx, err := db.BeginTx(asUser(2), nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if _, err := tx.Exec("UPDATE counters SET n = n + 1 WHERE id = '3'"); err != nil {
				return err
			}
			return tx.Commit()
		})
		work(func() error {
			ctx, unlock, err := LockAll(context.Background(), db)
			defer unlock()
			if err != nil {
				return err
			}
			return addOne(ctx, db, "4")
		})
		wg.Wait()
		for id, want := range map[string]int{"1": 4 * rounds, "2": 4 * rounds, "3": 3 * rounds, "4": rounds} {
			var n int
			must(t, db.QueryRow("SELECT n FROM counters WHERE id = ?", id).Scan(&n))
			if n != want {
				t.Errorf("counter %s is %d, want %d", id, n, want)
			}
		}
	})
}

// TestSectionAtTheGate: a section has no part of the gate, but each of its writes waits
// there, and its reads where readers do.
func TestSectionAtTheGate(t *testing.T) {
	onJournals(t, "lock_timeout=20ms", func(t *testing.T, db *sql.DB, mode string) {
		ctx, unlock := beginTest(t, Lock, asUser(1), db)
		defer unlock()
		must(t, addOne(ctx, db, "1"))
		tx, err := db.BeginTx(asUser(2), nil)
		must(t, err)
		mustExec(t, tx, "UPDATE counters SET n = n")
		if _, err := db.ExecContext(ctx, "UPDATE counters SET n = 5"); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("a section writes beside another user's transaction: %v", err)
		}
		_, err = db.ExecContext(WithUser(ctx, 3), "UPDATE counters SET n = 5")
		if !errors.Is(err, ErrLockTimeout) {
			t.Errorf("a section writes for another user beside a transaction: %v", err)
		}
		err = db.QueryRowContext(ctx, "SELECT n FROM counters").Scan(new(int))
		if passes := err == nil; passes != (mode == "WAL") {
			t.Errorf("a section reads beside another user's transaction: %v", err)
		}
		must(t, tx.Rollback())
		must(t, addOne(ctx, db, "1"))
		must(t, addOne(WithUser(ctx, 3), db, "1"))
	})
}

// TestSectionAndGateInACircle: a section waits at the gate for somebody who waits for the
// section.
func TestSectionAndGateInACircle(t *testing.T) {
	onJournals(t, "self_wait=1m", func(t *testing.T, db *sql.DB, mode string) {
		one, unlockOne := beginTest(t, Lock, asUser(1), db)
		two, unlockTwo := beginTest(t, Lock, asUser(2), db)
		tx, err := db.BeginTx(two, nil)
		must(t, err)
		mustExec(t, tx, "UPDATE counters SET n = n")
		atGate := make(chan error)
		go func() { atGate <- addOne(one, db, "1") }()
		waitFor(t, func() bool { return waitingAtGates() == 1 })
		start := time.Now()
		_, unlock, err := Lock(WithUser(two, 1), db)
		unlock()
		if !errors.Is(err, ErrDeadlock) {
			t.Errorf("got %v, want ErrDeadlock", err)
		}
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("it was found after %v", d)
		}
		must(t, tx.Rollback())
		must(t, <-atGate)
		unlockOne()
		unlockTwo()
	})
}

// TestJoinedTransactionAndGateInACircle: a transaction that was begun for nobody has the
// gate for the user who joins it, and so is found in that user's way.
func TestJoinedTransactionAndGateInACircle(t *testing.T) {
	onJournals(t, "self_wait=1m", func(t *testing.T, db *sql.DB, _ string) {
		begins := map[string]func() (execer, func() error){
			"sql.Tx": func() (execer, func() error) {
				tx, err := db.Begin()
				must(t, err)
				return tx, tx.Rollback
			},
			"in SQL": func() (execer, func() error) {
				conn, err := db.Conn(context.Background())
				must(t, err)
				mustExec(t, conn, "BEGIN")
				return conn, func() error { return errors.Join(execError(conn, "ROLLBACK"), conn.Close()) }
			},
		}
		for name, begin := range begins {
			one := asUser(1)
			two, unlockTwo := beginTest(t, Lock, asUser(2), db)
			tx, rollback := begin()
			_, err := tx.ExecContext(one, "UPDATE counters SET n = 0")
			must(t, err)
			atGate := make(chan error)
			go func() { atGate <- addOne(two, db, "1") }()
			waitFor(t, func() bool { return waitingAtGates() == 1 })
			start := time.Now()
			_, unlock, err := Lock(other(one, "2"), db)
			unlock()
			if !errors.Is(err, ErrDeadlock) {
				t.Errorf("%s: a section in a circle: got %v, want ErrDeadlock", name, err)
			}
			if _, err := tx.ExecContext(other(one, "2"), "UPDATE counters SET n = 0"); !errors.Is(err, ErrDeadlock) {
				t.Errorf("%s: a statement in a circle: got %v, want ErrDeadlock", name, err)
			}
			if waited := time.Since(start); waited > 30*time.Second {
				t.Errorf("%s: that took %v", name, waited)
			}
			must(t, rollback())
			must(t, <-atGate)
			unlockTwo()
		}
	})
}

// TestLockAllBesideTheGate: it waits for every user's statement and transaction, and
// keeps out all that come later; and those do not keep from the gate those who need not
// wait for it.
func TestLockAllBesideTheGate(t *testing.T) {
	onJournals(t, "lock_timeout=1m", func(t *testing.T, db *sql.DB, mode string) {
		tx, err := db.BeginTx(asUser(1), nil)
		must(t, err)
		locked := make(chan func())
		go func() {
			_, unlock, err := LockAll(context.Background(), db)
			if err != nil {
				t.Error(err)
			}
			locked <- unlock
		}()
		waitFor(t, func() bool { return len(lockTableOf(t, db).SnapshotAll()) == 1 })
		late := make(chan error, 3)
		write := func(ctx context.Context) { _, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1"); late <- err }
		begin := func(ctx context.Context) {
			tx, err := db.BeginTx(ctx, nil)
			if err == nil {
				err = tx.Rollback()
			}
			late <- err
		}
		go write(asUser(1))
		go begin(asUser(2))
		go write(context.WithValue(context.Background(), UserKey, 3)) // has no owner
		waitFor(t, func() bool { return len(lockTableOf(t, db).SnapshotAll()) == 4 })
		must(t, tx.Rollback())
		unlock := <-locked
		for range 3 {
			must(t, addOne(context.Background(), db, "4"))
		}
		unlock()
		for range 3 {
			must(t, <-late)
		}
	})
}

// TestPinnedConnectionAtTheGate: the statements of a pinned section are on one SQLite
// connection, whichever client connection sends them. So they run beside its rows, and
// inside its transaction.
func TestPinnedConnectionAtTheGate(t *testing.T) {
	onJournals(t, "lock_timeout=1s", func(t *testing.T, db *sql.DB, mode string) {
		ctx, unlock, err := Lock(asUser(1), db, Pin())
		must(t, err)
		defer unlock()

		rows, err := db.QueryContext(ctx, "SELECT id FROM counters")
		must(t, err)
		n := 0
		for ; rows.Next(); n++ {
			if n < 2 {
				_, err := db.Exec("UPDATE counters SET n = n + 1") // a stranger's, in WAL
				if mode == "WAL" {
					must(t, err)
				}
			}
			must(t, addOne(ctx, db, "1"))
		}
		must(t, rows.Err())
		if n != 4 {
			t.Errorf("%d rows, want 4", n)
		}

		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		must(t, addOne(ctx, db, "2"))
		rows, err = db.QueryContext(ctx, "SELECT id FROM counters") // not the Tx's own
		must(t, err)
		rows.Next()
		must(t, addOne(ctx, db, "2"))
		must(t, tx.Commit())
		if _, err := db.Exec("UPDATE counters SET n = n + 1"); err != nil {
			t.Errorf("a stranger writes beside rows from a pinned transaction that has ended: %v", err)
		}
		for n = 1; rows.Next(); n++ {
		}
		if rows.Err() != nil || n != 4 {
			t.Errorf("%d rows, %v", n, rows.Err())
		}
	})
}

// TestPinnedTransactionIsLostForAll: what SQLite has rolled back cannot be written on
// with, by whatever client connection.
func TestPinnedTransactionIsLostForAll(t *testing.T) {
	db := openJournal(t, "WAL", "")
	ctx, unlock, err := Lock(asUser(1), db, Pin())
	must(t, err)
	defer unlock()
	tx, err := db.BeginTx(ctx, nil)
	must(t, err)
	err = untilRunning(ctx, func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, endlessWrite)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the long write: %v", err)
	}
	if _, err := tx.Exec("UPDATE counters SET n = 7"); !errors.Is(err, ErrRolledBack) {
		t.Errorf("the transaction goes on: %v", err)
	}
	if _, err := db.ExecContext(ctx, "UPDATE counters SET n = 7"); !errors.Is(err, ErrRolledBack) {
		t.Errorf("beside the transaction: %v", err)
	}
	if err := tx.Commit(); !errors.Is(err, ErrRolledBack) {
		t.Errorf("Commit: %v", err)
	}
	must(t, addOne(ctx, db, "1"))
}

// TestPinnedCallsDoNotWaitInACircle: one has the connection and waits at the gate, the
// other has the gate and waits for the connection.
func TestPinnedCallsDoNotWaitInACircle(t *testing.T) {
	onJournals(t, "lock_timeout=1m", func(t *testing.T, db *sql.DB, mode string) {
		ctx, unlock, err := Lock(asUser(1), db, Pin())
		must(t, err)
		defer unlock()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				conn, err := db.Conn(ctx)
				must(t, err)
				defer conn.Close()
				for range 30 {
					if _, err := conn.ExecContext(ctx, "UPDATE counters SET n = n + 1"); err != nil {
						t.Error(err)
						return
					}
					if _, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1"); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

// TestStmtCloseWaitsForNobody: database/sql may call it with its pool locked, so not for a
// pinned connection either.
func TestStmtCloseWaitsForNobody(t *testing.T) {
	db := openJournal(t, "WAL", "lock_timeout=1m")
	ctx, unlock, err := Lock(asUser(1), db, Pin())
	must(t, err)
	defer unlock()
	stmt, conn := prepareOnConn(t, ctx, db)
	tx, err := db.BeginTx(asUser(2), nil)
	must(t, err)
	mustExec(t, tx, "UPDATE counters SET n = n")
	done := make(chan error)
	go func() { _, err := db.ExecContext(ctx, "UPDATE counters SET n = 1"); done <- err }()
	waitFor(t, func() bool { return waitingAtGates() == 1 })
	start := time.Now()
	must(t, stmt.Close())
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("Close has waited %v", d)
	}
	must(t, tx.Rollback())
	must(t, <-done)
	must(t, conn.Close())
}

func prepareOnConn(t *testing.T, ctx context.Context, db *sql.DB) (*sql.Stmt, *sql.Conn) {
	conn, err := db.Conn(ctx)
	must(t, err)
	stmt, err := conn.PrepareContext(ctx, "SELECT n FROM counters")
	must(t, err)
	must(t, stmt.QueryRowContext(ctx).Scan(new(int)))
	return stmt, conn
}

// TestSpilledRowsEndWithTheirSection, though they hold nothing any more.
func TestSpilledRowsEndWithTheirSection(t *testing.T) {
	onJournals(t, "", func(t *testing.T, db *sql.DB, mode string) {
		ctx, unlock := beginTest(t, Lock, asUser(1), db)
		rows, err := db.QueryContext(ctx, "SELECT id FROM counters")
		must(t, err)
		defer rows.Close()
		rows.Next()
		must(t, addOne(ctx, db, "1"))
		unlock()
		if rows.Next() || !errors.Is(rows.Err(), ErrReleased) {
			t.Errorf("the rows go on after unlock: %v", rows.Err())
		}
	})
}

// TestKeptStatementsOfSections are let go by whatever ends their rows: the section does
// it while they are read, or the program afterwards.
func TestKeptStatementsOfSections(t *testing.T) {
	onEngines(t, "max_open_conns=1", func(t *testing.T, db *sql.DB, c *Connector) {
		for _, opts := range [][]SectionOption{nil, {Pin()}} {
			for range 5 {
				ctx, unlock, err := Lock(asUser(1), db, opts...)
				must(t, err)
				for range 3 {
					must(t, db.QueryRowContext(ctx, "SELECT n FROM counters WHERE n >= "+c.placeholder(), -1).Scan(new(int64)))
				}
				rows, err := db.QueryContext(ctx, "SELECT n FROM counters WHERE n >= "+c.placeholder(), -1)
				must(t, err)
				rows.Next()
				unlock()
				if rows.Next() || !errors.Is(rows.Err(), ErrReleased) {
					t.Errorf("the rows go on after unlock: %v", rows.Err())
				}
				must(t, rows.Close())
			}
		}
		expectKeptIdle(t, c)
	})
}

// expectKeptIdle checks that the only server connection keeps statements, which nobody
// has, and has nothing else left. It returns the version that statements have now.
func expectKeptIdle(t *testing.T, c *Connector) (version int64) {
	t.Helper()
	onServerConn(t, c, func(sc *server.Conn) {
		kept := sc.Cached()
		version = kept.Version
		if in, _ := sc.InTransaction(); sc.HasRows() || in {
			t.Error("the server connection has rows or a transaction left")
		}
		if len(kept.Stmts) == 0 {
			t.Error("no statement is kept")
		}
		for _, k := range kept.Stmts {
			if !k.Idle || k.Version != version {
				t.Errorf("%q: idle %v, prepared at %d of %d", k.Query, k.Idle, k.Version, version)
			}
		}
	})
	return version
}

// TestStatementTimeoutKeepsStatements: to tell the server another limit is no reason to
// prepare anew.
func TestStatementTimeoutKeepsStatements(t *testing.T) {
	onEngines(t, "max_open_conns=1", func(t *testing.T, db *sql.DB, c *Connector) {
		var version int64
		for i := range 4 {
			if i == 3 {
				version = expectKeptIdle(t, c)
			}
			timeout := time.Duration(i+1) * time.Minute
			s, err := c.begin(asUser(1), locks.Identity{User: "1"}, nil, sectionRequest{mode: Exclusive, timeout: &timeout})
			must(t, err)
			must(t, db.QueryRowContext(s, "SELECT n FROM counters WHERE n >= "+c.placeholder(), -1).Scan(new(int64)))
			s.unlock()
		}
		if now := expectKeptIdle(t, c); now != version {
			t.Errorf("the limit has made stale what is kept: version %d, then %d", version, now)
		}
	})
}

// placeholder is the engine's for the first argument.
func (c *Connector) placeholder() string {
	if c.engine == postgres.Engine {
		return "$1"
	}
	return "?"
}
