package dblocker

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/each"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/server"
)

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

// ending is why a client connection is of no more use.
type ending uint8

const (
	inUse     ending = iota
	unbound          // the section has ended that all its work is inside
	abandoned        // a call did not return
)

func (c *conn) whyGone() error {
	switch c.gone {
	case unbound:
		return givenBack(c.bound.reason())
	case abandoned:
		return errAbandoned
	}
	return nil
}

// errAbandoned wraps driver.ErrBadConn, so that database/sql lets go of the connection.
var errAbandoned = fmt.Errorf("dblocker: an earlier call on this connection panicked, or ended its goroutine, in the driver: "+
	"the connection is closed, and its transaction rolled back: %w", driver.ErrBadConn)

// abandon is for a call that did not return. Nothing is known of the server connection any
// more, and after most methods database/sql does not even close c, nor lets anybody else end the
// transaction or the sql.Conn that c has, because it keeps them locked. So everything ends
// here: on the server with the connection, and then c gives up its locks, and h, what the
// call had; or leaves them to the session, which may still be at work.
//
// It does nothing the second time, nor if it was an argument that panicked when it was converted,
// before anything was sent, where database/sql goes on.
func (c *conn) abandon(h *locks.Hold, adm *admission) {
	defer adm.drop(c.backend.Gate)
	if c.gone != inUse || c.drawn.Conn.StopConverting() && c.goesOn {
		return
	}
	c.gone = abandoned
	defer c.giveUp()
	defer c.endTransactions()
	sc := c.drawn.Conn
	if sc == nil {
		return
	}
	sc.Fail()
	c.leaveAll(h)
	defer c.discard()
	c.endRows(openOn(sc))
}

// endRows closes rows of a connection that is abandoned. More of its panics would say nothing new.
func (c *conn) endRows(all []*rows) {
	each.Do(all, func(r *rows) {
		server.Contain(c.db.logger, func() { r.end(errAbandoned) })
	})
}

// leaveAll leaves all that is held for work on the server connection to its session.
func (c *conn) leaveAll(h *locks.Hold) {
	sc := c.drawn.Conn
	if sc.Session == (server.Session{}) {
		return
	}
	if h != nil {
		c.backend.Lost.Adopt(sc.Session, h)
	}
	for _, r := range openOn(sc) {
		c.backend.Lost.Adopt(sc.Session, &r.hold.Hold)
	}
	for t := c.transaction; t != nil; t = t.outer {
		c.backend.Lost.Adopt(sc.Session, &t.hold)
		for _, h := range t.joined {
			c.backend.Lost.Adopt(sc.Session, h)
		}
	}
}
