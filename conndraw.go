package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
)

// usage says what an operation leaves on a server connection: statements at most
// (idle), or perhaps a session (busy).
type usage bool

const (
	idle usage = false
	busy usage = true
)

// onServer runs call on the server connection that c has, or else on one that it
// draws. After a restart of the server the pool may be full of stale connections,
// more than database/sql has tries; those that turn out so before they did any
// work are replaced while the lock is held.
//
// ctx is that of the operation, or ends earlier.
func (c *conn) onServer(ctx context.Context, op *operation, u usage, call func(*server.Conn) error) error {
	if c.backend.Scope != nil {
		return c.onServerInTurn(ctx, op, u, call)
	}
	return c.onServerAtOnce(ctx, op, u, call)
}

func (c *conn) onServerAtOnce(ctx context.Context, op *operation, u usage, call func(*server.Conn) error) error {
	if sc := c.drawn.Conn; sc != nil {
		sc.Claim()
		if sc.HasFailed() { // as database/sql, which would no longer let it be used
			return driver.ErrBadConn
		}
		c.busy = c.busy || u
		if err := c.clearPinned(ctx, sc); err != nil {
			return err
		}
		return c.callInner(sc, call)
	}
	for tries := 0; ; tries++ {
		if err := c.draw(ctx, op); err != nil {
			return err
		}
		if err := c.checkAttached(); err != nil {
			return err
		}
		c.busy = u
		mayBeStale := c.drawn.MayBeStale
		replace, err := c.first(ctx, op, u, call)
		if !replace {
			return err
		}
		c.discard() // now, since nothing was done on it that could go on
		if !mayBeStale || tries >= c.db.limits.MaxIdleConns {
			return err
		}
	}
}

// first runs the call that a server connection was drawn for, having set the limit for its
// statements. If the connection turns out to be bad before it has done any work, it is to be
// replaced.
func (c *conn) first(ctx context.Context, op *operation, u usage, call func(*server.Conn) error) (replace bool, err error) {
	sc, mayBeStale := c.drawn.Conn, c.drawn.MayBeStale
	ended, known := c.drawn.HasEnded()
	if ended {
		return true, driver.ErrBadConn
	}
	if err := c.clearPinned(ctx, sc); err != nil {
		return false, err
	}
	if err := c.limitServer(ctx, op); err != nil {
		return errors.Is(err, driver.ErrBadConn), err
	}
	err = c.callInner(sc, call)
	switch {
	case mayBeStale && sc.IsOutdated(err):
		return true, err
	case !errors.Is(err, driver.ErrBadConn):
		return false, err
	case u == idle:
		return true, err
	}
	replace, asked := c.sentNothing(ctx, mayBeStale && !known)
	if asked != nil {
		sc.Fail()
		err = asked
	}
	return replace, err
}

// callInner calls the inner driver. Others see how long that takes.
func (c *conn) callInner(sc *server.Conn, call func(*server.Conn) error) error {
	c.resident.Calls.Begin()
	defer c.resident.Calls.End()
	err := sc.NoteError(call(sc))
	if err != nil && c.pinned != nil && c.backend.Scope != nil {
		err = c.noteLoss(sc, err)
	}
	return err
}

// draw makes sure that c has a server connection.
func (c *conn) draw(ctx context.Context, op *operation) error {
	if c.drawn.Conn != nil {
		return nil
	}
	if op.pin != nil {
		return op.pin.attach(ctx, op, c)
	}
	c.slot.Work = &c.resident
	var err error
	c.drawn, err = c.drawFor(ctx, &c.slot, op.id, op.id.User)
	return c.explainClosed(c.db.connectError(err))
}

// drawFor draws a server connection, for which slot waits as a part of a call of id, when it is
// the turn of the user. While it waits, what the call holds is as stuck as it is itself.
func (c *conn) drawFor(ctx context.Context, slot *rwlock.Hold, id locks.Identity, user string) (server.Lease, error) {
	if c.backend.Servers.Slots == nil { // there is nothing to wait for
		return c.backend.Servers.ConnectFor(ctx, user)
	}
	slot.Owner = c.ownerFor(id)
	slot.With, slot.Label = c.heldBy(slot.Owner), c.db.label(ctx)
	if c.db.trace {
		slot.Label = c.db.sited(ctx)
	}
	if permit := c.reaching.link(slot.Owner); permit != nil {
		slot.With = permit
	}
	if c.backend.Scope != nil && id.Owner != nil && id.Owner.HasRows() {
		d, err := c.backend.Servers.Draw(ctx, slot, rwlock.Wait{Turn: user})
		if !errors.Is(err, rwlock.ErrTimeout) {
			return d, err
		}
		if err := c.freeKept(ctx, id.Owner); err != nil {
			return server.Lease{}, err
		}
	}
	return c.backend.Servers.Draw(ctx, slot, c.waitForConn(user))
}

