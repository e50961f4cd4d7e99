package dblocker

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A tx is a transaction of the inner driver under its user's lock, which it
// releases when it ends, in whatever way.
type tx struct {
	transaction

	// Of one that was pending: what it was begun with, and the mode of its user's lock.
	ctx      context.Context
	opts     driver.TxOptions
	userMode Mode

	ownConn bool             // its connection was drawn for it, and has done nothing before
	called  callers.Entry    // what the program has called to begin it, if others were at the gate
	gaveUp  bool             // its user's lock, to ask for it again together with the gate
	atGate  *locks.Hold      // that has its part of the gate; nil before it has passed
	worked  int64            // by its owner when it began: see locks.Owner.Worked
	whole   rwlock.WholeWait // at the gate
}

// Commit implements [driver.Tx].
func (t *tx) Commit() error { return t.end(driver.Tx.Commit, sqltext.Commit) }

// Rollback implements [driver.Tx].
func (t *tx) Rollback() error { return t.end(driver.Tx.Rollback, sqltext.Rollback) }

// begin takes the lock, and begins the transaction on the server.
func (t *tx) begin(op *operation, c *conn, opts driver.TxOptions) error {
	t.ctx = op.ctx
	returned := false
	defer func() {
		if !returned {
			c.abandon(&t.hold, nil)
		}
		if t.Tx == nil {
			t.release()
		}
	}()
	if err := t.transaction.begin(op, c, rwlock.Tx, opts.ReadOnly, unlessInside); err != nil {
		returned = true
		return err
	}
	opts.ReadOnly = opts.ReadOnly || t.inShared && c.db.engine.BindsReadOnly()
	err := c.onServer(op.ctx, op, busy, func(sc *server.Conn) (err error) {
		if c.backend.Scope != nil {
			t.Tx, err = c.beginReaching(op.ctx, &t.hold, sc, opts)
		} else {
			t.Tx, err = c.beginTx(op.ctx, &t.hold, sc, opts)
		}
		return err
	})
	returned = true
	if err == nil {
		t.open()
	}
	return err
}

// beginTx begins it on a server connection.
func (c *conn) beginTx(ctx context.Context, h *locks.Hold, sc *server.Conn, opts driver.TxOptions) (begun driver.Tx, err error) {
	if !c.db.tellsCalls {
		return sc.BeginTx(ctx, opts)
	}
	err = c.toldCall(ctx, h.User, "BEGIN", func() error {
		begun, err = sc.BeginTx(ctx, opts)
		return err
	})
	return begun, err
}

// endLate is for a transaction on a pinned connection that another call has: it is rolled back
// when that returns. Who has the turn perhaps waits for its user's lock.
func (t *tx) endLate(reason error) error {
	t.late = reason
	t.hold.Lock.Release()
	for _, h := range t.joined {
		h.Lock.Release()
	}
	t.conn.leaveLate()
	return reason
}

// end ends the transaction, and with it one in SQL that it was begun inside.
func (t *tx) end(inner func(driver.Tx) error, kind sqltext.Kind) error {
	c := t.conn
	if err := c.lockCall(); err != nil {
		return t.endLate(err)
	}
	if c.gone != inUse {
		defer c.leave()
		return c.whyGone()
	}
	var d debt
	err := c.guardHeld(func() error {
		if t.ended != nil {
			t.release()
			return t.ended
		}
		if t.pending != nil { // nothing was begun
			t.release()
			return nil
		}
		c.spillForEnd(kind)
		c.resident.Calls.Begin()
		var began time.Time
		if c.db.tellsCalls {
			began = time.Now()
		}
		err := inner(t.Tx) // if it does not return, nobody uses c any more
		c.resident.Calls.End()
		if c.db.tellsCalls {
			c.tellOperation(t.ctx, t.hold.User, endVerb(kind), began, err)
		}
		if t.lost != nil { // then there was nothing to end
			if err = nil; kind == sqltext.Commit {
				err = t.lost
			}
		}
		c.noteDebt(sqltext.Statement{Kind: kind}, err)
		if err == nil {
			t.leadAfterTx()
		}
		t.release()
		c.settleRaw(nil, sqltext.Statement{Kind: kind}, err)
		d = c.takeDebt(t.called)
		return err
	})
	return c.repay(t.ctx, &d, err)
}
