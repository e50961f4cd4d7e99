package bytelock

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrTimeout is why a wait ended that lasted as long as it was allowed to.
	ErrTimeout = errors.New("lock timeout")

	// ErrStopped is why a wait ended when Wait.Stopped was closed.
	ErrStopped = errors.New("stopped while waiting for a lock")
)

// A Wait bounds a wait.
type Wait struct {
	Timeout time.Duration   // the longest; at zero, or below, there is none
	Stopped <-chan struct{} // ends it when it is closed; nil means never
	Inside  bool            // see AcquireInside
}

// A WaitError tells of a wait that ended without the lock.
type WaitError struct {
	Waited  time.Duration
	Holders []Holder // that were in the way at the end; nil if nobody has looked, or they are not to be seen any more
	Err     error    // ErrTimeout, ErrStopped, or the context's error
}

func (e *WaitError) Error() string {
	return fmt.Sprintf("waited %v for the lock among processes: %v", e.Waited.Round(time.Millisecond), e.Err)
}

func (e *WaitError) Unwrap() error { return e.Err }

// AcquireWithin is Acquire with bounds. Its error is a *WaitError if the wait has ended without the lock.
func (f *File) AcquireWithin(ctx context.Context, k Key, m Mode, w Wait) (*Lock, error) {
	return f.within(ctx, k, w, func(timeout <-chan time.Time) (*Lock, error) {
		return f.acquireUntil(ctx, timeout, w.Stopped, k, m, w.Inside)
	})
}

// AcquireAllWithin is AcquireWithin for the locks of all users but those, which the caller has.
func (f *File) AcquireAllWithin(ctx context.Context, held []Key, w Wait) (*Lock, error) {
	return f.within(ctx, everything, w, func(timeout <-chan time.Time) (*Lock, error) {
		if len(held) > 0 {
			return f.acquireAllBut(ctx, timeout, w.Stopped, held)
		}
		return f.acquireUntil(ctx, timeout, w.Stopped, everything, Exclusive, w.Inside)
	})
}

// JoinWithin is Join, again and again until it can be had, or nobody of this File has the lock any more: then it returns nil, nil.
func (f *File) JoinWithin(ctx context.Context, k Key, m Mode, w Wait) (*Lock, error) {
	return f.within(ctx, k, w, func(timeout <-chan time.Time) (*Lock, error) {
		const longest = 8 * time.Millisecond
		for pause := 100 * time.Microsecond; ; pause = min(2*pause, longest) {
			if l := f.Join(k, m); l != nil || !f.Has(k) {
				return l, nil
			}
			if err := pauseFor(ctx, pause, timeout, w.Stopped); err != nil {
				return nil, err
			}
		}
	})
}

// within waits by wait, and says of a wait in vain who was in the way.
func (f *File) within(ctx context.Context, k Key, w Wait, wait func(timeout <-chan time.Time) (*Lock, error)) (*Lock, error) {
	began := time.Now()
	timer := time.NewTimer(max(w.Timeout, 0))
	defer timer.Stop()
	l, err := wait(timer.C)
	if err == nil || err != ErrTimeout && err != ErrStopped && err != ctx.Err() {
		return l, err
	}
	e := &WaitError{Waited: time.Since(began), Err: err}
	if w.Timeout > 0 && err != ErrStopped {
		e.Holders = f.Holders(k)
	}
	return nil, e
}

// pauseFor is a pause in a wait. It returns why that has ended.
func pauseFor(ctx context.Context, d time.Duration, timeout <-chan time.Time, stopped <-chan struct{}) error {
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-timeout:
		return ErrTimeout
	case <-stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Has tells whether the lock is had through this File.
func (f *File) Has(k Key) bool {
	s := f.shardOf(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lines[k]
	return l != nil && l.users > 0
}
