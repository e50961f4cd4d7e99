package dblocker

import (
	"database/sql/driver"
	"fmt"

	"github.com/calmdocs/dblocker/internal/each"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/server"
)

// close ends c as database/sql has asked.
func (c *conn) close() {
	defer c.giveUp()
	if c.late.any {
		c.endOpen()
	}
	defer c.endTransactions()
	for t := c.transaction; t != nil; t = t.outer {
		t.leaveToLost()
	}
	if c.late.valid { // it was not taken for bad
		c.giveBack()
	} else {
		c.discard()
	}
}

// giveUp gives up what c has of its backend and its section, for good. It does nothing the
// second time.
func (c *conn) giveUp() {
	if !c.quit {
		c.quit = true
		defer c.noteGone()
		defer c.backend.Release()
		c.inBound.Leave()
	}
}

// noteGone ends the use of a user's database, if c is on one. Else database/sql has c itself.
func (c *conn) noteGone() {
	if c.tenancy == nil {
		c.db.outer.Gone()
		return
	}
	c.noteLeft()
}

// endTransactions ends transactions that were not ended in their order, or not at all.
func (c *conn) endTransactions() {
	for c.transaction != nil {
		c.transaction.release()
	}
	c.raw = nil
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
	c.drawn.Conn.Claim() // what the call had may rest there already
	if c.gone != inUse || c.drawn.Conn.StopConverting() && c.goesOn {
		return
	}
	c.gone = abandoned
	defer c.giveUp()
	defer c.endTransactions()
	defer func() {
		c.endRows(c.late.rows)
		c.late.rows = nil
	}()
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

// A sweptConn is a conn as a [locks.Sweeper], which programs do not see.
type sweptConn conn

func (c *sweptConn) Sweep() { (*conn)(c).sweep() }

// Unused implements [scope.Keeper].
func (c *sweptConn) Unused() {
	c.resident.Due.Store(true)
	go server.Contain(c.db.logger, c.Sweep) // which may wait for the server
}

// sweep closes what ended sections have left open on c, if that is due. While a call is
// running it does nothing, since that call does it when it leaves. Nor while another has the
// turn on the pinned connection, for the same reason: see turn.
func (c *conn) sweep() {
	for c.resident.Due.Load() && c.mu.TryLock() && c.sweepLocked() {
	}
}

// sweepLocked does that, and unlocks mu. If the inner driver panics meanwhile, all that is open
// on c ends. It reports whether sweep has to look again.
func (c *conn) sweepLocked() (again bool) {
	if c.lent {
		c.mu.Unlock()
		return false
	}
	p := c.pinned
	if p != nil {
		left := p.turn.left.Load()
		if !p.turn.tryLock() {
			c.mu.Unlock()
			return p.turn.left.Load() != left
		}
		defer p.section.locks.SweepDue()
	}
	defer c.mu.Unlock()
	if p != nil {
		defer p.releaseDue()
		defer p.turn.unlock()
	}
	defer func() {
		if !again {
			c.abandon(nil, nil)
		}
	}()
	c.drawn.Conn.Settle()
	c.resident.Due.Store(false)
	c.endInside()
	if c.pinned == nil {
		c.drawn.Conn.GiveUpKept()
	}
	return true
}

// endInside ends what is due on c, whose server connection the caller has.
func (c *conn) endInside() {
	c.endOpen()
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
		c.endTransactions()
		c.inBound.Leave()
	}
}

// endOpen ends the rows and the transactions that are to end. Who gives the server connection back without that they have, since he has got the turn
// before the one who is to sweep, ends them first: nobody finds them later.
func (c *conn) endOpen() {
	pinEnded := c.pinned != nil && c.pinned.section.hasEnded()
	c.late.endRows()
	for _, r := range c.openRows() {
		switch {
		case r.inside.HasEnded():
			r.end(c.reason(r.inside))
		case pinEnded:
			r.end(c.pinned.section.reason())
		}
	}
	var last *transaction // the outermost that has to end
	for t := c.transaction; t != nil; t = t.outer {
		if t.ended == nil && (t.late != nil || t.hold.Section().HasEnded()) {
			last = t
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
}

// abort ends the transactions on c from the innermost one to last, for the given
// reason. They stay in the way of statements that were meant for them, until
// database/sql ends them too.
func (c *conn) abort(last *transaction, reason error) {
	for _, r := range c.openRows() {
		r.end(reason)
	}
	for t := c.transaction; ; t = t.outer {
		t.abort(reason)
		if t == last {
			return
		}
	}
}
