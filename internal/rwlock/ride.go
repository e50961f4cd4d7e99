package rwlock

import (
	"context"
	"errors"
	"slices"
)

// ErrTaken is returned by a wait whose request another has taken, to do its work: see Batch. Either
// that is done, or the context has ended meanwhile, and it goes on.
var ErrTaken = errors.New("rwlock: the request was taken by the holder of the gate")

// A Batch is the requests that the holder of a gate takes from its queue, to do their work itself
// and give them its own turn: those with a Wait.Ride. It takes the first that waits there, again
// and again, and never past one that it cannot take.
//
// The request need not have the gate then. It gets the user's lock that it waits for, which must be
// free, but for what is in the batch: several requests for one lock have it one after the other, and
// the first of them holds it for all until the end. So nobody else has it in between.
//
// A Batch belongs to the goroutine that has the gate, which must call End before it gives that up.
type Batch struct {
	gate  *Hold
	holds []*Hold   // of the users' locks
	taken []*waiter // those of the batch, in their order
}

// Begin begins a batch of who has the gate, and a user's lock, which may be idle.
func (b *Batch) Begin(gate, user *Hold) {
	b.gate = gate
	b.holds = append(b.holds[:0], user)
	b.taken = b.taken[:0]
}

// Len returns how many requests the batch has taken.
func (b *Batch) Len() int { return len(b.taken) }

// Take takes the first request at the gate, if it can, and its ride is one that may be taken. It
// returns the ride; nil if there is none.
//
// Before that come some of those that let pass whoever comes: they have had their turn, and wait for
// a user's lock, which may be free for the batch.
//
// When nothing else is in the way of a ride, it asks ready, which may be nil, and takes it if that says so. Both are called
// with mutexes locked, and must not call this package.
func (b *Batch) Take(may, ready func(ride any) bool) (ride any) {
	var room [fewInTurn + 1]*waiter
	for _, w := range b.inTurn(room[:0], may) {
		if b.takes(w, ready) {
			return w.ride
		}
	}
	return nil
}

// Of those that have had their turn, Take looks at no more, and tries to take no more.
const lookedAtInTurn, fewInTurn = 16, 2

// inTurn appends those that Take looks at.
func (b *Batch) inTurn(found []*waiter, may func(ride any) bool) []*waiter {
	l := b.gate.lockShard()
	if l == nil {
		return nil
	}
	defer l.shard.mu.Unlock()
	if l.queue == nil {
		return nil
	}
	look := func(h *Hold) {
		if w := h.wait; w.ride != nil && may(w.ride) {
			found = append(found, w)
		}
	}
	first := l.queue.first
	for first != nil && first.wait.letsAllPass(l) {
		first = first.next // one ahead
	}
	looked := 0
	for h := l.queue.passed.first; h != nil && looked < lookedAtInTurn && len(found) < fewInTurn; h = h.next {
		if first != nil && h.isBehind(first) {
			break
		}
		looked++
		look(h)
	}
	if first != nil {
		look(first)
	}
	return found
}

// takes takes the request of the waiter, if nothing is in its way.
func (b *Batch) takes(w *waiter, ready func(ride any) bool) bool {
	w.places.lock()
	if w.done || !b.mayTake(w) || ready != nil && !ready(w.ride) {
		w.places.unlock()
		return false
	}
	var pending []*waiter
	for i := range w.places {
		pending = b.take(&w.places[i], pending)
	}
	w.taken = true
	w.end()
	w.places.unlock()
	b.taken = append(b.taken, w)
	retry(pending)
	return true
}

// mayTake reports whether nothing is in the way of the waiter, whose places' shards are locked, but
// what is the batch's.
func (b *Batch) mayTake(w *waiter) bool {
	for _, p := range w.places {
		if p.lock.isGate() {
			if p.lock != b.gate.lock.Load() || p.lock.holders.first != b.gate {
				return false
			}
			continue
		}
		for o := p.lock.holders.first; o != nil; o = o.next {
			if !slices.Contains(b.holds, o) {
				return false
			}
		}
		for o := p.lock.queue.head(); o != nil && o != p.hold; o = o.next {
			if p.lock.outOfTurn(p.hold, o) {
				return false
			}
		}
	}
	return true
}

// take takes the waiter's place from the queue, and grants the lock of a user if the batch has not
// got it. It appends to pending the waiters to be retried.
func (b *Batch) take(p *place, pending []*waiter) []*waiter {
	p.lock.dequeue(p.hold)
	if p.lock.isGate() || !p.lock.holders.empty() {
		p.hold.disclaim()
	} else {
		p.lock.grant(p.hold)
		b.holds = append(b.holds, p.hold)
	}
	return p.lock.wake(pending)
}

// Arrive returns a number for one who comes: those who came later have greater ones, be they in a queue or not.
func Arrive() int64 { return arrivals.Add(1) }

// IsTurnOf reports whether nobody waits at the gate for a turn of their own who came before the one with the number that
// Arrive has returned.
func (b *Batch) IsTurnOf(nth int64) bool {
	l := b.gate.lockShard()
	if l == nil {
		return false
	}
	defer l.shard.mu.Unlock()
	first := l.queue.head()
	for first != nil && first.wait.letsAllPass(l) {
		first = first.next // one ahead
	}
	return first == nil || first.wait.nth > nth
}

// TakeFree takes the lock of the key, exclusively, for work that is in no queue: into h, unless the batch has it already. It
// reports false if anybody else has the lock or waits for it, or if the table is barred.
func (b *Batch) TakeFree(t *Table, key string, h *Hold) bool {
	s, hash := t.locate(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.barred() {
		return false
	}
	l := s.obtain(key, hash)
	if !l.queue.empty() {
		return false
	}
	for o := l.holders.first; o != nil; o = o.next {
		if !slices.Contains(b.holds, o) {
			return false
		}
	}
	if !l.holders.empty() {
		return true
	}
	if !h.claim(l, Exclusive) {
		s.reap(l)
		return false
	}
	l.grant(h)
	b.holds = append(b.holds, h)
	return true
}

// End releases the users' locks that were granted to the batch, and then tells all who wait that
// their work is done.
func (b *Batch) End() {
	b.release()
	tell(b.taken)
	b.forget()
}

// EndLater is End, but it leaves it to the caller to tell them, by the function that it returns, at any time.
func (b *Batch) EndLater() (tellAll func()) {
	b.release()
	taken := slices.Clone(b.taken)
	b.forget()
	return func() { tell(taken) }
}

func tell(taken []*waiter) {
	for _, w := range taken {
		close(w.granted)
	}
}

func (b *Batch) release() {
	for i, h := range b.holds {
		if i > 0 { // the first is the caller's own
			h.Release()
		}
	}
}

func (b *Batch) forget() {
	clear(b.holds)
	clear(b.taken)
	b.holds, b.taken = b.holds[:0], b.taken[:0]
}

// goOnRiding waits until the work of a request that was taken is done, or the context ends.
func (w *waiter) goOnRiding(ctx context.Context) error {
	select {
	case <-w.granted:
	case <-ctx.Done():
	}
	return ErrTaken
}
