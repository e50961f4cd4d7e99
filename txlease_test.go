package dblocker

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// leaseFor changes, for the time of a test, how long a lease lasts, and for how long BeginTx waits
// at a gate that one keeps.
func leaseFor(t *testing.T, lease, stands time.Duration) {
	t.Helper()
	oldLease, oldStands := leaseTime, gateStands
	leaseTime, gateStands = lease, stands
	t.Cleanup(func() { leaseTime, gateStands = oldLease, oldStands })
}

// A leaseScene is a transaction that begins while another has the gate, with a writer behind it.
type leaseScene struct {
	*sql.DB
	hasGate *sql.Tx
	begun   chan *sql.Tx // by user 1
	wrote   chan error   // 10 more
}

func newLeaseScene(t *testing.T, db *sql.DB) *leaseScene {
	s := &leaseScene{DB: db, begun: make(chan *sql.Tx, 1), wrote: make(chan error, 1)}
	var err error
	s.hasGate, err = db.Begin()
	must(t, err)
	mustExec(t, s.hasGate, "UPDATE counters SET n = n + 1")
	go func() {
		tx, err := db.BeginTx(asUser(1), nil)
		if err != nil {
			t.Error(err)
		}
		s.begun <- tx
	}()
	waitFor(t, func() bool { return waitingAtGates() == 1 })
	go func() { s.wrote <- execError(db, "UPDATE counters SET n = n + 10") }()
	waitFor(t, func() bool { return waitingAtGates() == 2 })
	return s
}

// TestBeginWaitsOnce: a transaction that begins while another has the gate waits there in its
// turn, with its user's readers in nobody's way, and its first statement need not wait again.
func TestBeginWaitsOnce(t *testing.T) {
	leaseFor(t, time.Hour, time.Hour)
	onJournals(t, "lock_timeout=1m", func(t *testing.T, db *sql.DB, mode string) {
		s := newLeaseScene(t, db)
		if mode == "WAL" {
			must(t, db.QueryRowContext(asUser(1), "SELECT n FROM counters").Scan(new(int)))
		}
		must(t, s.hasGate.Commit())
		tx := <-s.begun
		if n := waitingAtGates(); n != 1 {
			t.Errorf("%d wait at the gate when the transaction has begun, want the writer behind it", n)
		}
		if n := txNumber(t, tx); n != 1 {
			t.Errorf("it sees %d, want 1: what was before it, and nothing that came later", n)
		}
		mustExec(t, tx, "UPDATE counters SET n = n * 2")
		must(t, tx.Commit())
		must(t, <-s.wrote)
		wantCounter(t, db, 12)
	})
}

// TestLeaseEnds by itself, or with the transaction; in each case the next gets on.
func TestLeaseEnds(t *testing.T) {
	for name, end := range map[string]func(*sql.Tx) error{
		"by itself": nil,
		"Commit":    (*sql.Tx).Commit,
		"Rollback":  (*sql.Tx).Rollback,
	} {
		t.Run(name, func(t *testing.T) {
			leaseFor(t, time.Hour, time.Hour)
			if end == nil {
				leaseTime = time.Millisecond
			}
			onJournals(t, "lock_timeout=1m", func(t *testing.T, db *sql.DB, _ string) {
				s := newLeaseScene(t, db)
				must(t, s.hasGate.Commit())
				tx := <-s.begun
				if end != nil {
					must(t, end(tx))
				}
				must(t, <-s.wrote)
				if end != nil {
					return
				}
				if n := txNumber(t, tx); n != 11 {
					t.Errorf("it sees %d, want 11", n)
				}
				must(t, tx.Rollback())
			})
		})
	}
}

// TestLeaseEndsWithItsSection, although the program has the transaction still.
func TestLeaseEndsWithItsSection(t *testing.T) {
	leaseFor(t, time.Hour, time.Hour)
	onJournals(t, "lock_timeout=1m", func(t *testing.T, db *sql.DB, _ string) {
		ctx, unlock, err := Lock(asUser(2), db)
		must(t, err)
		hasGate, err := db.Begin()
		must(t, err)
		mustExec(t, hasGate, "UPDATE counters SET n = n + 1")
		begun := make(chan *sql.Tx, 1)
		go func() {
			tx, err := db.BeginTx(WithUser(ctx, 1), nil)
			if err != nil {
				t.Error(err)
			}
			begun <- tx
		}()
		waitFor(t, func() bool { return waitingAtGates() == 1 })
		must(t, hasGate.Commit())
		tx := <-begun
		unlock()
		mustExec(t, db, "UPDATE counters SET n = n + 10")
		tx.Rollback()
	})
}

// TestBeginAtAGateThatStands: who has the gate may be the same goroutine, or wait for it. So
// BeginTx takes its user's lock alone then, as it does where there is no wait at all.
func TestBeginAtAGateThatStands(t *testing.T) {
	leaseFor(t, time.Hour, time.Millisecond)
	for name, options := range map[string]string{"waits": "lock_timeout=1m&self_wait=1m", "no wait at all": "lock_timeout=0"} {
		t.Run(name, func(t *testing.T) {
			onJournals(t, options, func(t *testing.T, db *sql.DB, _ string) {
				hasGate, err := db.Begin()
				must(t, err)
				mustExec(t, hasGate, "UPDATE counters SET n = n + 1")
				tx, err := db.BeginTx(asUser(1), nil)
				must(t, err)
				if holds := holdsOf(t, db); len(holds) != 1 || holds[0].Waiting {
					t.Errorf("the transaction has %v, want its user's lock", holds)
				}
				must(t, hasGate.Commit())
				mustExec(t, tx, "UPDATE counters SET n = n * 2")
				must(t, tx.Commit())
				wantCounter(t, db, 2)
			})
		})
	}
}

// TestBeginInACircle: who has the gate wants a lock that the request has which begins. That one
// gives way, and both get what they want.
func TestBeginInACircle(t *testing.T) {
	testdb.NoLeaks(t)
	leaseFor(t, time.Hour, time.Hour)
	db := openJournal(t, "WAL", "lock_timeout=1m&self_wait=1m")
	section, unlock := beginTest(t, Lock, WithUser(context.Background(), 2), db)
	hasGate, err := db.Begin()
	must(t, err)
	mustExec(t, hasGate, "UPDATE counters SET n = n + 1")
	begun := make(chan error, 1)
	go func() {
		tx, err := db.BeginTx(WithUser(section, 1), nil)
		if err == nil {
			err = tx.Rollback()
		}
		unlock()
		begun <- err
	}()
	waitFor(t, func() bool { return waitingAtGates() == 1 })
	_, err = hasGate.ExecContext(asUser(2), "UPDATE counters SET n = n + 1")
	must(t, err)
	must(t, hasGate.Commit())
	must(t, <-begun)
	wantCounter(t, db, 2)
}
