package rwlock

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// place is the place of one hold at one lock, as one part of a request.
type place struct {
	shard *shard
	lock  *Lock // once found; then shard is lock.shard
	hold  *Hold

	// Where to find the lock, if it is one of a table, and what to ask of it. table
	// is set if the request must not pass when the table is barred.
	table *Table
	key   string
	hash  uint32
	mode  Mode
}

// places are the parts of one request. They are in the order of their shards, so
// that all requests lock mutexes in the same order.
type places []place

func (ps places) lock() {
	for i := range ps {
		if i == 0 || ps[i].shard != ps[i-1].shard {
			ps[i].shard.mu.Lock()
		}
	}
}

func (ps places) unlock() {
	for i := range ps {
		if i == 0 || ps[i].shard != ps[i-1].shard {
			ps[i].shard.mu.Unlock()
		}
	}
}

// disclaim makes the holds, which are in no list, idle, and frees the locks that
// nobody needs any more.
func (ps places) disclaim() {
	for i := range ps {
		ps[i].hold.disclaim()
		ps[i].shard.reap(ps[i].lock)
	}
}

// blocked reports whether anything is in the way of the place.
func (p *place) blocked() bool { return p.lock.obstacle(p.hold) != nil }

// blocked returns the oldest hold in the way of any of the places, and that
// place; nil if nothing is in the way.
func (ps places) blocked() (at *place, by *Hold) {
	for i := range ps {
		p := &ps[i]
		o := p.lock.obstacle(p.hold)
		if o == nil {
			continue
		}
		o.record()
		if by == nil || o.since < by.since {
			at, by = p, o
		}
	}
	return at, by
}

// blockedByOwn returns the hold of the places' own owners that has been longest in
// the way of any of them, and that place; nil if there is none.
func (ps places) blockedByOwn() (at *place, by *Hold) {
	for i := range ps {
		p := &ps[i]
		o := p.lock.ownInWay(p.hold)
		if o != nil && (by == nil || o.since < by.since) {
			at, by = p, o
		}
	}
	return at, by
}

// waiter is a request that has to wait: one hold in the queue of each of its
// locks. It is made only when there is something to wait for.
//
// It waits until it is done, which it is once it has been granted all its locks,
// or none because it gave up. Either way its holds have then left all queues.
type waiter struct {
	places places
	since  stamp
	nth    int64 // it came after those that have less; by when it was put into its queues
	owned  bool  // some of its holds have an owner; these owners know of the waiter
	slow   func(SlowWait)

	// told says that slow was called, or that another's was for this wait too.
	told atomic.Bool

	// stage is changed with the mutexes of all the places' shards locked, and read
	// with one.
	stage stage

	// pending says that somebody is about to retry the waiter. It is set with one of the
	// mutexes locked, and cleared with all.
	pending atomic.Bool

	// met is the hold, at the lock where something has made way, that is noted because the
	// waiter is pending. Whoever has set pending sets it, and clears it before.
	met *Hold

	// blockedAt is the place where something was in the way when it was last looked for.
	blockedAt int

	// looked says that the waiter has looked for a deadlock, or closed none when it came:
	// nobody waited for its owners. It is set with the places' shards locked, or searching.
	looked bool

	givesWay bool // as Wait has it
	ride     any  // likewise
	taken    bool // by a Batch; guarded as done is

	// offered has a token when it is to take what it waits for itself. offeredAt is when it was
	// first told so; guarded as done is. See offer.
	offered   chan struct{}
	offeredAt stamp

	// done is guarded by the mutexes of the places' shards, all of them locked. So is
	// refused: why it was refused by another whose cycle it was in; else nil.
	done    bool
	refused *WaitError
	granted chan struct{} // closed when it is granted, or refused so

	// Of holdersInTheWay, which only the goroutine that waits calls: there is mostly one.
	holderRoom [1]inTheWay
	workRoom   [1]any
}

// several reports whether the waiter waits for more than one lock.
func (w *waiter) several() bool { return len(w.places) > 1 }

// finish tells the waiter that it has been granted its locks.
func (w *waiter) finish() {
	w.end()
	close(w.granted)
}

// end notes that the waiter, which has left all queues, no longer waits.
func (w *waiter) end() {
	w.done = true
	for _, p := range w.places {
		if o := p.hold.Owner; o != nil {
			o.remove(w)
		}
	}
}

// arrivals counts all waiters. It is counted up with the shards of one locked, so in each of its queues
// they are in the order of their numbers.
var arrivals atomic.Int64

