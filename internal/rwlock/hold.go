package rwlock

import "sync/atomic"

// Hold is one grant of one lock, or the wait for it. The zero Hold is ready for
// use, and after Release it can be used again. It must not be copied.
//
// A Hold is in one of three states:
//
//	idle     lock is nil; it belongs to the caller, who may set the exported fields
//	waiting  lock and wait are set; it is in the queue of lock
//	held     lock is set, wait is nil; it is among the holders of lock
//
// Acquire moves it from idle to waiting or held, and back to idle when it returns
// an error. A waiting hold becomes held by whoever makes way for it. Release and Move
// move it from held to idle. All moves are made under the mutex of the lock's shard.
type Hold struct {
	// Owner, Kind and Label describe the hold to others. They are set by the
	// caller before Acquire and must not be changed before Release, but for the
	// owner by SetOwner.
	Owner *Owner
	Label *Label // nil if there is nothing to say

	// Work is what is done under the hold, for the Wait.Hopeless and Wait.Quiet of others, and
	// for errors. If it is a Yielder, it is asked to make way when somebody has waited for
	// the hold for a second. It may be nil, and is set and kept like the fields above.
	Work any

	// With links the holds of one call: a Leaf that was granted earlier to the
	// call which now waits for this hold, and which cannot end before. Several
	// are linked through their own With. It tells the deadlock search that the
	// leaf, which else ends by itself, is as stuck as this wait. It is set and
	// kept like the fields above, and the linked hold must have the same Owner.
	With *Hold

	Kind Kind

	// mode is what was asked for. Guarded by the mutex of the lock's shard, like
	// the other fields below.
	mode Mode

	// ahead says that the hold waits for holders only and not for its turn. It
	// was granted the right to pass the queue because it would wait there for
	// somebody who waits for its owner. Such holds are at the head of the queue.
	ahead bool

	// noted says of a held hold that somebody waits for its lock, or has
	// waited since it was granted. If it is not a Leaf, its owner counts it.
	//
	// Of a waiting hold, it says that its waiter is about to be retried, because something
	// has made way for it at this lock: it need not be looked at there until then.
	noted bool

	// turn is the group of the hold at a lock with a limit.
	turn uint32

	// lock is atomic because it is the way to the mutex that guards the rest:
	// read it, lock the mutex, read it again. It is set only from nil (by compare
	// and swap, which settles two Acquires of one Hold) and only with that mutex
	// locked.
	lock atomic.Pointer[Lock]

	wait       *waiter
	prev, next *Hold

	// since is the start of the hold or of the wait; zero if not recorded.
	// While a lock has waiters, all its holders have a start.
	since stamp
}

// Release gives the lock back and hands it to those who wait for it. It does
// nothing if the hold is idle, or still waiting: a wait is ended by its context.
//
// Release may be called from any goroutine, repeatedly and concurrently, and
// when it returns the hold can be acquired again. (A second Release that is still
// running then may be the one that releases the new grant.) It takes mutexes that
// are held for a short time only, and never waits for anything else.
func (h *Hold) Release() {
	l := h.lockShard()
	if l == nil {
		return
	}
	var pending []*waiter
	var told func(Info)
	var ended Info
	if h.wait == nil {
		if h.tellsEnd() {
			told, ended = h.Label.Told.Hold, h.info(readClock())
		}
		pending = l.release(h)
	}
	l.shard.mu.Unlock()
	retry(pending)
	if told != nil {
		told(ended)
	}
}

// Move gives the grant of h, if it has one, to the idle hold to, which keeps its
// own Owner and Kind, and Label, which then tells whom that of h tells; h is idle then. It returns the lock's key.
func (h *Hold) Move(to *Hold) (key string, moved bool) {
	l := h.lockShard()
	if l == nil {
		return "", false
	}
	if h.wait != nil || !to.claim(l, h.mode) {
		l.shard.mu.Unlock()
		return "", false
	}
	key, pending := l.name, l.move(h, to)
	l.shard.mu.Unlock()
	retry(pending)
	return key, true
}

// SetOwner makes owner the one whom the grant of h belongs to from now on, be it nil. It
// does nothing if h has no grant. It must not be called while h is linked by the With of
// another hold.
func (h *Hold) SetOwner(owner *Owner) {
	l := h.lockShard()
	if l == nil {
		return
	}
	var pending []*waiter
	if h.wait == nil {
		pending = l.setOwner(h, owner)
	}
	l.shard.mu.Unlock()
	retry(pending)
}

// Held reports whether the hold has its lock.
func (h *Hold) Held() bool {
	l := h.lockShard()
	if l == nil {
		return false
	}
	defer l.shard.mu.Unlock()
	return h.wait == nil
}

// HeldMode is Held, and tells in which mode.
func (h *Hold) HeldMode() (mode Mode, held bool) {
	l := h.lockShard()
	if l == nil {
		return 0, false
	}
	mode, held = h.mode, h.wait == nil
	l.shard.mu.Unlock()
	return mode, held
}

