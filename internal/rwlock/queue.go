package rwlock

// queue is who waits for a lock without a limit: first those ahead, then the others, each as
// they came. A lock has none until somebody waits for it, and keeps it then.
//
// Who lets all pass at a gate, and is not ahead, is not in the list but in passed, in the order in which they
// came: where the requests of one user are many, they are. A look at the queue need not look at each of them.
//
// The counts keep what is asked of a long queue from being looked for in it.
type queue struct {
	holdList
	passed holdList
	groups int32 // how many may have to wait for another lock when it is their turn: see ofGroup
	closed int32 // how many are exclusive, and do not let pass who comes later and is shared
	firm   int32 // how many do not let pass whoever comes later

	// active is how many of each mode wake may have to grant: they do not wait for
	// another lock first (waitsElsewhere), and are not noted.
	active [2]int32
}

func (q *queue) empty() bool { return q == nil || q.first == nil && q.passed.first == nil }

// head returns the first of the list, or nil.
func (q *queue) head() *Hold {
	if q == nil {
		return nil
	}
	return q.first
}

// count adds n to the counts of which h, waiting for l, is one.
func (q *queue) count(l *Lock, h *Hold, n int32) {
	w := h.wait
	if !w.letsAllPass(l) {
		q.firm += n
	}
	if !w.several() {
		q.active[h.mode] += n
		if h.mode == Exclusive {
			q.closed += n
		}
		return
	}
	if w.ofGroup(l) {
		q.groups += n
	}
	if !w.waitsElsewhere(l) && !h.noted {
		q.active[h.mode] += n
	}
	if h.mode == Exclusive && !w.letsReadersPass(l) {
		q.closed += n
	}
}

// alone reports whether all others in the queue let h pass, which is in it or about to enter.
func (q *queue) alone(l *Lock, h *Hold) bool {
	own := int32(0)
	if h.wait != nil && !h.wait.letsAllPass(l) {
		own = 1
	}
	return q.firm == own
}

// ofGroup reports whether the waiter, once it has its turn for l, may still have to wait for
// another lock, and keeps others from l meanwhile. One that waits at a gate lets them pass.
func (w *waiter) ofGroup(l *Lock) bool {
	return w.several() && (w.stage == ungated || !l.isGate())
}

// listOf returns the list that h, which is in the queue, belongs into.
func (l *Lock) listOf(h *Hold) *holdList {
	if l.isPassed(h) {
		return &l.queue.passed
	}
	return &l.queue.holdList
}

func (l *Lock) isPassed(h *Hold) bool {
	return l.isGate() && h.wait != nil && !h.ahead && h.wait.letsAllPass(l)
}

// isBehind reports whether h comes after o, which is in the same queue.
func (h *Hold) isBehind(o *Hold) bool {
	return h.wait == nil || !h.ahead && (o.ahead || o.wait.nth < h.wait.nth)
}

// comesBefore reports whether o, which a look through the list has come to, comes before h.
func (l *Lock) comesBefore(o, h *Hold) bool {
	return o != nil && o != h && !(l.isPassed(h) && o.isBehind(h))
}

// lastBefore returns the last in the list that comes before h; nil if there is none.
func (l *Lock) lastBefore(h *Hold) *Hold {
	if !l.isPassed(h) {
		return h.prev
	}
	o := (*Hold)(nil)
	for next := l.queue.first; l.comesBefore(next, h); next = next.next {
		o = next
	}
	return o
}

// enqueue makes h, which is claimed and in no list, wait.
func (l *Lock) enqueue(h *Hold, w *waiter) {
	if !l.awaited() {
		for o := l.holders.first; o != nil; o = o.next {
			o.await()
		}
	}
	if !l.watched {
		l.shard.watch.add(l)
	}
	h.wait = w
	h.since = w.since
	if s := l.shard.slots; s != nil {
		s.enqueue(h, &l.holders)
		return
	}
	if l.queue == nil {
		l.queue = new(queue)
	}
	l.queue.count(l, h, 1)
	if h.ahead = l.reenters(h); h.ahead {
		l.queue.insert(h)
	} else {
		l.queue.append(h)
	}
}

