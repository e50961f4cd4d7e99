package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A transaction is a stretch of work on one connection that its locks cover: either
// a sql.Tx, or what is written in SQL. conn.transaction is the innermost one that is
// open.
type transaction struct {
	conn     *conn
	outer    *transaction // if it was begun inside another, as some engines allow
	readOnly bool
	tagged   bool          // it was begun for a user; then hold, or that of an outer transaction, is held
	inShared bool          // it is inside a shared section, or in another transaction that is
	kept     bool          // it went back to database/sql's pool; who comes then did not mean it
	hold     locks.Hold    // of the user it was begun for
	Tx       driver.Tx     // of the inner driver; nil if it is written in SQL, or pending
	ended    error         // why the end of its section has ended it; else nil
	late     error         // why it could not be ended yet, see late; else nil
	joined   []*locks.Hold // the users of its statements that no hold covers yet
	lost     error         // why the server has ended it, which the program does not know; else nil

	// pending is the transaction itself while it has only been asked for: see txstart.go.
	pending *tx

	more []*locks.Hold // of the gates of files that were attached in it
}

// begin prepares a transaction and takes the lock that it needs.
func (t *transaction) begin(op *operation, c *conn, kind rwlock.Kind, readOnly bool, gate gateNeed) error {
	t.conn, t.outer = c, c.transaction
	t.inShared = c.onlyReads(op) || t.outer != nil && t.outer.inShared
	t.readOnly = readOnly || t.inShared
	begun := false
	defer func() {
		if !begun {
			t.hold.Release()
		}
	}()
	if err := c.lock(op, &t.hold, request{kind: kind, mode: t.mode(), asksGate: gate}); err != nil {
		return err
	}
	c.restWALReaders(&t.hold, true)
	begun = true
	t.tagged = t.hold.HasLock()
	if t.outer != nil {
		t.tagged, t.kept = t.tagged || t.outer.tagged, t.outer.kept
	}
	return nil
}

func (t *transaction) mode() Mode {
	if t.readOnly {
		return Shared
	}
	return Exclusive
}

// refuses returns an error for a statement that may not run in the transaction: because
// the server has ended the transaction, or because the statement writes where the
// lock allows only to read, and the server would let it.
func (t *transaction) refuses(op *operation, st sqltext.Statement) error {
	switch {
	case t.lost != nil && !(t.inSQL() && (st.Kind == sqltext.Rollback || st.Kind == sqltext.Commit)):
		return t.lost
	case t.inShared && st.Kind == sqltext.Write:
		return errSharedSection
	case t.writesReadOnly(op, st):
		return errReadOnlyTx
	}
	return nil
}

func (t *transaction) writesReadOnly(op *operation, st sqltext.Statement) bool {
	if !t.readOnly || st.Kind != sqltext.Write || t.conn.db.engine.EnforcesReadOnly {
		return false
	}
	if mode, err := op.mode.or(Exclusive); err != nil || mode == Shared {
		return false
	}
	return t.tagged || op.id.User != "" || t.conn.backend.Gate != nil
}

// open makes the transaction the connection's innermost.
func (t *transaction) open() {
	t.conn.transaction = t
	t.conn.shareTransaction()
}

// lock decides what an operation inside the transaction needs. If the transaction is a
// user's, that user's lock covers everything in it. If it is nobody's, or another's
// that was forgotten on a connection in the pool, a user whose statement runs in it
// joins it until it ends.
// In a section it joins by way of that.
func (t *transaction) lock(op *operation, id locks.Identity) error {
	if t.ended != nil {
		return t.ended
	}
	if t.covers(id.User) {
		return nil
	}
	// The connection and the gate are the user's from now on, also to the deadlock
	// search, if nobody else's.
	unowned, owner := t.unowned(), t.conn.ownerFor(id)
	for _, h := range unowned {
		h.SetOwner(owner)
	}
	h, joined := new(locks.Hold), false
	defer func() {
		if joined {
			t.joined = append(t.joined, h)
			return
		}
		h.Release()
		for _, h := range unowned {
			h.SetOwner(t.conn.selfOwner())
		}
	}()
	err := t.join(op, h, id)
	joined = err == nil
	return err
}

// unowned returns what the transaction has that no user's owner has: the connection, and the
// gate, which the outermost transaction has passed.
func (t *transaction) unowned() (holds []*rwlock.Hold) {
	if slot := &t.conn.slot; slot.Owner == nil || slot.Owner == &t.conn.self {
		holds = append(holds, slot)
	}
	t = t.outermost()
	if t.hold.Owner == nil && t.joined == nil {
		holds = append(holds, &t.hold.Gate.Hold)
	}
	return holds
}

func (t *transaction) outermost() *transaction {
	for t.outer != nil {
		t = t.outer
	}
	return t
}

func (t *transaction) join(op *operation, h *locks.Hold, id locks.Identity) error {
	if op.section == nil {
		return t.lockUser(op, h, id)
	}
	needs, err := t.conn.enterSection(op.section, h, id)
	if err != nil {
		return err
	}
	if needs.User != "" {
		err = t.lockUser(op, h, needs)
	}
	return h.Entered(id, err)
}

