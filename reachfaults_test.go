package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"testing"
)

// TestReachCutInSection: lib/pq says of a connection that ends in the middle of a statement that nothing was sent. In a section
// nothing is tried again, since the lock is gone; and the error does not say that somebody else has been waited for.
func TestReachCutInSection(t *testing.T) {
	s := newCutScene(t, "lock_scope=database")
	letGo := s.holdBack()
	defer letGo()
	ctx, unlock, err := Lock(asUser(1), s.db)
	must(t, err)
	defer unlock()
	answer := make(chan error)
	go func() {
		_, err := s.db.ExecContext(ctx, stuck, 1)
		answer <- err
	}()
	waitFor(t, func() bool { return s.stuckSessions() == 1 })
	s.cut()
	var le *LockError
	if err := <-answer; !errors.Is(err, ErrLockLost) || errors.As(err, &le) {
		t.Errorf("got %v, want ErrLockLost and nothing of a wait", err)
	}
	s.cutServers()
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, ErrLockLost) {
		t.Errorf("the section's context: got %v, want ErrLockLost", err)
	}
}

// TestReachAfterTxOfTheDriver: lib/pq ends each transaction of a connection by a function that the last BeginTx of its own has left
// there. After one of those, transactions that were begun with the locks end as well as before.
func TestReachAfterTxOfTheDriver(t *testing.T) {
	s := newReachScene(t)
	db := s.process(MaxOpenConns(1))
	first := processOf(t, db)
	for round := range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		tx, err := db.BeginTx(ctx, nil) // for nobody, and so by the driver
		must(t, err)
		must(t, tx.Commit())
		if round == 1 {
			cancel()
		}
		for range 4 {
			ctx, cancel := context.WithCancel(asUser(1))
			tx, err := db.BeginTx(ctx, nil)
			must(t, err)
			_, err = tx.Exec("UPDATE counters SET n = n + 1 WHERE name = 'a'")
			must(t, err)
			must(t, tx.Commit())
			cancel()
		}
		cancel()
	}
	s.checkCounter("transactions of two kinds by turns", 12)
	if last := processOf(t, db); last != first {
		t.Errorf("the connection of process %d was replaced by that of %d", first, last)
	}
}

// processOf is the process of the server that serves a connection of the handle.
func processOf(t *testing.T, db *sql.DB) (pid int) {
	t.Helper()
	must(t, db.QueryRow("SELECT pg_backend_pid()").Scan(&pid))
	return pid
}