// dequeue takes h out of the queue, still claimed.
func (l *Lock) dequeue(h *Hold) {
	if s := l.shard.slots; s != nil {
		s.dequeue(h)
	} else {
		l.queue.count(l, h, -1)
		l.listOf(h).remove(h)
		h.noted = false
	}
	if l.offered == h.wait {
		l.offered = nil
	}
	h.wait = nil
}

// wake grants the lock to those in the queue who can have it now. It must be called
// after each change that may have removed an obstacle: when a holder or a waiter has
// left, or a waiter was promoted.
//
// Each waiter that is ahead is looked at: their owners do not wait for each other, and
// are few, since they have the lock. Of the others wake stops at the first who
// must wait, because all behind must wait too: behind an exclusive request, for
// that. Behind a shared one, for what that waits for, be it an exclusive waiter, a
// place, or an exclusive holder. (That could be beside its own holds, is ahead; and
// beside an exclusive leaf of its own, nobody can be.) But who lets others pass, because
// it waits for another lock first, is not looked at itself, and those behind are.
//
// Who waits for other locks besides cannot be granted here, where only this
// shard's mutex is held. Such waiters keep their places and are appended to
// pending, and the caller must retry them once it has unlocked the mutex.
func (l *Lock) wake(pending []*waiter) []*waiter {
	if s := l.shard.slots; s != nil {
		l.wakeSlots(s)
		return pending
	}
	if l.queue == nil {
		return pending
	}
	left := inQueue{active: l.queue.active}
	for h := l.queue.first; h != nil && !left.none(h); {
		next, w := h.next, h.wait
		switch {
		case w.waitsElsewhere(l), h.noted:
			left.pass(l, h, 0)
		case w.pending.Load(), h.ahead && l.obstacle(h) != nil:
			left.pass(l, h, 1)
		case !h.ahead && (left.blocks(h) || l.holderInWay(h) != nil):
			return pending
		case w.several():
			if w.pending.CompareAndSwap(false, true) {
				pending = append(pending, w)
				l.note(h)
				w.met = h
			}
			left.pass(l, h, 1)
		default:
			l.dequeue(h)
			left.active[h.mode]--
			if l.grant(h) {
				next = l.queue.head() // there are new ones ahead
				left = inQueue{active: l.queue.active}
			}
			w.finish()
		}
		h = next
	}
	return pending
}

// note notes that the waiter of h, which is pending, was met at l.
func (l *Lock) note(h *Hold) {
	l.queue.count(l, h, -1)
	h.noted = true
	l.queue.count(l, h, 1)
}

// unnote takes it back.
func (l *Lock) unnote(h *Hold) {
	l.queue.count(l, h, -1)
	h.noted = false
	l.queue.count(l, h, 1)
}

// inQueue is what a look through a queue has to know: how many of each mode may be found
// yet that are active, and whether some of those that it has passed are in the way of exclusive
// requests, or of all.
type inQueue struct {
	active       [2]int32
	some, closed bool
}

// pass is for h, which waits on. It counts for active.
func (q *inQueue) pass(l *Lock, h *Hold, active int32) {
	q.active[h.mode] -= active
	q.some = q.some || !(l.isGate() && h.wait.stage == atUser)
	q.closed = q.closed || h.mode == Exclusive && !h.wait.letsReadersPass(l)
}

// blocks reports whether those that were passed are in the way of h, which is not ahead.
func (q *inQueue) blocks(h *Hold) bool { return q.closed || q.some && h.mode == Exclusive }

// none reports whether nobody from h on can be granted the lock.
func (q *inQueue) none(h *Hold) bool {
	return !h.ahead && (q.closed || q.active[Shared] == 0 && (q.some || q.active[Exclusive] == 0))
}
