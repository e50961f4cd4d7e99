package locks

import (
	"sync/atomic"
	"time"
)

// A Resident is a client connection as sections know it: one whose operations are members of them.
type Resident struct {
	Calls CallMark    // of the inner driver
	Due   atomic.Bool // a section has ended that may have left something open here

	Conn  Sweeper
	Bound *Section // that all its work is inside; nil if there is none
}

// A Sweeper is a client connection.
type Sweeper interface {
	// Sweep closes what ended sections have left open on it, if that is due. While a call is
	// running it does nothing, since that call does it when it leaves.
	Sweep()
}

var _ Worker = (*Resident)(nil)

// InOneCall implements [Worker].
func (r *Resident) InOneCall() time.Duration {
	if running, unchanged := r.Calls.look(); running {
		return unchanged
	}
	return 0
}

// Quiet implements [Worker].
func (r *Resident) Quiet() time.Duration {
	if running, unchanged := r.Calls.look(); !running {
		return unchanged
	}
	return 0
}

// BegunBy implements [Worker].
func (r *Resident) BegunBy() *Thread {
	if r.Bound == nil {
		return nil
	}
	return r.Bound.BegunBy()
}
