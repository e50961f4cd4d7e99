package rwlock

import (
	"math"
	"slices"
)

// retry grants the pending waiters what they can have now. It is called with no
// mutex locked.
//
// No wake-up is lost. A waiter can be granted once the last obstacle at any of
// its locks is gone. Whoever removes an obstacle calls wake under that lock's
// mutex, meets the waiter there, and comes here. If another lock is in the way at
// this moment, then the waiter is met again when that one's obstacle is removed.
//
// A waiter that somebody is about to retry need not be retried by others too: who finds
// it pending has made a change under a mutex that the former has not locked yet.
//
// Only a waiter that lets others pass is not met at the lock where it does, but it is
// at the other one, where by its stage it has an obstacle, or had and is on its way
// here. And when it comes to let others pass, which removes an obstacle too, it wakes
// them itself.
//
// Those that have come to keep others, who wait already, may have closed a cycle. That is
// looked at when all is done, since who is granted now may be one of them.
//
// It is called by whoever makes way, who is not to pay for how many they are: if there are
// more than a few, it leaves them to a goroutine.
func retry(pending []*waiter) {
	if len(pending) == 0 {
		return
	}
	var room [2]retried
	r := retries{heap: room[:0]}
	r.add(pending)
	if r.run(few) {
		r.lookAtMoved()
		return
	}
	rest := retries{heap: slices.Clone(r.heap), added: r.added, moved: r.moved}
	go func() {
		rest.run(math.MaxInt)
		rest.lookAtMoved()
	}()
}

// few is how many waiters are retried by who has made way for them.
const few = 32

// retries are waiters to be retried, the oldest first: of several that one change has
// made way for, and that exclude each other, it has its turn.
type retries struct {
	heap  []retried
	added int
	moved []*waiter // to a stage where they keep others
}

type retried struct {
	*waiter
	nth int // to be added: of several that began to wait at once, the first is first
}

func (r retried) before(o retried) bool {
	return r.since < o.since || r.since == o.since && r.nth < o.nth
}

func (r *retries) add(ws []*waiter) {
	for _, w := range ws {
		r.added++
		r.heap = append(r.heap, retried{w, r.added})
		for i := len(r.heap) - 1; i > 0 && r.heap[i].before(r.heap[(i-1)/2]); i = (i - 1) / 2 {
			r.heap[i], r.heap[(i-1)/2] = r.heap[(i-1)/2], r.heap[i]
		}
	}
}

// oldest takes out the waiter that came first.
func (r *retries) oldest() *waiter {
	first, last := r.heap[0].waiter, len(r.heap)-1
	r.heap[0] = r.heap[last]
	r.heap = r.heap[:last]
	for i := 0; 2*i+1 < last; {
		child := 2*i + 1
		if child+1 < last && r.heap[child+1].before(r.heap[child]) {
			child++
		}
		if !r.heap[child].before(r.heap[i]) {
			break
		}
		r.heap[i], r.heap[child] = r.heap[child], r.heap[i]
		i = child
	}
	return first
}

// run retries all, but stops when there are more than the given number. It reports whether it
// has done all.
func (r *retries) run(most int) (done bool) {
	var pending []*waiter
	for len(r.heap) > 0 {
		if len(r.heap) > most {
			return false
		}
		w := r.oldest()
		w.places.lock()
		w.noLongerPending()
		if w.offers() {
			w.offer()
			w.places.unlock()
			continue
		}
		before := w.stage
		pending = w.tryGrant(pending[:0])
		if w.stage > before {
			r.moved = append(r.moved, w)
		}
		w.places.unlock()
		r.add(pending)
	}
	return true
}

// noLongerPending is called with the mutexes of all the places locked.
func (w *waiter) noLongerPending() {
	if h := w.met; h != nil && !w.done {
		h.lock.Load().unnote(h)
	}
	w.met = nil
	w.pending.Store(false)
}

// lookAtMoved looks whether those that were moved to a stage where they keep others have
// closed a cycle.
func (r *retries) lookAtMoved() {
	if slices.ContainsFunc(r.moved, (*waiter).waitsForWaiting) {
		searching.Lock()
		defer searching.Unlock()
		untangle(r.moved, smallSearch)
	}
}

// retryAll retries the waiters, and returns those that it has moved to a stage where they keep
// others.
func retryAll(pending []*waiter) (moved []*waiter) {
	var r retries
	r.add(pending)
	r.run(math.MaxInt)
	return r.moved
}

// waitsForWaiting reports whether the waiter waits for somebody who waits too. If not, it
// is in no cycle.
func (w *waiter) waitsForWaiting() bool {
	w.places.lock()
	defer w.places.unlock()
	return !w.done && slices.ContainsFunc(w.places, func(p place) bool { return p.lock.othersWait(p.hold) })
}
