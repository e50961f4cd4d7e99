package dblocker

import (
	"context"
	"testing"
	"testing/synctest"
)

// TestSweepAfterAnothersTurn: what a section has left open on a pinned connection of a section
// around it is closed when the call returns that was using the connection meanwhile.
func TestSweepAfterAnothersTurn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		returnNow := make(chan bool)
		db := openStub(t, &stub{run: func(_ context.Context, query string) error {
			if query == "long" {
				<-returnNow
			}
			return nil
		}})
		outer, unlockOuter, err := Lock(asUser(1), db, Pin())
		must(t, err)
		defer unlockOuter()
		inner, unlockInner, err := Lock(WithUser(outer, 2), db)
		must(t, err)
		conn, err := db.Conn(context.Background())
		must(t, err)
		defer conn.Close()
		if _, err := conn.ExecContext(inner, "BEGIN"); err != nil {
			t.Fatal(err)
		}

		long := make(chan error)
		go func() { long <- second(db.ExecContext(outer, "long")) }()
		synctest.Wait()
		unlockInner()
		if isFree(t, db, 2) {
			t.Error("the lock passed on while a call was running on the connection with the transaction")
		}
		close(returnNow)
		must(t, <-long)
		synctest.Wait()
		if !isFree(t, db, 2) {
			t.Error("the lock did not pass on when the call returned")
		}
	})
}

// TestConnectPanicInPinnedSection: a driver that panics leaves no member in the section.
func TestConnectPanicInPinnedSection(t *testing.T) {
	s := &stub{}
	db := openStub(t, s)
	ctx, unlock, err := Lock(asUser(1), db, Pin())
	must(t, err)
	s.connect = func() { panic("connect") }
	func() {
		defer func() { recover() }()
		db.ExecContext(ctx, "UPDATE t SET v = 1")
	}()
	s.connect = nil
	unlock()
	if !isFree(t, db, 1) {
		t.Error("the lock did not pass on")
	}
}

// TestGaveThePinBackWhileWaiting: a call that has given the pinned connection back, to wait
// for a lock, still has its turn, so the section does not close the connection beside it.
func TestGaveThePinBackWhileWaiting(t *testing.T) {
	for range 20 {
		gaveThePinBackWhileWaiting(t)
	}
}

func gaveThePinBackWhileWaiting(t *testing.T) {
	db := openJournal(t, "delete", "")
	ctx, unlock, err := Lock(asUser(1), db, Pin())
	must(t, err)
	conn, err := db.Conn(ctx)
	must(t, err)
	defer conn.Close()
	stmt, err := conn.PrepareContext(ctx, "SELECT 1")
	must(t, err)
	defer stmt.Close()
	tx, err := db.BeginTx(context.Background(), nil)
	must(t, err)
	mustExec(t, tx, "UPDATE counters SET n = n") // has the gate

	prepared := make(chan error)
	go func() {
		stmt, err := conn.PrepareContext(context.Background(), "SELECT 2")
		if err == nil {
			stmt.Close()
		}
		prepared <- err
	}()
	waitFor(t, func() bool { return len(gateOf(t, db).Snapshot()) > 1 })
	unlocked := make(chan struct{})
	go func() { unlock(); close(unlocked) }()
	must(t, tx.Rollback())
	must(t, <-prepared)
	<-unlocked
}
