package rwlock

import (
	"context"
)

// Lock is a readers-writer lock, either free-standing (NewLock) or the lock of one
// key in a Table, which makes it on demand.
//
// All fields are guarded by shard.mu, except shard, which never changes.
type Lock struct {
	shard *shard
	name  string

	holders holdList // in the order in which they were granted
	queue   *queue   // of those who wait, if there is no limit; nil until somebody does
	writers int32    // how many of them are exclusive; then the owners of all are in one line with theirs
	offered *waiter  // who is to take it, of a gate that is free, and may be passed meanwhile: see offer
	watched bool     // is in the list of the shard's watch

	// For the shard's index of keys.
	hash  uint32
	chain *Lock
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
	if l.shard.slots != nil {
		return l.enterSlots(ctx, mode, h, w)
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
		return contend(ctx, w, ungated, []place{{shard: l.shard, lock: l, hold: h}})
	}
	l.let(h)
	return nil
}

// tryEnter is enter for a hold that does not wait. It reports whether it was granted.
func (l *Lock) tryEnter(mode Mode, h *Hold) bool {
	if !h.claim(l, mode) {
		l.shard.reap(l)
		l.shard.mu.Unlock()
		return false
	}
	if l.obstacle(h) != nil {
		h.disclaim() // somebody uses l, so it is not to be reaped
		l.shard.mu.Unlock()
		return false
	}
	l.let(h)
	return true
}

// let grants h, for which nothing is in the way, and unlocks the shard.
func (l *Lock) let(h *Hold) {
	var pending []*waiter
	if l.grant(h) {
		pending = l.wake(nil)
	}
	l.shard.mu.Unlock()
	retry(pending)
}

// obstacle decides whether h, which is either in the queue or about to join it,
// may be granted now. It returns nil if so, and else the oldest hold in the way:
// of the holders if one is in the way, of the earlier waiters if not.
//
//	h wants     while held by      or behind a waiting
//	shared      shared: granted*   shared: granted*
//	shared      exclusive: waits†  exclusive: waits‡
//	exclusive   anybody: waits†    anybody: waits‡
//
//	* If the number of holders is limited: waits when there is no place left, and then
//	  for nothing else. See slots.
//	† If the owners of h and the holder are in one line, that is for besideOwn to decide.
//	‡ But not if the line of h's owner has a lasting hold of this lock: those in the queue
//	  wait for that hold, and would wait for ever if h waited for them. (A reader
//	  reads on while a writer is queued; an upgrade comes before all strangers.) h
//	  is ahead of the queue then. If a hold of its own is in its way, it is not: it
//	  waits for another goroutine, and can as well wait for its turn.
//
// An earlier waiter that waits for a gate besides may let h pass: see stage.
func (l *Lock) obstacle(h *Hold) *Hold {
	if o := l.holderInWay(h); o != nil {
		return o
	}
	if l.mayBarge(h) {
		return nil
	}
	if l.queue.empty() || !h.ahead && (h.mode == Shared && l.queue.closed == 0 || l.queue.alone(l, h)) {
		return nil
	}
	for o := l.queue.head(); l.comesBefore(o, h); o = o.next {
		if l.outOfTurn(h, o) {
			return o
		}
		if h.ahead && !o.ahead {
			break
		}
	}
	return nil
}

func (l *Lock) holderInWay(h *Hold) *Hold {
	if l.shard.slots != nil {
		if l.full() {
			return l.holders.first
		}
		return nil
	}
	if h.mode == Shared && l.writers == 0 {
		return nil
	}
	for o := l.holders.first; o != nil; o = o.next {
		if l.conflict(h, o) {
			return o
		}
	}
	return nil
}

// ownInWay returns the oldest hold of its owner's line that is in the way of h, which is
// in the queue. If all the places of a limited lock are the line's own, any of
// them will do, and it is the youngest.
func (l *Lock) ownInWay(h *Hold) (own *Hold) {
	if h.Owner == nil {
		return nil
	}
	full := l.full()
	for o := l.holders.first; o != nil; o = o.next {
		switch {
		case !o.Owner.InLine(h.Owner):
			if full {
				return nil
			}
		case full:
			own = o
		case l.conflict(h, o):
			return o
		}
	}
	return own
}

