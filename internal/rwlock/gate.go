package rwlock

import (
	"context"
	"errors"
	"slices"
)

// A gate is a lock that the work of many users must pass, such as the one writer
// that a database file allows. Who needs a gate and a user's lock asks for both with
// AcquireGated, and waits at the gate only: it closes the user's lock to others not
// before it is its turn at the gate.
//
// Such a request has a place in both queues, and is at one of these stages. Until
// it is granted both locks, in one step, it holds neither.
//
//	stage    waits for                  at the user's lock         at the gate
//	atGate   its turn at the gate       lets pass who reads        keeps its turn
//	atUser   those in the user's lock   is closed to who comes     lets others pass
//	atBoth   the gate's next release    is closed to who comes     keeps its turn
//
// It is atUser once it is its turn, that is when nothing is in its way at the gate but
// something at the user's lock, and atBoth when the user's lock is free then and somebody
// who has passed it holds the gate. Then it is the first that the gate is handed to; if
// somebody has been put before it at the user's lock meanwhile, it is atUser again.
// It never goes back to atGate: who came to the user's lock first is all that it waits
// for there. So a reader waits, because of a writer of its user, for the user's older
// readers, for one hold of the gate at most, and for that writer.
//
// The stage is changed only with the shards of all the locks locked, and so can be
// read with any. For each stage there is a place that has something in its way, or
// else somebody is about to retry the waiter: the place at the user's lock for atUser,
// that at the gate for the others.
//
// A waiter that goes on to the next stage gets in the way of some behind it, who have
// begun to wait earlier. Whoever moves it looks whether that closes a cycle: see untangle.
type stage uint8

const (
	ungated stage = iota // not a request of AcquireGated
	atGate
	atUser
	atBoth
)

// NewGate returns a gate. Its name appears in errors and snapshots only. It is a lock
// like one of NewLock, in no table, with any number of holders; but the holds of one
// owner exclude each other there as those of strangers do, and do not pass the queue.
// A request of an owner that has the gate is a wait for itself, which Wait.Self bounds.
func NewGate(name string) *Lock {
	return &Lock{
		shard: &shard{rank: takeRanks(1), gate: true},
		name:  name,
	}
}

func (l *Lock) isGate() bool { return l.shard.gate }

// AcquireGated waits until both the gate and the user's lock, or locks, can be granted,
// and then acquires them in one step. They are released one by one, in any order; if
// the user's lock is first, its readers come before its next writer.
//
// Requests are first come, first served, with three exceptions. While it is not
// the turn of a request at the gate, shared requests for the user's lock pass it there.
// And when it is its turn, but the user's lock is still held, others pass it at the
// gate; then it comes next. See stage. And while a transaction is being woken, others may pass it, for
// a quarter of a millisecond. See offer.
//
// It returns an error as Acquire does, and then acquires nothing.
func AcquireGated(ctx context.Context, w Wait, gate Request, user ...Request) error {
	if gate.Lock == nil || !gate.Lock.isGate() || len(user) == 0 || slices.ContainsFunc(user, Request.isForGate) {
		return errNotGated
	}
	var buf [4]Request // on the stack
	return acquire(ctx, w, atGate, append(append(buf[:0], gate), user...)...)
}

func (r Request) isForGate() bool { return r.Lock != nil && r.Lock.isGate() }

var errNotGated = errors.New("rwlock: a gated request must name a gate first, then other locks")

// letsPass reports whether the waiter, of which a hold waits for l, lets h pass there,
// which came later and is in conflict with it.
func (w *waiter) letsPass(l *Lock, h *Hold) bool {
	return w.letsAllPass(l) || h.mode == Shared && w.letsReadersPass(l)
}

// letsAllPass reports whether it lets pass whoever comes later.
func (w *waiter) letsAllPass(l *Lock) bool { return w.stage == atUser && l.isGate() }

// letsReadersPass reports whether it lets shared requests pass.
func (w *waiter) letsReadersPass(l *Lock) bool {
	switch w.stage {
	case atGate:
		return !l.isGate()
	case atUser:
		return l.isGate()
	default:
		return false
	}
}

// waitsElsewhere reports whether the waiter, of which a hold waits for l, cannot be
// granted before something has changed at its other lock.
func (w *waiter) waitsElsewhere(l *Lock) bool {
	return w.stage != ungated && (w.stage == atUser) == l.isGate()
}

// advance moves a waiter that cannot be granted now to the stage where it is. It is
// called with the shards locked, and appends to pending the waiters to be retried:
// there may be some whom it has let pass.
func (w *waiter) advance(pending []*waiter) []*waiter {
	if w.stage == ungated {
		return pending
	}
	gate, userBlocked := w.gateAndUser()
	switch {
	case gate.blocked():
		if w.stage == atUser && !userBlocked {
			w.goOn(atBoth)
		}
	case w.stage != atUser:
		w.goOn(atUser)
		return gate.lock.wake(pending)
	}
	return pending
}

// goOn moves the waiter to a stage.
func (w *waiter) goOn(to stage) {
	was := make([]*holdList, 0, 4) // on the stack
	for _, p := range w.places {
		p.lock.queue.count(p.lock, p.hold, -1)
		was = append(was, p.lock.listOf(p.hold))
	}
	w.stage = to
	for i, p := range w.places {
		p.lock.queue.count(p.lock, p.hold, 1)
		if now := p.lock.listOf(p.hold); now != was[i] {
			was[i].remove(p.hold)
			now.insertInTurn(p.hold)
		}
	}
}

// gateAndUser returns the place at the gate, and whether anything is in the way at the
// others.
func (w *waiter) gateAndUser() (gate *place, userBlocked bool) {
	for i := range w.places {
		p := &w.places[i]
		if p.lock.isGate() {
			gate = p
		} else {
			userBlocked = userBlocked || p.blocked()
		}
	}
	return gate, userBlocked
}
