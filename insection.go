package dblocker

import (
	"context"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// refusal returns the error for a statement that writes where only reading is allowed.
func (c *conn) refusal(op *operation, st sqltext.Statement) error {
	if t := c.transactionOnServer(); t != nil {
		if err := t.refuses(op, st); err != nil {
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
	mode, covered := s.locks.Covers(c.backend.Users, id.User)
	return covered && mode == rwlock.Shared
}

// awaitLost waits, on behalf of an operation of the user id in the section, until the server
// has ended the section's earlier ones that have lost their connections.
func (c *conn) awaitLost(ctx context.Context, in *section, id locks.Identity, mode Mode) error {
	lost := in.locks.Barriers(c.backend.Users, id.User)
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

// enterSection is for an operation inside a section. It returns whose lock the operation
// needs besides: nobody's, if the section has that of the user id. Once it has that,
// successfully or not, entered must be called.
func (c *conn) enterSection(s *section, h *locks.Hold, id locks.Identity) (needs locks.Identity, err error) {
	if h.Enter(&s.locks, &c.resident) != nil {
		return id, c.reason(&s.locks)
	}
	if _, covered := s.locks.Covers(c.backend.Users, id.User); covered {
		return locks.Identity{Owner: id.Owner}, nil
	}
	return id, nil
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
