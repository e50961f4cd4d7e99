package dblocker

import (
	"sync/atomic"
	"time"
)

// A resident is a client connection as sections know it: one whose operations are members of them.
type resident struct {
	calls callMark    // of the inner driver
	due   atomic.Bool // a section has ended that may have left something open here

	conn  sweeper
	bound *lockSection // that all its work is inside; nil if there is none
}

// A sweeper is a client connection.
type sweeper interface {
	// Sweep closes what ended sections have left open on it, if that is due. While a call is
	// running it does nothing, since that call does it when it leaves.
	Sweep()
}

var _ worker = (*resident)(nil)

// InOneCall implements [worker].
func (r *resident) InOneCall() time.Duration {
	if running, unchanged := r.calls.look(); running {
		return unchanged
	}
	return 0
}

// Quiet implements [worker].
func (r *resident) Quiet() time.Duration {
	if running, unchanged := r.calls.look(); !running {
		return unchanged
	}
	return 0
}

// BegunBy implements [worker].
func (r *resident) BegunBy() *thread {
	if r.bound == nil {
		return nil
	}
	return r.bound.BegunBy()
}
