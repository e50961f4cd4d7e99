package rwlock

import (
	"slices"
	"sync"
)

// The deadlock search looks from a wait that has just begun at all that it waits for,
// and ends it if it can never be granted, whoever is let pass.
//
// What can be known of this is a graph. A waiter is stuck if one hold in its way is
// stuck, or one waiter whose turn comes before; of the holders of a limited lock, if
// all are. A lasting hold is stuck if its owner is. An owner is stuck if it waits
// and all its waits are stuck. A leaf is stuck if the call is that it belongs to
// (Hold.With). What has no owner is not known to be stuck, and is not. So the search
// starts with everybody stuck and frees those who can go on, until nothing changes;
// who remains waits for ever.
//
// An owner's wait for itself shows nothing: the owner has, or will have, another
// goroutine that ends its hold, and Wait.Self bounds the wait if it has not. So own
// holds in the way of a wait are left out, and so is such a wait where it is asked
// whether the owner is stuck. (Own are those of the same owner here. One in the same line
// may be another thread of control: who waits for it is as stuck as that, and Wait.Self
// bounds the wait too.)
//
// No deadlock is reported that is not there: the search holds the mutexes of all the
// locks and owners that it looks at, at the same time, from the first look to the
// removal of the waiter that it refuses. Of those that begin to wait at once, it takes
// those who have not looked yet for free: so all goes as if they had begun to wait one
// after the other, and of those who close a cycle the last is refused, and not two.
//
// Nobody is refused for its place in a queue. Who is refused waits for a holder, whose owner
// waits for a holder, and so on. A cycle that is closed by turns is mended: see overtake.go.
//
// No deadlock is missed: of those in a cycle, one is the last to look. Then it finds the
// others waiting. They cannot have moved on, because they are stuck. Who could wait
// for the owner's line before the owner waits is counted by Owner.awaited (or marked at the
// leaf), also before the search; while nobody does, the owner's wait closes no cycle and
// there is no search. That is why a thousand waiters that hold nothing cost a thousand
// times nothing. And if they hold what is waited for, each search is small: see needTurn
// and slotNeed.
//
// A waiter can also get in the way of those who wait already: when it is put ahead of
// them, and, at a gate, with its next stage. Whoever moves it so mends the cycle that
// this closes, which can only be one of turns.
//
// An owner with several goroutines may become stuck without any of this, when
// one goroutine that could go on has ended. Therefore waits look again from time to
// time, each time that Wait.Self has passed. So does what a large search has left: see pace.
//
// Owners in one line may be one thread of control, which holds with one of them and waits
// with another; or the one may be what all requests of a program come from. So they are
// nodes of their own, and a circle through a line is no certain deadlock. It counts as one when
// it has lasted for Wait.Self: see lineWait.
//
// Here is when to search, and who is refused; deadlocksearch.go has the search and its
// mutexes, deadlockneeds.go what a wait needs, deadlockcycle.go who is stuck, and in which cycle.

// searching serializes the searches, which lock the mutexes of many owners in no
// particular order. It is locked before all other mutexes.
var searching sync.Mutex

// ownerAwaited reports whether anybody may wait for lasting holds of the lines of the
// waiter's owners. (Those of others in the line let the waiter pass queues, and so get in the
// way of who waits there.)
func (w *waiter) ownerAwaited() bool {
	return slices.ContainsFunc(w.places, func(p place) bool {
		return p.hold.Owner != nil && p.hold.Owner.lineAwaited()
	})
}

// callAwaited reports whether anybody may wait for the leaves of the waiter's call. It is
// called with no mutex locked.
func (w *waiter) callAwaited() bool {
	for _, p := range w.places {
		for h := p.hold.With; h != nil; h = h.With {
			if h.isAwaited() {
				return true
			}
		}
	}
	return false
}

func (h *Hold) isAwaited() bool {
	l := h.lockShard()
	if l == nil {
		return false
	}
	defer l.shard.mu.Unlock()
	return h.noted && h.wait == nil
}

// lookForDeadlock refuses the waiter if it closes a cycle of holders, unless another in it
// gives way. If it closes one of turns besides, it sees to that. If it is not the first time, it
// does so only as far as that costs little: see pace.
func (w *waiter) lookForDeadlock(bound Wait, again bool) error {
	if again && lookingAgain.Add(1) > fewLook {
		lookingAgain.Add(-1)
		return nil
	}
	searching.Lock()
	w.looked = true
	holders, turns := noLimit, smallSearch
	if again {
		lookingAgain.Add(-1)
		holders = pace.begin()
		turns = holders
	}
	pending, err := w.endCycles(bound, holders, turns)
	if again {
		pace.end()
	}
	searching.Unlock()
	retry(pending)
	return err
}

// endCycles looks for cycles of holders and of turns in searches of so many nodes. It is called
// with searching locked, and returns the waiters to be retried.
func (w *waiter) endCycles(bound Wait, holders, turns int) (pending []*waiter, err error) {
	moved := []*waiter{w}
	for {
		s := look([]*waiter{w}, false, bound, holders)
		cycle := s.cycle(s.waiters[waiting{waiter: w}])
		if cycle == nil {
			s.unlock()
			untangle(moved, turns)
			return nil, nil
		}
		at := w.whoGivesWay(cycle)
		err := deadlockError(slices.Concat(cycle[at:], cycle[:at]), now().since(cycle[at].wait.since))
		if at == 0 {
			pending = w.withdraw(nil)
			s.unlock()
			return pending, err
		}
		pending = cycle[at].wait.refuse(err)
		s.unlock()
		moved = append(moved, retryAll(pending)...)
	}
}

// whoGivesWay returns the place in the cycle of a wait that is to be refused: of w itself, which
// is the first, unless another gives way.
func (w *waiter) whoGivesWay(cycle []*Hold) int {
	for at := 0; at < len(cycle) && !w.givesWay; at += 2 {
		if cycle[at].wait != nil && cycle[at].wait.givesWay {
			return at
		}
	}
	return 0
}
