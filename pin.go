package dblocker

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
)

// A pin is the one server connection of a section. Client connections that work inside
// the section attach to it instead of drawing one of their own, and are then members
// of the section until they detach.
type pin struct {
	section *section

	turn        turn         // held during each call on the server connection; guards what follows
	wanted      atomic.Int32 // so many calls wait for the turn
	drawn       server.Lease // has no Conn until the first call
	transaction *transaction // the innermost transaction on it, of one of the client connections that have it; or nil
	slot        rwlock.Hold
	used        bool // somebody had it before; if it is lost then, so is what was set up on it
	lost        bool
	reach       pinReach
	waits       *reachWait // of the section that takes its locks on it; nil if none does
	rowsSee     uint32     // what its owner had written when the rows that are open on it began, or less: see spillRowsBehind
}

// A pinUse is what a client connection has of the pinned connections that it comes to use.
type pinUse struct {
	turn     rwlock.Hold  // on that of conn.using
	inPinned locks.Member // in the section of conn.pinned
	inCall   locks.Member // in the section of conn.using, while the call lasts
}

var errPinLost = errors.New("dblocker: the server connection that the section is pinned to was lost, with all that was set up on it; begin a new section")

// pinOf returns the pin that an operation inside the section, which may be nil, has to use; nil
// if it has none.
func (c *conn) pinOf(s *section) *pin {
	for ; s != nil; s = s.outer {
		if s.pin != nil && s.backend == c.backend {
			return s.pin
		}
	}
	return nil
}

// usePin keeps others from the pinned connection until the call on c leaves.
func (c *conn) usePin(ctx context.Context, op *operation, p *pin) error {
	if c.using != nil {
		return nil
	}
	return c.takeTurn(ctx, p, op.id.LockOwner())
}

// attach gives c the pinned connection.
func (p *pin) attach(ctx context.Context, op *operation, c *conn) error {
	if err := c.usePin(ctx, op, p); err != nil {
		return err
	}
	if p.lost {
		return p.whyLost()
	}
	if err := p.section.locks.Enter(&c.pins.inPinned, &c.resident); err != nil {
		return err
	}
	if p.drawn.Conn == nil {
		defer func() {
			if p.drawn.Conn == nil { // also when the inner driver panics
				c.pins.inPinned.Leave()
			}
		}()
		var err error
		p.slot.Work = &p.section.locks
		if p.drawn, err = c.drawFor(ctx, &p.slot, op.id, p.section.locks.Identity().User); err != nil {
			return c.explainClosed(c.db.connectError(err))
		}
		p.drawn.Conn.Pinned = true
		p.slot.SetOwner(p.section.locks.Identity().LockOwner())
		c.drawn, c.pinned = p.drawn, p
		return nil
	}
	p.used = true
	p.drawn.Conn.Settle()
	c.drawn, c.pinned = p.drawn, p
	c.drawn.MayBeStale = false
	return nil
}

// discard closes the connection. One that nobody has used is replaced by the next
// call.
func (p *pin) discard() {
	d := p.drawn
	p.drawn = server.Lease{}
	defer func() { p.lost = p.lost || p.used }() // noteLoss is first
	if d.Conn != nil {
		defer p.slot.Release()
		defer p.noteLoss(d.Conn)
		d.Discard()
	}
}

// close gives the connection back when the section is released. It does not take the turn,
// which the last member may hold who is just leaving: whoever has the turn is a member.
func (p *pin) close() {
	if p.section.backend.Scope != nil {
		p.reach.close()
	}
	if d := p.drawn; d.Conn != nil {
		p.drawn = server.Lease{}
		if p.section.backend.Scope != nil {
			p.closeReaching(d)
			return
		}
		defer p.slot.Release()
		d.Conn.EndTx()
		d.GiveBack()
	}
}

