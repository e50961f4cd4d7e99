package dblocker

import (
	"context"
	"sync/atomic"
)

// A fillTurn is that of the fills on a client connection.
type fillTurn struct {
	wanted  atomic.Int32                  // so many calls wait for the connection's mutex
	shared  atomic.Bool                   // both a fill and the Query that began it have the connection: the first to leave leaves it to the other
	filling atomic.Pointer[chan struct{}] // closed when the fill that has the connection leaves it; nil if none has
}

// lockMu locks the mutex of the connection for a call that must be done in any case.
func (c *conn) lockMu() { c.lockMuFor(context.Background()) }

// lockMuFor locks it for a call with ctx. A fill that has it stops; the call does not wait
// longer than its context for the row that the fill may be waiting for.
func (c *conn) lockMuFor(ctx context.Context) error {
	if c.mu.TryLock() {
		return nil
	}
	c.fills.wanted.Add(1)
	defer c.fills.wanted.Add(-1)
	for !c.mu.TryLock() {
		left := c.fills.filling.Load()
		if left == nil { // it is the end of a section, or the like
			c.mu.Lock()
			return nil
		}
		select {
		case <-*left:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// isWanted tells a fill that has the connection whether a call waits for it.
func (c *conn) isWanted() bool {
	p := c.using
	return c.fills.wanted.Load() > 0 || p != nil && p.wanted.Load() > 0
}

// tryEnter takes the connection for a fill, unless a call has it. leaveFill must follow.
func (c *conn) tryEnter() bool {
	if !c.mu.TryLock() {
		return false
	}
	p := c.pinned
	if c.lent || p != nil && !p.turn.tryLock() {
		c.mu.Unlock()
		return false
	}
	c.using = p
	c.beginFill()
	return true
}

func (c *conn) beginFill() {
	left := make(chan struct{})
	c.fills.filling.Store(&left)
}

func (c *conn) leaveFill() {
	left := c.fills.filling.Swap(nil)
	c.leave()
	close(*left)
}