// HasKin reports whether the line of its owner has another hold of the lock that it has.
func (h *Hold) HasKin() bool {
	l := h.lockShard()
	if l == nil {
		return false
	}
	defer l.shard.mu.Unlock()
	for o := l.holders.first; o != nil; o = o.next {
		if o != h && o.Owner.InLine(h.Owner) {
			return true
		}
	}
	return false
}

// IsUpgrade reports whether the hold is exclusive, and the line of its owner has others of the lock, all of them shared.
func (h *Hold) IsUpgrade() bool {
	l := h.lockShard()
	if l == nil {
		return false
	}
	defer l.shard.mu.Unlock()
	beside := false
	for o := l.holders.first; o != nil; o = o.next {
		if o != h && o.Owner.InLine(h.Owner) {
			if o.mode == Exclusive {
				return false
			}
			beside = true
		}
	}
	return beside && h.mode == Exclusive && h.wait == nil
}

// lockShard locks the mutex that guards the hold and returns the hold's lock. If
// the hold is idle it locks nothing and returns nil.
func (h *Hold) lockShard() *Lock {
	l := h.lock.Load()
	if l == nil {
		return nil
	}
	// A hold that moved on in between was released: that it had a lock is no
	// longer true, and the lock may meanwhile stand for another key. Its shard
	// is the same for ever, so the mutex can be taken and given back.
	l.shard.mu.Lock()
	if h.lock.Load() != l {
		l.shard.mu.Unlock()
		return nil
	}
	return l
}

// claim takes an idle hold for l and reports whether it was idle.
func (h *Hold) claim(l *Lock, mode Mode) bool {
	if !h.lock.CompareAndSwap(nil, l) {
		return false
	}
	h.mode = mode
	h.ahead = !l.queue.empty() && l.reenters(h)
	return true
}

// disclaim makes the hold idle. It comes last: from here on the hold belongs to
// the caller, who may already be acquiring it in another shard.
func (h *Hold) disclaim() { h.lock.Store(nil) }

// record records the start of the hold if it has none.
func (h *Hold) record() {
	if h.since == 0 {
		h.since = now()
	}
}

// lasting reports whether the hold ends only when its owner says so.
func (h *Hold) lasting() bool { return h.Kind != Leaf }

// await notes that somebody waits for the hold's lock. While a lock has waiters, that
// is noted of all its holders.
func (h *Hold) await() {
	h.record()
	if h.noted {
		return
	}
	h.noted = true
	if h.lasting() && h.Owner != nil {
		h.Owner.count(1)
	}
}

// unawait takes it back, because the hold ends.
func (h *Hold) unawait() {
	if !h.noted {
		return
	}
	h.noted = false
	if h.lasting() && h.Owner != nil {
		h.Owner.count(-1)
	}
}

// holdList is a list of holds, linked through the holds themselves, oldest first.
type holdList struct{ first, last *Hold }

func (q *holdList) empty() bool { return q.first == nil }

func (q *holdList) len() (n int) {
	for h := q.first; h != nil; h = h.next {
		n++
	}
	return n
}

// count is len, and looks at no hold where there is one.
func (q *holdList) count() int {
	if q.first == q.last && q.first != nil {
		return 1
	}
	return q.len()
}

func (q *holdList) append(h *Hold) {
	h.prev, h.next = q.last, nil
	if q.last == nil {
		q.first = h
	} else {
		q.last.next = h
	}
	q.last = h
}

// insert puts h before the first that is not ahead.
func (q *holdList) insert(h *Hold) {
	next := q.first
	for next != nil && next.ahead {
		next = next.next
	}
	q.insertBefore(h, next)
}

// insertInTurn puts h, which has a place in a queue by when it came, before those that come after it.
func (q *holdList) insertInTurn(h *Hold) {
	if q.last == nil || h.isBehind(q.last) {
		q.append(h)
		return
	}
	next := q.first
	for h.isBehind(next) {
		next = next.next
	}
	q.insertBefore(h, next)
}

// insertBefore puts h before next, or at the end if that is nil.
func (q *holdList) insertBefore(h, next *Hold) {
	if next == nil {
		q.append(h)
		return
	}
	h.prev, h.next = next.prev, next
	next.prev = h
	if h.prev == nil {
		q.first = h
	} else {
		h.prev.next = h
	}
}

func (q *holdList) remove(h *Hold) {
	if h.prev == nil {
		q.first = h.next
	} else {
		h.prev.next = h.next
	}
	if h.next == nil {
		q.last = h.prev
	} else {
		h.next.prev = h.prev
	}
	h.prev, h.next = nil, nil
}

// replace puts by, which is in no list, into the place of h.
func (q *holdList) replace(h, by *Hold) {
	by.prev, by.next = h.prev, h.next
	if h.prev == nil {
		q.first = by
	} else {
		h.prev.next = by
	}
	if h.next == nil {
		q.last = by
	} else {
		h.next.prev = by
	}
	h.prev, h.next = nil, nil
}
