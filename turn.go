package dblocker

import (
	"context"
	"errors"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A turn is the mutex of a pinned connection. The call that has it may take long, or wait for
// a lock that somebody has who waits for the turn. So it is a lock of the lock table, and the
// wait for it ends with the context, after lock_timeout, or because it closes a circle: the
// deadlock search knows by Hold.With that who has it waits for something else.
type turn struct {
	lock  *rwlock.Lock
	brief rwlock.Hold  // of who does not wait
	has   *rwlock.Hold // who has it; guarded by the turn
}

func newTurn() turn { return turn{lock: rwlock.NewLock(turnName, 0)} }

const turnName = "the turn on the section's pinned connection"

// acquire waits for the turn, for the call that h is of.
func (t *turn) acquire(ctx context.Context, h *rwlock.Hold, w rwlock.Wait) error {
	h.Kind = rwlock.Leaf
	if err := t.lock.Acquire(ctx, rwlock.Exclusive, h, w); err != nil {
		return err
	}
	t.has = h
	return nil
}

func (t *turn) tryLock() bool { return t.acquire(context.Background(), &t.brief, rwlock.Wait{}) == nil }

func (t *turn) unlock() {
	h := t.has
	t.has = nil
	h.Release()
}

// takeTurn waits for the turn on the connection of p, for a call of the owner.
func (c *conn) takeTurn(ctx context.Context, p *pin, owner *rwlock.Owner) error {
	if c.pins == nil {
		c.pins = new(pinUse)
	}
	turn := &c.pins.turn
	turn.Owner, turn.Work = owner, &c.resident
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
