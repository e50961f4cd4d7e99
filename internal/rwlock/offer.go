package rwlock

import "time"

// From the moment at which a gate is handed to a goroutine that sleeps, to that at which it runs, the gate is
// idle; and then it works for another connection, on another processor, whose caches know nothing of
// what was written. Where short transactions follow each other, that costs as much as they
// do themselves.
//
// So a transaction whose turn it is at the gate is not granted it, but offered: it is woken, and takes the
// gate itself when it runs. Until then the gate is free, and another transaction that comes may
// pass (barging, as of a sync.Mutex), mostly one of the goroutine that has just released it. Then the one that
// was woken waits on, in its place, and is offered the gate when it is released next; but when
// bargeTime has passed since it was offered first, it is granted it. So it waits for that time, and
// one transaction more, at most.
//
// A waiter that was offered the gate is pending until it looks: it is about to retry itself. So no
// wake-up is lost, as in retry. Lock.offered is that waiter, at the gate, while it is in the queue and
// has not looked.

// bargeTime is for how long others may pass one that is being woken: a few transactions of SQLite.
const bargeTime = 250 * time.Microsecond

// offers reports whether the waiter is to be offered what it waits for, rather than granted. It is called with the
// shards locked.
func (w *waiter) offers() bool {
	if w.done { // then its holds are the caller's again
		return false
	}
	g := w.gate()
	return g != nil && g.hold.barges() && (w.offeredAt == 0 || w.isPassed()) && !w.blocked()
}

// isPassed reports whether others may pass the waiter, which was offered the gate.
func (w *waiter) isPassed() bool { return now().since(w.offeredAt) < bargeTime }

// barges reports whether the hold is one that passes others, and that others pass.
func (h *Hold) barges() bool { return h.Kind == Tx && h.mode == Exclusive }

// gate returns the place at the gate of a request of AcquireGated; nil of any other.
func (w *waiter) gate() *place {
	if w.stage == ungated {
		return nil
	}
	for i := range w.places {
		if w.places[i].lock.isGate() {
			return &w.places[i]
		}
	}
	return nil
}

// offer wakes the waiter, which is to take what it waits for. It is called with the shards locked.
func (w *waiter) offer() {
	if w.offeredAt == 0 {
		w.offeredAt = now()
	}
	w.gate().lock.offered = w
	w.pending.Store(true)
	select {
	case w.offered <- struct{}{}:
	default: // cannot be: it has looked since the last one
	}
}

// takeOffer grants the waiter what it was offered, if nobody has passed. It is called by the one who waits.
func (w *waiter) takeOffer() {
	w.places.lock()
	if w.done {
		w.places.unlock()
		return
	}
	w.noLongerPending()
	if l := w.gate().lock; l.offered == w {
		l.offered = nil
	}
	pending := w.tryGrant(nil)
	w.places.unlock()
	retry(pending)
}

// mayBarge reports whether h, which comes, may pass the queue of a gate: the first of those who wait is
// being woken.
func (l *Lock) mayBarge(h *Hold) bool {
	return l.offered != nil && h.wait == nil && h.barges() && l.offered.isPassed()
}