// lockUser takes the lock of the user id; and what the transaction asks of the gate with it, if that
// is still to come.
func (t *transaction) lockUser(op *operation, h *locks.Hold, id locks.Identity) error {
	req := request{kind: rwlock.Tx, mode: t.mode(), joins: true, inside: true}
	p := t.pending
	if p == nil || p.atGate != nil {
		return t.conn.acquire(op.ctx, h, req, id)
	}
	req.asksGate = atOnce
	if err := t.conn.lockOutside(op, h, req, id, req.mode); err != nil {
		return err
	}
	p.atGate = h
	return nil
}

// covers tells whether a user's statement in the transaction needs no lock of its own.
func (t *transaction) covers(user string) bool {
	if user == "" || t.tagged && !t.kept {
		return true
	}
	for ; t != nil; t = t.outer {
		if t.hold.User == user || slices.ContainsFunc(t.joined, func(h *locks.Hold) bool { return h.User == user }) {
			return true
		}
	}
	return false
}

// release ends the transaction. It does nothing the second time.
func (t *transaction) release() {
	if t.pending != nil {
		t.pending.resumeLease() // to be given up with the rest
	}
	t.pending.settled()
	t.pending = nil
	t.releaseHolds()
	if t.outer == nil {
		t.conn.drawn.Conn.EndTx()
	}
	for p := &t.conn.transaction; *p != nil; p = &(*p).outer {
		if *p == t { // not always the innermost
			*p = t.outer
			t.conn.shareTransaction()
			return
		}
	}
}

func (t *transaction) releaseHolds() {
	t.conn.release(&t.hold)
	for _, h := range t.joined {
		t.conn.release(h)
	}
	t.joined = nil
	for _, h := range t.more {
		h.Gate.Leave()
	}
	t.more = nil
}

// leaveToLost leaves the transaction's locks to the connection's session, if that is
// lost.
func (t *transaction) leaveToLost() {
	t.conn.leaveToLost(&t.hold)
	for _, h := range t.joined {
		t.conn.leaveToLost(h)
	}
}

// noticeLoss looks, after a statement of the transaction has failed with err, whether
// SQLite has rolled it back, as it does when it interrupts a
// write. The program does not know of that, and what it did next would be written at
// once, each statement by itself: so the transaction refuses it.
//
// A transaction in SQL ends so too when the program has written that it should
// (INSERT OR ROLLBACK); then only an interruption is a loss.
func (t *transaction) noticeLoss(st sqltext.Statement, err error) {
	c := t.conn
	autocommit := c.db.engine.Autocommit
	sc := c.drawn.Conn
	if autocommit == nil || err == nil || t.lost != nil || t.pending != nil || sc == nil || sc.HasFailed() {
		return
	}
	switch st.Kind {
	case sqltext.Begin, sqltext.Commit, sqltext.Rollback, sqltext.Release:
		return // the program's own doing
	}
	if t.inSQL() && !interrupted(err) || errors.Is(err, driver.ErrBadConn) || !autocommit(sc) {
		return
	}
	t.lost = lossOf(err)
}

func lossOf(err error) error { return fmt.Errorf("%w: %w", ErrRolledBack, err) }

// inSQL tells whether the transaction is one that is written in SQL.
func (t *transaction) inSQL() bool { return t.conn.raw != nil && t == &t.conn.raw.transaction }

// interrupted tells whether a statement failed because its context ended, or because
// somebody called sqlite3_interrupt.
func interrupted(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		strings.Contains(err.Error(), "interrupted")
}

// explainReadOnly makes ErrReadOnly of what SQLite says to a write that could not
// be told by its text.
func (t *transaction) explainReadOnly(err error) error {
	if t != nil && t.readOnly && t.conn.backend.Gate != nil && strings.Contains(err.Error(), "attempt to write a readonly database") {
		return fmt.Errorf("%w (%w)", ErrReadOnly, err)
	}
	return err
}

// transactionOnServer returns the innermost transaction that an operation on c runs in: on a
// pinned connection it may be another client connection's.
func (c *conn) transactionOnServer() *transaction {
	p := c.pinned
	if c.drawn.Conn == nil && c.server() != nil {
		p = c.using
	}
	if c.transaction != nil || p == nil {
		return c.transaction
	}
	return p.transaction
}

// shareTransaction lets those who come to the pinned connection that c has, if it has one, know of the
// innermost transaction of c.
func (c *conn) shareTransaction() {
	if p := c.pinned; p != nil {
		p.transaction = c.transaction
	}
}

// abort ends the transaction for the given reason. It stays in the way of what was meant for it.
func (t *transaction) abort(reason error) {
	t.ended = reason
	if t.pending == nil && (t.Tx == nil || t.Tx.Rollback() != nil) {
		t.conn.discard() // which ends it on the server
	}
	t.releaseHolds()
}
