package rwlock

import (
	"context"
	"math"
)

// Lock is a readers-writer lock, either free-standing (NewLock) or the lock of one
// key in a Table, which makes it on demand.
//
// All fields are guarded by shard.mu, except shard, which never changes.
type Lock struct {
	shard *shard
	name  string

	holders holdList // in the order in which they were granted
	queue   holdList // waiting, in the order in which they came
	held    int32    // length of holders
	limit   int32    // most holders at once; 0 for no limit

	// For the shard's index of keys.
	keyed bool // in an index, and to be freed when idle
	hash  uint32
	chain *Lock
}

// NewLock returns a lock that is in no table. Its name appears in errors and
// snapshots only. With a limit above zero, at most that many shared holders have it
// at once, as if they were the slots of a pool.
func NewLock(name string, limit int) *Lock {
	return &Lock{
		shard: &shard{rank: takeRanks(1)},
		name:  name,
		limit: int32(min(max(limit, 0), math.MaxInt32)),
	}
}

// Acquire waits until the lock can be granted to h in the given mode.
//
// It returns the context's error, and acquires nothing, if the context is already
// done; ErrHoldInUse if h is not idle; and a *WaitError if the wait ended without
// a grant. Otherwise the lock is held until h.Release.
func (l *Lock) Acquire(ctx context.Context, mode Mode, h *Hold, w Wait) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.shard.mu.Lock()
	return l.enter(ctx, mode, h, w)
}

// enter is Acquire with the mutex of the shard locked; it unlocks it.
func (l *Lock) enter(ctx context.Context, mode Mode, h *Hold, w Wait) error {
	if !h.claim(l, mode) {
		l.shard.reap(l)
		l.shard.mu.Unlock()
		return ErrHoldInUse
	}
	if l.obstacle(h) != nil {
		return contend(ctx, w, []place{{shard: l.shard, lock: l, hold: h}})
	}
	l.grant(h)
	l.shard.mu.Unlock()
	return nil
}

// obstacle decides whether h, which is either in the queue or about to join it,
// may be granted now. It returns nil if so, and else the oldest hold in the way:
// of the holders if one is in the way, of the earlier waiters if not.
//
//	h wants     while held by      or behind a waiting
//	shared      shared: granted*   shared: granted*
//	shared      exclusive: waits   exclusive: waits
//	exclusive   anybody: waits     anybody: waits
//
//	* If the number of holders is limited: waits when there is no place left, and
//	  always waits for an earlier waiter, whose place it would take.
//
// It follows that all waiters behind one who must wait must wait too, which is
// what lets wake stop there.
func (l *Lock) obstacle(h *Hold) *Hold {
	if o := l.holders.first; o != nil {
		// An exclusive holder is the only one, hence the first.
		if h.mode == Exclusive || o.mode == Exclusive || l.full() {
			return o
		}
	}
	for o := l.queue.first; o != nil && o != h; o = o.next {
		if h.mode == Exclusive || o.mode == Exclusive || l.limit > 0 {
			return o
		}
	}
	return nil
}

func (l *Lock) full() bool { return l.limit > 0 && l.held >= l.limit }

func (l *Lock) idle() bool { return l.holders.empty() && l.queue.empty() }

// grant makes h, which is claimed and in no list, a holder.
func (l *Lock) grant(h *Hold) {
	h.since = 0
	if h.Kind != Leaf || !l.queue.empty() {
		h.record()
	}
	l.holders.append(h)
	l.held++
}

// release makes the holder h idle and hands the lock on. It returns the waiters
// to be retried.
func (l *Lock) release(h *Hold) []*waiter {
	l.holders.remove(h)
	l.held--
	h.disclaim()
	pending := l.wake(nil)
	l.shard.reap(l)
	return pending
}

// enqueue makes h, which is claimed and in no list, wait.
func (l *Lock) enqueue(h *Hold, w *waiter) {
	if l.queue.empty() {
		for o := l.holders.first; o != nil; o = o.next {
			o.record()
		}
	}
	h.wait = w
	h.since = w.since
	l.queue.append(h)
}

// dequeue takes h out of the queue, still claimed.
func (l *Lock) dequeue(h *Hold) {
	l.queue.remove(h)
	h.wait = nil
}

// wake grants the lock to those at the head of the queue who can have it now. It
// must be called after each change that may have removed an obstacle: when a
// holder or a waiter has left.
//
// Who waits for other locks besides cannot be granted here, where only this
// shard's mutex is held. Such waiters keep their places and are appended to
// pending, and the caller must retry them once it has unlocked the mutex.
func (l *Lock) wake(pending []*waiter) []*waiter {
	for h := l.queue.first; h != nil && l.obstacle(h) == nil; {
		next := h.next
		if w := h.wait; w.several() {
			pending = append(pending, w)
		} else {
			l.dequeue(h)
			l.grant(h)
			w.finish()
		}
		h = next
	}
	return pending
}
