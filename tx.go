package dblocker

import (
	"context"
	"database/sql/driver"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A tx is a transaction of the inner driver under its user's lock, which it
// releases when it ends, in whatever way.
type tx struct {
	driver.Tx
	conn     *conn
	outer    *tx // if it was begun inside another, as some engines allow
	readOnly bool
	tagged   bool        // it was begun for a user; then hold is held
	hold     rwlock.Hold // of the user it was begun for
	joined   []*userHold // in one that was begun for none: the users of its statements
}

// A userHold is the hold of a user's lock by a transaction that the user's
// statements joined.
type userHold struct {
	rwlock.Hold
	user string
}

// lock decides what an operation inside the transaction needs. If the
// transaction is a user's, that user's lock covers everything in it. If it is
// nobody's, a user whose statement runs in it joins it until it ends.
func (t *tx) lock(ctx context.Context, id identity, mode Mode) error {
	if t.readOnly && mode == Exclusive && (t.tagged || id.user != "") && !t.conn.db.dialect.enforcesReadOnly {
		return ErrReadOnly
	}
	if t.tagged || id.user == "" {
		return nil
	}
	for _, h := range t.joined {
		if h.user == id.user {
			return nil
		}
	}
	mode = Exclusive
	if t.readOnly {
		mode = Shared
	}
	h := &userHold{user: id.user}
	if err := t.conn.acquire(ctx, &h.Hold, rwlock.Tx, mode, id); err != nil {
		return err
	}
	t.joined = append(t.joined, h)
	return nil
}

// Commit implements [driver.Tx].
func (t *tx) Commit() error {
	defer t.release()
	return t.Tx.Commit()
}

// Rollback implements [driver.Tx].
func (t *tx) Rollback() error {
	defer t.release()
	return t.Tx.Rollback()
}

// release ends the transaction for the locks, and for the connection if it is
// its innermost.
func (t *tx) release() {
	t.hold.Release()
	for _, h := range t.joined {
		h.Release()
	}
	t.joined = nil
	if t.conn.tx == t {
		t.conn.tx = t.outer
	}
}
