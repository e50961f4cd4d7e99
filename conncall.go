package dblocker

import (
	"context"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/server"
)

// An operation is what a call on a client connection works for: whose it is, in which section,
// and in which mode. It is read from the context once, when the call enters, and handed down.
// It never changes.
type operation struct {
	ctx     context.Context // of the call
	section *section        // the innermost, of those in the lock table of the connection, that it is inside; nil if in none
	pin     *pin            // whose connection it has to use; nil if it has none
	id      locks.Identity  // the user and the owner, as far as they are known
	tagged  bool            // the context says whose it is
	outside bool            // the context is not inside the section that the connection is bound to
	mode    askedMode
	called  callers.Entry // for an Exec that may be combined with others: see noteEntry
}

// operation reads what a call with ctx works for.
func (c *conn) operation(ctx context.Context) operation {
	m := marksFrom(ctx)
	op := operation{ctx: ctx, mode: m.mode}
	s := m.section
	if c.bound != nil && !s.isInside(c.bound) {
		s, op.outside = c.bound, true
	}
	for s != nil && s.backend.Users != c.backend.Users {
		s = s.outer
	}
	op.section, op.pin = s, c.pinOf(s)
	if c.bound != nil {
		op.id, op.tagged = *s.locks.Identity(), true
	} else {
		op.id, op.tagged = m.identity(ctx)
	}
	return op
}

// background is the operation of a call without a context.
func (c *conn) background() operation { return c.operation(context.Background()) }

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
		return err
	}
	c.drawn.Conn.Settle()
	return nil
}

// lockCall is enter for what must be done in any case.
//
// The wait for the turn on a pinned connection has no context. If it ends without the turn, c must
// not touch the server connection: what there is to be done there is left, see leaveLate.
func (c *conn) lockCall() error {
	c.lockMu()
	if p := c.pinned; p != nil && c.using == nil {
		if err := c.takeTurn(context.Background(), p, c.turnOwner()); err != nil {
			return err
		}
	}
	c.drawn.Conn.Claim()
	return nil
}

// lockReturn is lockCall where c goes back to its pool, which needs the turn only if there is
// something to be closed.
func (c *conn) lockReturn() error {
	c.lockMu()
	c.drawn.Conn.TryWake()
	if p := c.pinned; p != nil && c.using == nil && (c.transaction != nil || len(c.stmts) > 0 || c.late.any) {
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
	rows   []*rows
}

// endRows ends the rows, of which some may be off the list of their server connection.
func (l *late) endRows() {
	for len(l.rows) > 0 {
		r := l.rows[0]
		l.rows = l.rows[1:] // before the driver may panic
		r.end(errClosed)
	}
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
	if c.backend.Scope != nil && c.pinned == nil {
		c.drawn.Conn.GiveUpKept() // for which there were rows in the way
	}
	c.drawn.Conn.LieDown()
	if p != nil {
		defer p.releaseDue()
		defer p.turn.unlock()
		c.using = nil
		c.pins.inCall.Leave()
	}
}

// call runs f, which is the work of a method of c for an operation.
func (c *conn) call(op *operation, f func() error) error {
	if err := c.enterFor(op); err != nil {
		return err
	}
	return c.guard(f)
}

// callHeld is call for the methods after whose panic database/sql keeps a Tx, a sql.Conn or a
// Stmt locked for ever, so that neither a Rollback, nor a Close, nor what the program
// has deferred before them gets through. There a panic becomes an error, with which database/sql
// unlocks. If it closes the connection next, where the caller is still the same, that
// panics instead; if not, since the connection is in a transaction or has open rows, the
// program has the error.
func (c *conn) callHeld(op *operation, f func() error) error {
	if err := c.enterFor(op); err != nil {
		return err
	}
	closes := c.transaction == nil && (c.drawn.Conn == nil || !c.drawn.Conn.HasRows())
	return c.raiseWhenClosed(closes, c.guardHeld(f))
}

// raiseWhenClosed returns err; but if that is a panic, and database/sql closes c next for an error of a
// connection that has gone bad, the panic goes on there.
func (c *conn) raiseWhenClosed(closes bool, err error) error {
	if p, ok := err.(*server.PanicError); ok && closes && !callers.InBackground() {
		c.raises = p
		return errAbandoned
	}
	return err
}

// guardHeld is guard, and returns a panic as a *server.PanicError.
func (c *conn) guardHeld(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = server.Caught(c.db.logger, p)
		}
	}()
	return c.guard(f)
}

// raise goes on with a panic that callHeld has caught.
func (c *conn) raise() {
	if p := c.raises; p != nil {
		c.raises = nil
		panic(p.Value)
	}
}

// guard runs f, which is the work of a method of c that has entered, and leaves. If f does not
// return, since the inner driver or a function of the program has panicked or has ended the
// goroutine, c is abandoned. So what f takes must be in c, or its release be deferred before
// anything runs that is not ours.
func (c *conn) guard(f func() error) error {
	returned := false
	defer c.leave()
	defer func() {
		if !returned {
			c.abandon(nil, nil)
		}
		c.goesOn = false
	}()
	err := f()
	returned = true
	return err
}

// A fillTurn is that of the fills on a client connection.
type fillTurn struct {
	wanted  atomic.Int32                  // so many calls wait for the connection's mutex
	shared  atomic.Bool                   // both a fill and the Query that began it have the connection: the first to leave leaves it to the other
	filling atomic.Pointer[chan struct{}] // closed when the fill that has the connection leaves it; nil if none has
}

// lockMu locks the mutex of the connection for a call that must be done in any case.
func (c *conn) lockMu() { c.lockMuFor(context.Background()) }

// lockMuFor locks it for a call with ctx. A fill that has it stops; the call does not wait
// longer than its context for the row that the fill may be waiting for.
func (c *conn) lockMuFor(ctx context.Context) error {
	if c.mu.TryLock() {
		return nil
	}
	c.fills.wanted.Add(1)
	defer c.fills.wanted.Add(-1)
	for !c.mu.TryLock() {
		left := c.fills.filling.Load()
		if left == nil { // it is the end of a section, or the like
			c.mu.Lock()
			return nil
		}
		select {
		case <-*left:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// isWanted tells a fill that has the connection whether a call waits for it.
func (c *conn) isWanted() bool {
	p := c.using
	return c.fills.wanted.Load() > 0 || p != nil && p.wanted.Load() > 0
}

// tryEnter takes the connection for a fill, unless a call has it. leaveFill must follow.
func (c *conn) tryEnter() bool {
	if !c.mu.TryLock() {
		return false
	}
	p := c.pinned
	if c.lent || p != nil && !p.turn.tryLock() {
		c.mu.Unlock()
		c.sweep() // for who found mu locked
		return false
	}
	c.using = p
	c.drawn.Conn.Settle()
	c.beginFill()
	return true
}

func (c *conn) beginFill() {
	left := make(chan struct{})
	c.fills.filling.Store(&left)
}

func (c *conn) leaveFill() {
	left := c.fills.filling.Swap(nil)
	c.leave()
	close(*left)
}
