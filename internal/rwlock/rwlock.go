// Package rwlock is a table of readers-writer locks, one for each key, that
// exist only while somebody holds them or waits for them.
//
// The locks are fair: of two requests that cannot hold a lock together, the one
// that came first gets it first; but for the places of a lock with a limit, groups of
// requests take turns ([Wait].Turn). A wait ends with the context, with a timeout or
// with the closing of a channel, and then leaves no trace. One request can ask for
// several locks at once ([AcquireAll]); it gets all of them in one step or none. So does
// one for a lock and for a gate that the work of many must pass ([AcquireGated]), but it
// closes the lock to others not before it is its turn at the gate.
//
// A hold may have an [Owner], a thread of control, which does not block itself: a
// statement inside its own transaction is granted at once. A wait that closes a
// circle of owners who wait for each other ends at once with [ErrDeadlock], and an
// owner waits for itself only as long as [Wait].Self allows. An owner inside another one
// is not kept by what that has, nor that by what the inner one has.
//
// A grant is a [Hold], which the caller embeds in the struct that needs it, so an
// uncontended acquire and release allocates nothing and reads no clock (but see
// [Kind]). There is no goroutine behind any of this: whoever releases a lock
// hands it on. Only while somebody waits is there a timer, for holds that can make way
// ([Yielder]) and for waits of which somebody wants to be told ([SlowWait]).
//
//	var h rwlock.Hold
//	if err := table.Acquire(ctx, "user 123", rwlock.Shared, &h, rwlock.Wait{Timeout: time.Minute}); err != nil {
//		return err
//	}
//	defer h.Release()
//
// How it works, and where to look:
//
//   - A [Lock] (lock.go) has a list of holders and a queue of waiters. Whether a
//     request may be granted is decided in one place, its method obstacle, by
//     two tables: one for strangers, one for holds of one owner.
//   - A [Table] (table.go) spreads its keys over shards. A shard (shard.go) is a
//     mutex, and all state of a lock is guarded by the mutex of its shard.
//   - A request that must wait is a waiter (waiter.go), in the queue (queue.go) of one
//     lock or of several. Whom it lets pass while it waits for a gate is said in
//     gate.go, and how those who wait for several locks are woken in retry.go.
//   - A transaction is not granted a gate but offered it, and may be passed while it is
//     being woken (offer.go).
//   - A lock whose holders are limited in number has another queue (slots.go), where
//     groups take turns.
//   - Whether a wait can ever end is found out by a search (deadlock.go) through
//     the owners (owner.go) who wait. What it may cost is bounded in pace.go.
//   - What happens to those who wait for long is in watch.go.
package rwlock

import (
	"sync/atomic"
	"time"
)

// Mode is what a holder may do beside others.
type Mode uint8

const (
	Shared    Mode = iota // beside other shared holders
	Exclusive             // alone
)

func (m Mode) String() string {
	if m == Shared {
		return "shared"
	}
	return "exclusive"
}

// Kind says what a hold is for, and thereby when it ends.
//
// The start of a Leaf is not recorded until somebody has to wait for it; that of
// the other kinds, which may last, is recorded when they are granted.
type Kind uint8

const (
	Leaf    Kind = iota // one call; it ends by itself
	Rows                // a result set, until it is closed
	Tx                  // a transaction, until it is committed or rolled back
	Session             // a connection's own state, until the connection is given back
	Section             // a critical section of the program, until it is left
)

var kindNames = [...]string{
	Leaf:    "statement",
	Rows:    "rows",
	Tx:      "transaction",
	Session: "session",
	Section: "section",
}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Wait bounds a wait for a lock.
type Wait struct {
	// Timeout is the longest wait. At zero, or below, a request that cannot be
	// granted at once is refused at once.
	Timeout time.Duration

	// Closed, when it is closed, ends the wait with ErrClosed. It does not keep
	// anybody from a lock that is free. Nil means never.
	Closed <-chan struct{}

	// Self is the longest that a hold of the request's own owner, or of one in line with
	// it, may be in its way without ending; then the wait ends with ErrDeadlock. At zero, or
	// below, a request does not wait for its own owner at all. It must be above
	// zero if several goroutines share an owner, and far above what their
	// holds last.
	//
	// It does not keep anybody from waiting longer than that for many short holds
	// of the same owner, one after the other.
	Self time.Duration

	// Hopeless, if it is not nil, may know of a reason why the wait will not end that lies outside
	// of this package. It is asked when the wait begins, and again each time that Self has
	// passed, with the Work of all holders of the locks that are not free, where that is
	// not nil, how long the wait has lasted, and Self. If it returns the index of one, the wait
	// ends with ErrDeadlock. It is called on the goroutine that waits, and with no mutex locked.
	Hopeless func(holders []any, waited, self time.Duration) int

	// Patience, if it is above zero, is the longest that one and the same hold of a gate may be in the
	// way, for a request that can do without the gate; then the wait ends with ErrDeadlock. It is looked
	// for when so much has passed, or a quarter of the wait so far if that is longer.
	Patience time.Duration

	// Quiet, if it is not nil, returns for how long, since it was asked first, nothing has been
	// going on under a hold with the given Work, which may be nil. Where it is not certain that
	// two owners in one line are one thread of control, a hold of the other one counts as
	// kept only when it has been quiet for Self. It must not call this package, nor wait
	// for anybody who does: it is called with mutexes locked.
	Quiet func(work any) time.Duration

	// Turn names the group in which the request waits for a lock with a limit. Groups take
	// turns there, and within one, who came first is first. The others have no use for it.
	Turn string

	// GivesWay says that the caller can give up what it holds, and ask for that again
	// together with this. So if the wait is in a cycle, it is the one that ends with
	// ErrDeadlock, whoever has closed the cycle.
	GivesWay bool

	// Ride, if it is not nil, is work that whoever has the gate may do for the request that waits
	// there, which ends with ErrTaken then. See Batch.
	Ride any

	// Whole, if it is not nil, is the wait that this one is a part of. Whoever has made it calls its End.
	Whole *WholeWait

	// Stats, if it is not nil, counts the wait when it has ended.
	Stats *WaitStats

	// Slow, if it is not nil, is told of a wait that has lasted for five seconds: see
	// SlowWait. It is called with no mutex locked, by none of those who wait.
	Slow func(SlowWait)
}

// epoch is where the stamps of this process start.
var epoch = time.Now()

// stamp is a reading of the monotonic clock, in nanoseconds: a third of the size
// of a time.Time. The zero stamp means "not recorded".
type stamp int64

// now returns the present, which is never zero.
func now() stamp {
	if clock := testClock.Load(); clock != nil {
		return (*clock)()
	}
	return stamp(time.Since(epoch)) + 1
}

// testClock is set by a test that counts how often the clock is read.
var testClock atomic.Pointer[func() stamp]

func (s stamp) since(start stamp) time.Duration { return time.Duration(s - start) }
