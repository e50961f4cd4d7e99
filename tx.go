package dblocker

import (
	"database/sql/driver"

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

// end ends the transaction, and with it one in SQL that it was begun inside.
func (t *tx) end(inner func() error, kind sqltext.Kind) error {
	if err := t.conn.enter(); err != nil {
		return err
	}
	defer t.conn.leave()
	defer t.release()
	if t.ended != nil {
		return t.ended
	}
	t.conn.clearForEnd(kind)
	err := inner()
	if t.lost != nil { // then there was nothing to end
		if err = nil; kind == sqltext.Commit {
			err = t.lost
		}
	}
	t.release()
	t.conn.settleRaw(nil, sqltext.Statement{Kind: kind}, err)
	return err
}
