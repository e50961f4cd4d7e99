package locks

import (
	"math"
	"time"
)

// The lock table knows of a circle if each wait in it has an owner and is for one of its locks.
// Of two others it learns here, by what is done under the holds that are in the way:
//
//   - A transaction that was begun for nobody has rows of the server's locked, and a statement
//     in it wants a user's lock. Who has that waits on the server, for those rows.
//   - A section of nobody's request is in the way, or what was left open in it, and it is the
//     goroutine that waits that has begun it.
//
// Neither is certain. A statement may take long for other reasons, and somebody else may end
// the section. So both count only when nothing has moved for self_wait.

// A Worker is what is done under a hold: the Hold.Work of users' locks, gates and connections.
type Worker interface {
	// InOneCall returns for how long one and the same call of the inner driver has been
	// running, and Quiet for how long none has, as far as they were asked before.
	InOneCall() time.Duration
	Quiet() time.Duration

	// BegunBy returns the goroutine that has begun the section of nobody's request that it is,
	// or is done with the handle of; nil if it is not known.
	BegunBy() *Thread
}

// Hopeless is the Wait.Hopeless of an operation that joins a transaction which was begun for
// nobody, or does not.
func Hopeless(joins bool) func(holders []any, waited, self time.Duration) int {
	if joins {
		return func(holders []any, waited, self time.Duration) int {
			return max(waitsOnServer(holders, self), inOwnSection(holders, waited, self))
		}
	}
	return inOwnSection
}

// Quiet is the Wait.Quiet of all waits.
func Quiet(work any) time.Duration {
	if w, ok := work.(Worker); ok {
		return w.Quiet()
	}
	return math.MaxInt64
}

func waitsOnServer(holders []any, self time.Duration) int {
	return lastWorker(holders, func(w Worker) bool { return w.InOneCall() >= self })
}

// inOwnSection knows, of a section that the goroutine has passed on to another, that this is
// so once the other has been seen to work there.
func inOwnSection(holders []any, waited, self time.Duration) int {
	caller := ""
	return lastWorker(holders, func(w Worker) bool {
		t := w.BegunBy()
		if t == nil || t.passedOn.Load() {
			return false
		}
		quiet := w.Quiet()
		if quiet < self && waited < self {
			return false
		}
		if caller == "" {
			caller = currentThread()
		}
		if t.id() != caller {
			return false
		}
		if quiet < self { // for it was looked at when the wait began, and cannot be the caller
			t.passedOn.Store(true)
		}
		return quiet >= self
	})
}

// lastWorker asks them all, since the time counts from the first question.
func lastWorker(holders []any, is func(Worker) bool) int {
	last := -1
	for i, h := range holders {
		if w, ok := h.(Worker); ok && is(w) {
			last = i
		}
	}
	return last
}
