package rwlock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

var (
	// ErrTimeout is why a wait ended that lasted as long as it was allowed to.
	ErrTimeout = errors.New("lock timeout")

	// ErrDeadlock is why a wait ended that would have lasted for ever: WaitError.Cycle
	// says why. It is found when the wait begins, unless the owner waits for
	// itself: that may last for Wait.Self.
	ErrDeadlock = errors.New("deadlock")

	// ErrClosed is why a wait ended when Wait.Closed was closed.
	ErrClosed = errors.New("closed while waiting for a lock")

	// ErrHoldInUse is returned for an attempt to acquire with a hold that has a
	// lock or waits for one.
	ErrHoldInUse = errors.New("rwlock: hold is already in use")

	// ErrDuplicate is returned for a request that names a lock twice.
	ErrDuplicate = errors.New("rwlock: the same lock is requested twice")
)

// WaitError says that a request was not granted, and who was in the way.
type WaitError struct {
	// Key and Mode say what was asked for. Of a request for several locks, it is
	// the one at which the blocker was in the way.
	Key    string
	Mode   Mode
	Form   Form
	Ctx    context.Context // of the call, if somebody looks on; else nil
	Waited time.Duration

	// Blocker is the oldest hold that was in the way when the wait ended: a
	// holder or, if Blocker.Waiting, a request that had come earlier.
	Blocker Info

	// Held says that the line of the request's own owner has a lasting hold of the
	// lock: the request was an upgrade, or the owner was in its own way. If it gives
	// that hold up, those whom it kept waiting go on.
	Held bool

	// Cycle is set for ErrDeadlock. It begins with the wait that was refused, then
	// comes the hold in its way, then what the owner of that waits for, and so on. The
	// last in the way belongs to the owner of the first wait. (Where what is in the way is
	// an earlier wait of the same owner, it stands for the owner's hold.)
	Cycle []Info

	// Hopeless says that Wait.Hopeless has ended the wait, for the sake of Blocker.
	Hopeless bool

	// Err is why the wait ended: ErrTimeout, ErrDeadlock, ErrClosed or the
	// context's error.
	Err error
}

// Error says what was asked for, how long it waited, and for whom; and of a deadlock,
// for whom those wait.
func (e *WaitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %v lock of %q not granted after %v: %v",
		e.Err, e.Mode, e.Key, e.Waited.Round(time.Millisecond), e.Blocker)
	for _, i := range e.Cycle[min(2, len(e.Cycle)):] {
		if i.Waiting {
			fmt.Fprintf(&b, "; its owner waits for %q", i.Key)
		} else {
			fmt.Fprintf(&b, ": %v", i)
		}
	}
	return b.String()
}

// Unwrap returns why the wait ended.
func (e *WaitError) Unwrap() error { return e.Err }

// refusal describes the end, now, of a wait. Something is in the way of the
// places, whose shards are locked.
func refusal(ps places, waited time.Duration, reason error) *WaitError {
	at, by := ps.blocked()
	return &WaitError{
		Key:     at.lock.name,
		Mode:    at.hold.mode,
		Form:    at.lock.form(),
		Ctx:     at.hold.ctx(),
		Waited:  waited,
		Held:    at.lock.holds(at.hold.Owner),
		Blocker: by.info(readClock()),
		Err:     reason,
	}
}

// deadlockError describes the end, now, of a wait that closes a cycle, all of whose
// shards are locked.
func deadlockError(cycle []*Hold, waited time.Duration) *WaitError {
	clock := readClock()
	infos := make([]Info, len(cycle))
	for i, h := range cycle {
		infos[i] = h.info(clock)
	}
	wait, lock := infos[0], cycle[0].lock.Load()
	return &WaitError{
		Key:     wait.Key,
		Mode:    wait.Mode,
		Form:    wait.Form,
		Ctx:     wait.Ctx,
		Waited:  waited,
		Blocker: infos[1],
		Held:    lock.holds(cycle[0].Owner),
		Cycle:   infos,
		Err:     ErrDeadlock,
	}
}
