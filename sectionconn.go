package dblocker

import (
	"context"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// refusal returns the error for a statement that writes where only reading is allowed.
func (c *conn) refusal(op *operation, st sqltext.Statement) error {
	if s := c.scopeOnServer(); s != nil {
		if err := s.refuses(op, st); err != nil {
			return err
		}
	}
	if s := op.section; s != nil {
		id, _ := c.identify(op)
		if s.refuses(op, id.User, st) {
			return errSharedSection
		}
	}
	return nil
}

// onlyReads tells whether a transaction is inside a shared section of its user.
func (c *conn) onlyReads(op *operation) bool {
	s := op.section
	if s == nil {
		return false
	}
	id, _ := c.identify(op)
	mode, covered := s.locks.Covers(c.pool.users, id.User)
	return covered && mode == rwlock.Shared
}

// awaitLost waits, on behalf of an operation of the user id in the section, until the server
// has ended the section's earlier ones that have lost their connections.
func (c *conn) awaitLost(ctx context.Context, in *section, id locks.Identity, mode Mode) error {
	lost := in.locks.Barriers(c.pool.users, id.User)
	if len(lost) > 0 && c.busy == idle {
		c.giveBack() // as whoever waits for a lock
	}
	for _, b := range lost {
		h := rwlock.Hold{Owner: id.LockOwner(), With: c.turnLink(id.LockOwner())}
		if err := b.Await(ctx, rwlock.Mode(mode), &h, c.wait()); err != nil {
			return c.explainClosed(lockError(err, id))
		}
	}
	return nil
}

// enter and leave stand around each call on c, and keep it apart from the end of a
// section, which closes what that has left open on c.
func (c *conn) enter() error {
	err := c.lockCall()
	if c.gone != inUse {
		err = c.whyGone()
	}
	if err != nil {
		c.leave()
	}
	return err
}

// enterFor is enter for an operation. It comes to the pinned connection of its section
// before it waits for a lock: others have that one while they wait.
func (c *conn) enterFor(op *operation) error {
	if err := c.lockMuFor(op.ctx); err != nil {
		return err
	}
	p := c.pinned
	if p == nil {
		p = op.pin
	}
	err := error(nil)
	switch {
	case c.gone != inUse:
		err = c.whyGone()
	case p != nil:
		err = c.usePin(op.ctx, op, p)
		if err == nil && c.pinned == nil { // else it is a member already
			err = p.section.locks.Enter(&c.pins.inCall, &c.resident) // so that the connection is not given back meanwhile
		}
	}
	if err != nil {
		c.leave()
	}
	return err
}

// server returns the server connection that an operation on c is going to use, if that
// is there already; else nil.
func (c *conn) server() *server.Conn {
	if c.drawn.Conn == nil && c.using != nil {
		return c.using.drawn.Conn
	}
	return c.drawn.Conn
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

// lockCall is enter for what must be done in any case.
//
// The wait for the turn on a pinned connection has no context. If it ends without the turn, c must
// not touch the server connection: what there is to be done there is left, see leaveLate.
func (c *conn) lockCall() error {
	c.lockMu()
	if p := c.pinned; p != nil && c.using == nil {
		return c.takeTurn(context.Background(), p, c.turnOwner())
	}
	return nil
}

// lockReturn is lockCall where c goes back to its pool, which needs the turn only if there is
// something to be closed.
func (c *conn) lockReturn() error {
	c.lockMu()
	if p := c.pinned; p != nil && c.using == nil && (c.scope != nil || len(c.stmts) > 0 || c.late.any) {
		return c.takeTurn(context.Background(), p, c.turnOwner())
	}
	return nil
}

// late is what has been ended without the turn that it needs, and is to be done by whoever has the
// turn. While there is any, calls without a context do not wait for the turn again.
type late struct {
	any    bool
	valid  bool // c was asked for IsValid
	closed bool // c was closed
}

// leaveLate leaves, so that what is late will be done.
func (c *conn) leaveLate() {
	c.late.any = true
	c.resident.Due.Store(true)
	c.leave()
}

func (c *conn) leave() {
	if c.fills.shared.Load() && c.fills.shared.CompareAndSwap(true, false) {
		return
	}
	p := c.using
	if p != nil {
		defer p.section.locks.Sweep() // for those who could not, since we were using the connection
	}
	defer c.sweep()
	defer c.mu.Unlock()
	if p != nil {
		defer p.turn.unlock()
		c.using = nil
		c.pins.inCall.Leave()
	}
}

// A sweptConn is a conn as a [locks.Sweeper], which programs do not see.
type sweptConn conn

func (c *sweptConn) Sweep() { (*conn)(c).sweep() }

// sweep closes what ended sections have left open on c, if that is due. While a call is
// running it does nothing, since that call does it when it leaves.
func (c *conn) sweep() {
	for c.resident.Due.Load() && c.mu.TryLock() {
		if !c.sweepLocked() {
			return
		}
	}
}

// sweepLocked does that, and unlocks mu. If the inner driver panics meanwhile, all that is open
// on c ends.
func (c *conn) sweepLocked() (done bool) {
	defer c.mu.Unlock()
	p := c.pinned
	if c.lent || p != nil && !p.turn.tryLock() {
		return false
	}
	if p != nil {
		defer p.turn.unlock()
	}
	defer func() {
		if !done {
			c.abandon(nil, nil)
		}
	}()
	c.resident.Due.Store(false)
	c.endInside()
	return true
}

func (c *conn) endInside() {
	pinEnded := c.pinned != nil && c.pinned.section.hasEnded()
	for _, r := range c.openRows() {
		switch {
		case r.late:
			r.end(errClosed)
		case r.inside.HasEnded():
			r.end(c.reason(r.inside))
		case pinEnded:
			r.end(c.pinned.section.reason())
		}
	}
	var last *scope // the outermost that has to end
	for s := c.scope; s != nil; s = s.outer {
		if s.ended == nil && (s.late != nil || s.hold.Section().HasEnded()) {
			last = s
		}
	}
	if last != nil {
		reason := last.late
		if reason == nil {
			reason = c.reason(last.hold.Section())
		}
		c.abort(last, reason)
		c.forgetKeptRaw()
	}
	if p := c.pinned; p != nil && p.section.hasEnded() {
		c.giveBack()
	}
	if c.late.closed {
		c.close()
	}
	c.late.any = false
	if c.bound.hasEnded() {
		c.gone = unbound
		c.giveBack()
		c.endScopes()
		c.inBound.Leave()
	}
}

// openRows returns the rows of c that are open, to be closed one by one.
func (c *conn) openRows() (all []*rows) {
	if c.drawn.Conn == nil {
		return nil
	}
	for _, r := range openOn(c.drawn.Conn) {
		if r.conn == c {
			all = append(all, r)
		}
	}
	return all
}

// reason returns the error of what the end of a section has ended.
func (c *conn) reason(s *locks.Section) error {
	if c.bound != nil && (s == &c.bound.locks || c.bound.hasEnded()) {
		return givenBack(c.bound.reason())
	}
	return s.Reason()
}

// explainClosed says of a wait that the end of the handle has ended that it did.
func (c *conn) explainClosed(err error) error {
	if err == errClosed && c.bound.hasEnded() {
		return givenBack(c.bound.reason())
	}
	return err
}

// abort ends the transactions on c from the innermost one to last, for the given
// reason. They stay in the way of statements that were meant for them, until
// database/sql ends them too.
func (c *conn) abort(last *scope, reason error) {
	for _, r := range c.openRows() {
		r.end(reason)
	}
	for s := c.scope; ; s = s.outer {
		s.abort(reason)
		if s == last {
			return
		}
	}
}

// forgetKeptRaw is for a transaction written in SQL that nobody is in the middle of, since
// its connection is in the pool: who comes next did not begin it.
func (c *conn) forgetKeptRaw() {
	if c.raw != nil && c.raw.kept && c.scope == &c.raw.scope {
		c.endScopes()
	}
}

// settleEnded lets a statement that ends a transaction written in SQL do so, if the end of a
// section came before it; its error is the reason.
func (c *conn) settleEnded(st sqltext.Statement) error {
	ends := st.Kind == sqltext.Commit || st.Kind == sqltext.Rollback
	if !ends || c.raw == nil || c.raw.ended == nil || c.scope != &c.raw.scope {
		return nil
	}
	reason := c.raw.ended
	c.endScopes()
	return reason
}

func (s *scope) abort(reason error) {
	s.ended = reason
	if s.pending == nil && (s.Tx == nil || s.Tx.Rollback() != nil) {
		s.conn.discard() // which ends it on the server
	}
	s.releaseHolds()
}
