package rwlock

import (
	"errors"
	"sync/atomic"
	"time"
)

// WaitStats count waits that have ended. Requests that were granted, or refused, at once
// are not counted.
type WaitStats struct {
	Waits     atomic.Int64
	Time      atomic.Int64 // nanoseconds of all waits
	Timeouts  atomic.Int64
	Deadlocks atomic.Int64
}

// Note counts a wait that was granted, and began at the time.
func (s *WaitStats) Note(began time.Time) {
	if s != nil {
		s.Waits.Add(1)
		s.Time.Add(int64(time.Since(began)))
	}
}

// count counts one wait that began at the stamp and has ended with err.
func (s *WaitStats) count(since stamp, err error) {
	if s == nil {
		return
	}
	s.Waits.Add(1)
	s.Time.Add(int64(now().since(since)))
	switch {
	case errors.Is(err, ErrTimeout):
		s.Timeouts.Add(1)
	case errors.Is(err, ErrDeadlock):
		s.Deadlocks.Add(1)
	}
}