// contend waits for what cannot be granted at once. It is called with the holds
// claimed and the shards locked, and unlocks them.
func contend(ctx context.Context, bound Wait, from stage, ps places) error {
	if bound.Timeout <= 0 {
		err := refusal(ps, 0, ErrTimeout)
		ps.disclaim()
		ps.unlock()
		return err
	}
	w := &waiter{
		places:   slices.Clone(ps),
		since:    now(),
		nth:      arrivals.Add(1),
		stage:    from,
		givesWay: bound.GivesWay,
		ride:     bound.Ride,
		slow:     bound.Slow,
		granted:  make(chan struct{}),
		offered:  make(chan struct{}, 1),
	}
	for _, p := range w.places {
		p.lock.enqueue(p.hold, w)
		if o := p.hold.Owner; o != nil {
			o.add(w)
			w.owned = true
		}
	}
	w.looked = !w.ownerAwaited()
	pending := w.advance(nil)
	whole, alone := bound.Whole, WholeWait{}
	if whole == nil {
		whole = &alone
	}
	whole.begin(w, bound.Stats)
	w.places.unlock()
	retry(pending)
	err := w.wait(ctx, bound)
	if whole.last = err; err == ErrTaken {
		whole.last = nil
	}
	if whole == &alone {
		whole.End(whole.last)
	}
	return err
}

// wait waits until the request is granted or has a reason to give up. The one timer
// serves the timeout and, for a request that has an owner, the looks at what is in
// its way: one when the wait begins, others as long as it lasts.
func (w *waiter) wait(ctx context.Context, bound Wait) error {
	next, err := w.look(bound, false)
	if err != nil {
		return err
	}
	timer := time.NewTimer(next)
	defer timer.Stop()
	for {
		select {
		case <-w.granted:
			return w.outcome()
		case <-w.offered:
			w.takeOffer()
			continue
		case <-ctx.Done():
			return w.giveUp(ctx.Err())
		case <-bound.Closed:
			return w.giveUpUnlessTaken(ctx, ErrClosed)
		case <-timer.C:
		}
		if now().since(w.since) >= bound.Timeout {
			return w.giveUpUnlessTaken(ctx, ErrTimeout)
		}
		if next, err = w.look(bound, true); err != nil {
			return err
		}
		timer.Reset(next)
	}
}

// giveUp ends the wait for the given reason, unless it has been granted by now.
//
// Who was granted in the moment of giving up keeps the grant and learns nothing
// of the reason. To hand it back would be just as right for the others, but not
// for the caller: after a timeout it would be refused what it has, and there
// would be nobody to name who was in the way. A caller whose context has ended
// will notice at its next step, and its release wakes the others as any other.
func (w *waiter) giveUp(reason error) error {
	w.places.lock()
	// It may also be that nothing is in the way any more and the one who left is
	// still on its way to retry us. The locks are ours then.
	pending := w.tryGrant(nil)
	if w.done {
		w.places.unlock()
		retry(pending)
		return w.outcome()
	}
	return w.unlockAndRefuse(refusal(w.places, now().since(w.since), reason), pending)
}

// giveUpUnlessTaken is giveUp for a reason that does not end the work of a request that was taken.
func (w *waiter) giveUpUnlessTaken(ctx context.Context, reason error) error {
	err := w.giveUp(reason)
	if err == ErrTaken {
		return w.goOnRiding(ctx)
	}
	return err
}

// outcome is what came of a waiter that another has finished.
func (w *waiter) outcome() error {
	switch {
	case w.taken:
		return ErrTaken
	case w.refused != nil:
		return w.refused
	}
	return nil
}

// refuse ends the wait of a waiter that gives way, on behalf of another. It is called with
// the shards locked, and returns the waiters to be retried.
func (w *waiter) refuse(err *WaitError) []*waiter {
	w.refused = err
	pending := w.withdraw(nil)
	close(w.granted)
	return pending
}

// unlockAndRefuse ends the wait with the error. It is called with the shards locked,
// and unlocks them, and with the waiters to be retried so far.
func (w *waiter) unlockAndRefuse(err *WaitError, pending []*waiter) error {
	pending = w.withdraw(pending)
	w.places.unlock()
	retry(pending)
	return err
}

// tryGrant grants the waiter all its locks if it can have them now. It is called
// with the shards locked, and appends to pending the waiters to be retried.
func (w *waiter) tryGrant(pending []*waiter) []*waiter {
	if w.done {
		return pending
	}
	if w.blocked() {
		return w.advance(pending)
	}
	for _, p := range w.places {
		p.lock.dequeue(p.hold)
		p.lock.grant(p.hold)
	}
	w.finish()
	// Of the locks where that promoted somebody, all are woken below.
	// Where the number of holders is limited, those behind may have waited for
	// nothing but their turn: there may be room for them too.
	for _, p := range w.places {
		pending = p.lock.wake(pending)
	}
	return pending
}

// blocked reports whether anything is in the way of any of its places. Where something was the
// last time, it may be still: who waits for many locks is not to look at all of them
// whenever one is given back.
func (w *waiter) blocked() bool {
	if w.places[w.blockedAt].blocked() {
		return true
	}
	w.blockedAt = max(slices.IndexFunc(w.places, func(p place) bool { return p.blocked() }), 0)
	return w.places[w.blockedAt].blocked()
}

// withdraw takes the waiter out of its queues, which may make way for those
// behind it. It is called with the shards locked, and appends to pending the
// waiters to be retried.
func (w *waiter) withdraw(pending []*waiter) []*waiter {
	for _, p := range w.places {
		p.lock.dequeue(p.hold)
		pending = p.lock.wake(pending)
	}
	w.end() // before the holds belong to the caller again, who may change the owner
	w.places.disclaim()
	return pending
}
