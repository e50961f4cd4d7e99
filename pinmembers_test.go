package dblocker

import (
	"context"
	"testing"
)

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
	tx, err := db.BeginTx(context.Background(), nil) // has the gate
	must(t, err)

	prepared := make(chan error)
	go func() {
		stmt, err := conn.PrepareContext(context.Background(), "SELECT 2")
		if err == nil {
			stmt.Close()
		}
		prepared <- err
	}()
	c, _, err := connectorOf(context.Background(), db)
	must(t, err)
	waitFor(t, func() bool { return len(c.pool.gate.lock.Snapshot()) > 1 })
	unlocked := make(chan struct{})
	go func() { unlock(); close(unlocked) }()
	must(t, tx.Rollback())
	must(t, <-prepared)
	<-unlocked
}