// A turn is the mutex of a pinned connection. The call that has it may take long, or wait for
// a lock that somebody has who waits for the turn. So it is a lock of the lock table, and the
// wait for it ends with the context, after lock_timeout, or because it closes a circle: the
// deadlock search knows by Hold.With that who has it waits for something else.
//
// Who sweeps a client connection with a pinned one needs both its mu and the turn, in this order, and waits for neither. So that
// somebody sweeps what is due once nobody has them, whoever unlocks mu then sweeps the connection, and whoever unlocks the turn then
// sweeps those of the section's members for which it is due. For the latter mu may be locked by one who sweeps, and could not
// have the turn a moment ago: so that one, when it has unlocked mu, tries again if left has changed since before it tried the turn.
type turn struct {
	lock  *rwlock.Lock
	brief rwlock.Hold   // of who does not wait: several may try it at a time, so nothing of it is set then
	has   *rwlock.Hold  // who has it; guarded by the turn
	left  atomic.Uint64 // so many times it was unlocked
}

func newTurn() turn {
	return turn{lock: rwlock.NewLock(turnName, 0), brief: rwlock.Hold{Kind: rwlock.Leaf}}
}

const turnName = "the turn on the section's pinned connection"

// acquire waits for the turn, for the call that h is of.
func (t *turn) acquire(ctx context.Context, h *rwlock.Hold, w rwlock.Wait) error {
	if err := t.lock.Acquire(ctx, rwlock.Exclusive, h, w); err != nil {
		return err
	}
	t.has = h
	return nil
}

func (t *turn) tryLock() bool { return t.acquire(context.Background(), &t.brief, rwlock.Wait{}) == nil }

// unlock is followed by SweepDue, or Sweep, of the section.
func (t *turn) unlock() {
	h := t.has
	t.has = nil
	h.Release()
	t.left.Add(1) // after Release: who could not have the turn sees the change, or has unlocked mu before the sweep that follows
}

// takeTurn waits for the turn on the connection of p, for a call of the owner.
func (c *conn) takeTurn(ctx context.Context, p *pin, owner *rwlock.Owner) error {
	if c.pins == nil {
		c.pins = new(pinUse)
	}
	turn := &c.pins.turn
	turn.Owner, turn.Kind, turn.Work, turn.Label = owner, rwlock.Leaf, &c.resident, c.db.label(ctx)
	w := c.waitForTurn()
	if c.late.any && ctx.Done() == nil {
		w = rwlock.Wait{}
	}
	p.wanted.Add(1) // so that a fill stops
	defer p.wanted.Add(-1)
	err := p.turn.acquire(ctx, turn, w)
	if err == nil {
		c.using = p
	}
	c.db.tellDeadlock(err)
	return turnError(err)
}

// turnOwner is the owner of the last call that waited for a turn.
func (c *conn) turnOwner() *rwlock.Owner {
	if c.pins == nil {
		return nil
	}
	return c.pins.turn.Owner
}

// waitForTurn is as long a wait also where nobody waits for locks, since the other call is of the
// same section. That this is perhaps the caller's own, in another goroutine, is no reason
// to end it earlier.
func (c *conn) waitForTurn() rwlock.Wait {
	w := c.wait()
	w.Timeout = max(w.Timeout, w.Self)
	w.Self = w.Timeout
	return w
}

// turnLink links the turn, if the call has one, to what it goes on to wait for on behalf of the
// owner.
func (c *conn) turnLink(owner *rwlock.Owner) *rwlock.Hold {
	if c.using == nil || owner == nil || c.pins.turn.Owner != owner {
		return nil
	}
	return &c.pins.turn
}

// turnError puts the end of a wait for a turn in the terms of a user of dblocker.
func turnError(err error) error {
	var w *rwlock.WaitError
	if !errors.As(err, &w) {
		return err
	}
	if w.Err == context.Canceled || w.Err == context.DeadlineExceeded || errors.Is(w.Err, ErrReleased) {
		return w.Err
	}
	return waitError(w, locks.Identity{}, turnName, outOfTurns)
}

const outOfTurns = "statements of a pinned section run one at a time: end what this one waits for first, or do it in another section"