// othersWait reports whether something is in the way of h, which is in the queue, that
// waits too: the owner of a holder, or an earlier waiter.
func (l *Lock) othersWait(h *Hold) bool {
	for o := l.holders.first; o != nil; o = o.next {
		if (l.full() || l.conflict(h, o)) && o.Owner.waiting() {
			return true
		}
	}
	for o := l.queue.head(); l.comesBefore(o, h); o = o.next {
		if l.outOfTurn(h, o) {
			return true
		}
	}
	return false
}

// conflict reports whether h must wait for the holder o, if there is room for both.
func (l *Lock) conflict(h, o *Hold) bool {
	if h.mode == Shared && o.mode == Shared {
		return false
	}
	return !l.knowsOwners() || !h.Owner.InLine(o.Owner) || !besideOwn(h, o)
}

// outOfTurn reports whether h must wait for the earlier waiter o, because o has its
// turn first. What one owner asks for in parallel is served in turn, be it ahead.
func (l *Lock) outOfTurn(h, o *Hold) bool {
	if h.ahead && !o.keepsTurn(h) {
		return false
	}
	if h.mode == Shared && o.mode == Shared {
		return false
	}
	return !o.wait.letsPass(l, h)
}

// keepsTurn reports whether o, which waits, is waited for by the later h even if that
// is ahead. Owners in one line are no reason: what lets h pass may be what o waits for.
func (o *Hold) keepsTurn(h *Hold) bool { return o.ahead && o.Owner == h.Owner }

// besideOwn decides whether h may be granted beside o, a hold of the same line, when
// strangers could not have these holds together. An owner is one thread of control: to
// make it wait for itself is to stop it for ever, so it must have a reason.
//
//	h wants                         beside its own
//	                                rows     transaction, session, section   leaf
//	leaf, rows: one statement       granted  granted                         waits
//	shared transaction, session,
//	  section                       granted  granted                         waits
//	exclusive transaction           granted  waits                           waits*
//	exclusive session, section      granted  waits                           waits
//
//	* but is granted beside a shared leaf
//
// The reasons, by column:
//
//   - Rows are read in a loop of the program, which is not closed before what is in
//     the loop is done, whatever that is.
//   - In a transaction, session or section of its own, the owner has other
//     statements and reads that it does not pass through it, as it could on a bare
//     connection pool. But two things that both write and last are two pieces of work
//     that the program keeps apart, so the lock does: the second waits.
//   - A leaf is a call that has not returned: h is asked for by another goroutine, and
//     to wait for a leaf stops nobody. Parallel statements of one owner exclude
//     each other like those of strangers. A transaction only begins beside a leaf
//     that reads; what it writes comes later. A section or session promises more:
//     that nothing is going on when it is entered.
func besideOwn(h, o *Hold) bool {
	switch {
	case o.Kind == Rows:
		return true
	case o.Kind == Leaf:
		return h.Kind == Tx && o.mode == Shared
	default:
		return h.mode == Shared || h.Kind == Leaf || h.Kind == Rows
	}
}

// reenters reports whether h may pass the queue, since its owner's line has a lasting hold
// of the lock, and none in the way of h. Somebody waits for the lock, or is about to.
func (l *Lock) reenters(h *Hold) bool {
	if h.Owner == nil || !h.Owner.lineAwaited() {
		return false // all holders are awaited: it can have none
	}
	return l.holds(h.Owner) && l.ownInWay(h) == nil
}

// holds reports whether the owner's line has a lasting hold of the lock, if that knows owners.
func (l *Lock) holds(owner *Owner) bool {
	if owner == nil || !l.knowsOwners() {
		return false
	}
	for o := l.holders.first; o != nil; o = o.next {
		if o.lasting() && o.Owner.InLine(owner) {
			return true
		}
	}
	return false
}

