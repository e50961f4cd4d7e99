package rwlock

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrTimeout is why a wait ended that lasted as long as it was allowed to.
	ErrTimeout = errors.New("lock timeout")

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
	Waited time.Duration

	// Blocker is the oldest hold that was in the way when the wait ended: a
	// holder or, if Blocker.Waiting, a request that had come earlier.
	Blocker Info

	// Err is why the wait ended: ErrTimeout, ErrClosed or the context's error.
	Err error
}

// Error says what was asked for, how long it waited, and for whom.
func (e *WaitError) Error() string {
	return fmt.Sprintf("%v: %v lock of %q not granted after %v: %v",
		e.Err, e.Mode, e.Key, e.Waited.Round(time.Millisecond), e.Blocker)
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
		Waited:  waited,
		Blocker: by.info(readClock()),
		Err:     reason,
	}
}