// freeKept reads rows of the owner into memory, if connections wait for their end which have nothing else to do than to keep the lock that they work
// under.
func (c *conn) freeKept(ctx context.Context, o *locks.Owner) error {
	if !c.backend.Scope.KeepsFor(locks.Identity{Owner: o}.LockOwner()) {
		return nil
	}
	err := c.spillOwn(ctx, o, c.db.mustSpill(), func(*rows) bool { return true })
	if err == errInCall || errors.Is(err, ErrSpillLimit) { // others may still end
		return nil
	}
	return err
}

func (c *conn) waitForConn(user string) rwlock.Wait {
	w := c.wait()
	w.Timeout, w.Stats, w.Turn = c.db.connTimeout, &c.db.connWaits, user
	return w
}

// giveBack returns the server connection, if any, to the inner pool; a pinned one stays with
// its pin.
func (c *conn) giveBack() {
	c.undraw(func(d server.Lease, p *pin) {
		if p == nil {
			d.GiveBack()
		}
	})
}

// discard closes the server connection, if any.
func (c *conn) discard() {
	c.drawn.Conn.LoseKept()
	c.undraw(func(d server.Lease, p *pin) {
		if p == nil {
			d.Discard()
		} else {
			p.discard()
		}
	})
}

func (c *conn) undraw(end func(server.Lease, *pin)) {
	if c.drawn.Conn == nil {
		return
	}
	if c.pinned == nil && (c.drawn.Conn.IsSettling() || c.drawn.Conn.HasKept()) {
		c.undrawLater(end)
		return
	}
	d, p := c.drawn, c.pinned
	if c.transaction != nil && p != nil {
		p.transaction = nil
	}
	// Also if the inner driver panics.
	defer c.detach(p)
	defer c.slot.Release()
	defer end(d, p)
	if p == nil || c.using != nil && p.transaction == nil { // else it is not for c alone: see lockReturn
		d.Conn.EndTx() // should a transaction have ended unseen
	}
	for len(c.stmts) > 0 {
		c.stmts[len(c.stmts)-1].closeInner() // which takes it off
	}
	c.drawn, c.pinned = server.Lease{}, nil
}

// undrawLater is undraw for a connection that somebody is at work on whom nobody waits for: it goes when he is
// done. c is without it at once.
func (c *conn) undrawLater(end func(server.Lease, *pin)) {
	d, slot := c.drawn, new(rwlock.Hold)
	slot.Kind = rwlock.Leaf // of nobody, and it ends by itself
	c.slot.Move(slot)
	inner := make([]*server.Kept, 0, len(c.stmts))
	for _, s := range c.stmts {
		inner = append(inner, s.inner)
		s.inner = nil
	}
	c.stmts, c.drawn = nil, server.Lease{}
	d.Conn.Later(func() {
		defer slot.Release()
		defer end(d, nil)
		d.Conn.AwaitKept()
		d.Conn.EndTx()
		for _, k := range inner {
			k.Release()
		}
	})
}

// detach leaves the pin whose connection c had; nil if it was another.
func (c *conn) detach(p *pin) {
	c.drawn, c.pinned = server.Lease{}, nil
	switch u := c.pins; {
	case u == nil:
	case c.using != nil && c.using == p && u.inCall.IsFree():
		u.inPinned.Move(&u.inCall, &c.resident) // it keeps its turn, and whoever has that is a member
	default:
		u.inPinned.Leave()
	}
}

// server returns the server connection that an operation on c is going to use, if that
// is there already; else nil.
func (c *conn) server() *server.Conn {
	if c.drawn.Conn == nil && c.using != nil {
		return c.using.drawn.Conn
	}
	return c.drawn.Conn
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

// sentNothing tells whether a call that has ended with [driver.ErrBadConn] has sent nothing, so that its connection
// can be replaced. Else the session is lost with what the call holds. If the connection may have
// been stale, only the server knows; the error is that of asking in vain, and is what the next
// connection would come to.
func (c *conn) sentNothing(ctx context.Context, mayBeStale bool) (bool, error) {
	sc := c.drawn.Conn
	if !sc.MayHaveSent || !sc.IsLost() {
		return true, nil
	}
	if !mayBeStale {
		return false, nil
	}
	return c.backend.Lost.IsGone(ctx, sc.Session)
}
