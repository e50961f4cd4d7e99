package locks

import (
	"sync/atomic"
	"time"
)

// A CallMark tells others which call of the inner driver is running on a connection, so that
// they learn for how long it has been the same one. Calls read no clock: the time counts from
// when somebody has looked first.
type CallMark struct {
	n    atomic.Uint64 // of the beginnings and ends; odd while a call is running
	seen atomic.Pointer[callSeen]
}

// callSeen is what somebody has seen first.
type callSeen struct {
	n  uint64
	at time.Time
}

// Begin and End stand around each call.

func (m *CallMark) Begin() { m.move() }
func (m *CallMark) End()   { m.move() }
func (m *CallMark) move()  { m.n.Add(1) }

// look reports whether a call is running, and for how long nothing has begun or ended, as far
// as it was looked at.
func (m *CallMark) look() (running bool, unchanged time.Duration) {
	n, seen := m.n.Load(), m.seen.Load()
	if seen == nil || seen.n != n {
		seen = &callSeen{n, time.Now()}
		m.seen.Store(seen)
	}
	return n%2 == 1, time.Since(seen.at)
}