// isOnly reports whether all holders have the owner.
func (l *Lock) isOnly(owner *Owner) bool {
	for o := l.holders.first; o != nil; o = o.next {
		if o.Owner != owner {
			return false
		}
	}
	return true
}

// knowsOwners reports whether the lock is one that owners may have several holds of:
// neither a slot of a pool nor a gate.
func (l *Lock) knowsOwners() bool { return l.shard.slots == nil && !l.shard.gate }

// full reports whether the number of holders is limited, and there is no room for more.
func (l *Lock) full() bool { return l.shard.slots != nil && l.shard.slots.held >= l.shard.slots.limit }

// awaited reports whether anybody waits for the lock.
func (l *Lock) awaited() bool {
	if s := l.shard.slots; s != nil {
		return s.waiting > 0
	}
	return !l.queue.empty()
}

func (l *Lock) idle() bool { return l.holders.empty() && l.queue.empty() }

// grant makes h, which is claimed and in no list, a holder. It reports whether that has
// put waiters ahead of the queue; then the caller must call wake.
func (l *Lock) grant(h *Hold) (promoted bool) {
	h.since = 0
	if h.lasting() || h.Label != nil && h.tellsEnd() {
		h.record()
	}
	l.holders.append(h)
	if h.mode == Exclusive {
		l.writers++
	} else if s := l.shard.slots; s != nil {
		s.held++
	}
	if !l.awaited() {
		return false
	}
	h.await()
	return l.promoteOwn(h.Owner)
}

// promoteOwn puts ahead of the queue what the owner's line waits for here and may pass the
// queue for, now that one of the owner's holds was granted or has ended. So of whoever is
// not ahead the line has no lasting hold of the lock, or one in the way.
func (l *Lock) promoteOwn(owner *Owner) (promoted bool) {
	if owner == nil || l.queue.empty() || !l.knowsOwners() || owner.parent == nil && !l.holds(owner) {
		return false // the last: then all of its line are inside it
	}
	for _, h := range owner.waitsFor(l) {
		if l.holds(h.Owner) && l.ownInWay(h) == nil && l.promote(h) {
			promoted = true
		}
	}
	return promoted
}

// promote puts h, which is in the queue, ahead of those that are not, and reports
// whether it was not there already.
func (l *Lock) promote(h *Hold) bool {
	if h.ahead {
		return false
	}
	l.listOf(h).remove(h)
	l.queue.insert(h)
	h.ahead = true
	return true
}

// release makes the holder h idle and hands the lock on. It returns the waiters
// to be retried.
func (l *Lock) release(h *Hold) []*waiter {
	l.holders.remove(h)
	if h.mode == Exclusive {
		l.writers--
	} else if s := l.shard.slots; s != nil {
		s.held--
	}
	h.unawait()
	l.promoteOwn(h.Owner)
	h.disclaim()
	pending := l.wake(nil)
	l.shard.reap(l)
	return pending
}

// move puts to, which is claimed and in no list, in the place of the holder h, and
// makes h idle. It returns the waiters to be retried: there may be some, since for
// its owner the hold has ended, and the owner of to may have got a lasting one.
func (l *Lock) move(h, to *Hold) []*waiter {
	to.since, to.turn = h.since, h.turn
	to.takeLabel(h.Label)
	l.holders.replace(h, to)
	if h.noted {
		to.await()
	}
	h.unawait()
	l.promoteOwn(h.Owner)
	l.promoteOwn(to.Owner)
	h.disclaim()
	return l.wake(nil)
}

// setOwner changes the owner of the holder h. It returns the waiters to be retried, as
// move does.
func (l *Lock) setOwner(h *Hold, owner *Owner) []*waiter {
	before, awaited := h.Owner, h.noted
	h.unawait()
	h.Owner = owner
	if awaited {
		h.await()
	}
	l.promoteOwn(before)
	l.promoteOwn(owner)
	return l.wake(nil)
}
