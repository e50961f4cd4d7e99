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

// A scope is a stretch of work on one connection that its locks cover: a
// transaction, either a sql.Tx or one that is written in SQL. conn.scope is the
// innermost one that is open.
type scope struct {
	conn     *conn
	outer    *scope // if it was begun inside another, as some engines allow
	readOnly bool
	tagged   bool          // it was begun for a user; then hold, or that of an outer scope, is held
	inShared bool          // it is inside a shared section, or in another scope that is
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

// begin prepares a scope and takes the lock that it needs.
func (s *scope) begin(op *operation, c *conn, kind rwlock.Kind, readOnly bool, gate gateNeed) error {
	s.conn, s.outer = c, c.scope
	s.inShared = c.onlyReads(op) || s.outer != nil && s.outer.inShared
	s.readOnly = readOnly || s.inShared
	begun := false
	defer func() {
		if !begun {
			s.hold.Release()
		}
	}()
	if err := c.lock(op, &s.hold, request{kind: kind, mode: s.mode(), asksGate: gate}); err != nil {
		return err
	}
	c.makeWay(&s.hold, true)
	begun = true
	s.tagged = s.hold.HasLock()
	if s.outer != nil {
		s.tagged, s.kept = s.tagged || s.outer.tagged, s.outer.kept
	}
	return nil
}

func (s *scope) mode() Mode {
	if s.readOnly {
		return Shared
	}
	return Exclusive
}

// refuses returns an error for a statement that may not run in the scope: because
// the server has ended the transaction, or because the statement writes where the
// lock allows only to read, and the server would let it.
func (s *scope) refuses(op *operation, st sqltext.Statement) error {
	switch {
	case s.lost != nil && !(s.inSQL() && (st.Kind == sqltext.Rollback || st.Kind == sqltext.Commit)):
		return s.lost
	case s.inShared && st.Kind == sqltext.Write:
		return errSharedSection
	case s.writesReadOnly(op, st):
		return errReadOnlyTx
	}
	return nil
}

func (s *scope) writesReadOnly(op *operation, st sqltext.Statement) bool {
	if !s.readOnly || st.Kind != sqltext.Write || s.conn.db.dialect.EnforcesReadOnly {
		return false
	}
	if mode, err := op.mode.or(Exclusive); err != nil || mode == Shared {
		return false
	}
	return s.tagged || op.id.User != "" || s.conn.pool.gate != nil
}

// open makes the scope the connection's innermost.
func (s *scope) open() {
	s.conn.scope = s
	s.conn.shareScope()
}

// lock decides what an operation inside the scope needs. If the scope is a
// user's, that user's lock covers everything in it. If it is nobody's, or another's
// that was forgotten on a connection in the pool, a user whose statement runs in it
// joins it until it ends.
// In a section it joins by way of that.
func (s *scope) lock(op *operation, id locks.Identity) error {
	if s.ended != nil {
		return s.ended
	}
	if s.covers(id.User) {
		return nil
	}
	// The connection and the gate are the user's from now on, also to the deadlock
	// search, if nobody else's.
	unowned, owner := s.unowned(), s.conn.ownerFor(id)
	for _, h := range unowned {
		h.SetOwner(owner)
	}
	h, joined := new(locks.Hold), false
	defer func() {
		if joined {
			s.joined = append(s.joined, h)
			return
		}
		h.Release()
		for _, h := range unowned {
			h.SetOwner(s.conn.selfOwner())
		}
	}()
	err := s.join(op, h, id)
	joined = err == nil
	return err
}

// unowned returns what the scope has that no user's owner has: the connection, and the
// gate, which the outermost scope has passed.
func (s *scope) unowned() (holds []*rwlock.Hold) {
	if slot := &s.conn.slot; slot.Owner == nil || slot.Owner == &s.conn.self {
		holds = append(holds, slot)
	}
	s = s.outermost()
	if s.hold.Owner == nil && s.joined == nil {
		holds = append(holds, &s.hold.Gate.Hold)
	}
	return holds
}

func (s *scope) outermost() *scope {
	for s.outer != nil {
		s = s.outer
	}
	return s
}

func (s *scope) join(op *operation, h *locks.Hold, id locks.Identity) error {
	if op.section == nil {
		return s.lockUser(op, h, id)
	}
	needs, err := s.conn.enterSection(op.section, h, id)
	if err != nil {
		return err
	}
	if needs.User != "" {
		err = s.lockUser(op, h, needs)
	}
	return h.Entered(id, err)
}

// lockUser takes the lock of the user id; and what the scope asks of the gate with it, if that
// is still to come.
func (s *scope) lockUser(op *operation, h *locks.Hold, id locks.Identity) error {
	req := request{kind: rwlock.Tx, mode: s.mode(), joins: true}
	t := s.pending
	if t == nil || t.atGate != nil {
		return s.conn.acquire(op.ctx, h, req, id)
	}
	req.asksGate = atOnce
	if err := s.conn.lockOutside(op, h, req, id, req.mode); err != nil {
		return err
	}
	t.atGate = h
	return nil
}

// covers tells whether a user's statement in the scope needs no lock of its own.
func (s *scope) covers(user string) bool {
	if user == "" || s.tagged && !s.kept {
		return true
	}
	for ; s != nil; s = s.outer {
		if s.hold.User == user || slices.ContainsFunc(s.joined, func(h *locks.Hold) bool { return h.User == user }) {
			return true
		}
	}
	return false
}

// release ends the scope. It does nothing the second time.
func (s *scope) release() {
	if s.pending != nil {
		s.pending.resumeLease() // to be given up with the rest
	}
	s.pending.settled()
	s.pending = nil
	s.releaseHolds()
	if s.outer == nil {
		s.conn.drawn.Conn.EndTx()
	}
	for p := &s.conn.scope; *p != nil; p = &(*p).outer {
		if *p == s { // not always the innermost
			*p = s.outer
			s.conn.shareScope()
			return
		}
	}
}

func (s *scope) releaseHolds() {
	s.conn.release(&s.hold)
	for _, h := range s.joined {
		s.conn.release(h)
	}
	s.joined = nil
	for _, h := range s.more {
		h.Gate.Leave()
	}
	s.more = nil
}

// leaveToLost leaves the scope's locks to the connection's session, if that is
// lost.
func (s *scope) leaveToLost() {
	s.conn.leaveToLost(&s.hold)
	for _, h := range s.joined {
		s.conn.leaveToLost(h)
	}
}

// noticeLoss looks, after a statement of the scope has failed with err, whether
// SQLite has rolled the scope's transaction back, as it does when it interrupts a
// write. The program does not know of that, and what it did next would be written at
// once, each statement by itself: so the scope refuses it.
//
// A transaction in SQL ends so too when the program has written that it should
// (INSERT OR ROLLBACK); then only an interruption is a loss.
func (s *scope) noticeLoss(st sqltext.Statement, err error) {
	c := s.conn
	autocommit := c.db.dialect.Autocommit
	sc := c.drawn.Conn
	if autocommit == nil || err == nil || s.lost != nil || s.pending != nil || sc == nil || sc.HasFailed() {
		return
	}
	switch st.Kind {
	case sqltext.Begin, sqltext.Commit, sqltext.Rollback, sqltext.Release:
		return // the program's own doing
	}
	if s.inSQL() && !interrupted(err) || errors.Is(err, driver.ErrBadConn) || !autocommit(sc) {
		return
	}
	s.lost = lossOf(err)
}

func lossOf(err error) error { return fmt.Errorf("%w: %w", ErrRolledBack, err) }

// inSQL tells whether the scope is a transaction that is written in SQL.
func (s *scope) inSQL() bool { return s.conn.raw != nil && s == &s.conn.raw.scope }

// interrupted tells whether a statement failed because its context ended, or because
// somebody called sqlite3_interrupt.
func interrupted(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		strings.Contains(err.Error(), "interrupted")
}

// explainReadOnly makes ErrReadOnly of what SQLite says to a write that could not
// be told by its text.
func (s *scope) explainReadOnly(err error) error {
	if s != nil && s.readOnly && s.conn.pool.gate != nil && strings.Contains(err.Error(), "attempt to write a readonly database") {
		return fmt.Errorf("%w (%w)", ErrReadOnly, err)
	}
	return err
}

// scopeOnServer returns the innermost transaction that an operation on c runs in: on a
// pinned connection it may be another client connection's.
func (c *conn) scopeOnServer() *scope {
	p := c.pinned
	if c.drawn.Conn == nil && c.server() != nil {
		p = c.using
	}
	if c.scope != nil || p == nil {
		return c.scope
	}
	return p.scope
}

// shareScope lets those who come to the pinned connection that c has, if it has one, know of the
// innermost transaction of c.
func (c *conn) shareScope() {
	if p := c.pinned; p != nil {
		p.scope = c.scope
	}
}

// abort ends the scope for the given reason. It stays in the way of what was meant for it.
func (s *scope) abort(reason error) {
	s.ended = reason
	if s.pending == nil && (s.Tx == nil || s.Tx.Rollback() != nil) {
		s.conn.discard() // which ends it on the server
	}
	s.releaseHolds()
}
