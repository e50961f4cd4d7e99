package dblocker

import (
	"context"
	"database/sql/driver"

	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A tx is a transaction of the inner driver under its user's lock, which it
// releases when it ends, in whatever way.
type tx struct {
	driver.Tx
	scope
}

// Commit implements [driver.Tx].
func (t *tx) Commit() error { return t.end(t.Tx.Commit, sqltext.Commit) }

// Rollback implements [driver.Tx].
func (t *tx) Rollback() error { return t.end(t.Tx.Rollback, sqltext.Rollback) }

// begin takes the lock, and begins the transaction on the server.
func (t *tx) begin(ctx context.Context, c *conn, opts driver.TxOptions) error {
	returned := false
	defer func() {
		if !returned {
			c.abandon(&t.hold, admission{})
		}
		if t.Tx == nil {
			t.release()
		}
	}()
	if err := t.scope.begin(ctx, c, rwlock.Tx, opts.ReadOnly); err != nil {
		returned = true
		return err
	}
	opts.ReadOnly = opts.ReadOnly || t.inShared && c.db.dialect.bindsReadOnly()
	err := c.onServer(ctx, busy, func(sc *serverConn) (err error) {
		t.Tx, err = sc.BeginTx(ctx, opts)
		return err
	})
	returned = true
	if err == nil {
		t.tx = t.Tx
		t.open()
	}
	return err
}

// end ends the transaction, and with it one in SQL that it was begun inside.
func (t *tx) end(inner func() error, kind sqltext.Kind) error {
	c := t.conn
	if err := c.enter(); err != nil {
		return err
	}
	return c.guard(func() error {
		if t.ended != nil {
			t.release()
			return t.ended
		}
		c.clearForEnd(kind)
		c.calls.begin()
		err := inner() // if it does not return, nobody uses c any more
		c.calls.end()
		if t.lost != nil { // then there was nothing to end
			if err = nil; kind == sqltext.Commit {
				err = t.lost
			}
		}
		t.release()
		c.settleRaw(nil, sqltext.Statement{Kind: kind}, err)
		return err
	})
}
