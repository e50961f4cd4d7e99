package gate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// Conns are the connections to a SQLite database. The first one to a file in WAL mode
// recovers the WAL, the last one removes it, and SQLite calls the file busy for everybody
// else meanwhile. So these two are opened and closed while no other is: alone. One that has
// been opened keeps SQLite's shared lock on the file, and has found the WAL in order; so
// beside it others come and go as they like, without waiting for each other.
//
// Nobody waits to close one. What would be the last, while others are still being opened or
// closed, is left to whoever of these is done last. Those who have waited for the first to be opened
// count as being opened from then on: else it could be closed before they come to run, and each
// would be the first again.
//
// While somebody is busy beside others, at least one is open; while somebody is alone, none
// is, and nobody is busy.
type Conns struct {
	mu      sync.Mutex         // guards what follows
	open    int                // have been opened, and their closing has not begun
	busy    int                // are being opened or closed, beside those that are open
	alone   bool               // one is being opened or closed, and there is no other
	left    []func(alone bool) // close one of open each
	waiting *aloneWait         // for the one that is alone; nil if nobody does
}

// An aloneWait is the wait of all who come while one is alone.
type aloneWait struct {
	over   chan struct{} // closed with it
	count  int           // of those who wait
	beside bool          // they have entered, beside the one that was opened; set before over is closed
}

// Connect calls open, which opens a connection and reads from it, and tells it whether
// there is another, which stays meanwhile.
func (o *Conns) Connect(ctx context.Context, w rwlock.Wait, open func(beside bool) error) error {
	if o == nil {
		return open(false)
	}
	alone, err := o.enter(ctx, w)
	if err != nil {
		return err
	}
	opened := 0
	defer func() { o.leave(alone, opened) }() // also when the inner driver panics
	if err := open(!alone); err != nil {
		return err
	}
	opened = 1
	return nil
}

// Disconnect calls close, which closes a connection that Connect has opened: at once, or
// soon, and then its error is lost.
func (o *Conns) Disconnect(close func() error) error {
	return o.DisconnectKnowing(func(bool) error { return close() })
}

// DisconnectKnowing is Disconnect for a close that is told whether it is alone.
func (o *Conns) DisconnectKnowing(close func(alone bool) error) error {
	if o == nil {
		return close(true)
	}
	o.mu.Lock()
	alone, ok := o.mayClose()
	if !ok {
		o.left = append(o.left, func(alone bool) { close(alone) })
	}
	o.mu.Unlock()
	if !ok {
		return nil
	}
	defer o.leave(alone, 0)
	return close(alone)
}

// enter waits until one may be opened, alone or beside others.
func (o *Conns) enter(ctx context.Context, w rwlock.Wait) (alone bool, err error) {
	began := time.Now()
	var timeout <-chan time.Time
	for {
		alone, wait := o.tryEnter()
		if wait == nil {
			return alone, nil
		}
		if timeout == nil {
			t := time.NewTimer(w.Timeout)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-wait.over:
			if wait.beside {
				return false, nil
			}
			continue
		case <-timeout:
			err = &ConnsError{time.Since(began), rwlock.ErrTimeout}
		case <-ctx.Done():
			err = &ConnsError{time.Since(began), ctx.Err()}
		case <-w.Closed:
			err = &ConnsError{time.Since(began), rwlock.ErrClosed}
		}
		o.stopWaiting(wait)
		return false, err
	}
}

// tryEnter is enter, but where that has to wait it returns what for.
func (o *Conns) tryEnter() (alone bool, wait *aloneWait) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.alone:
		if o.waiting == nil {
			o.waiting = &aloneWait{over: make(chan struct{})}
		}
		o.waiting.count++
		return false, o.waiting
	case o.open > 0:
		o.busy++
		return false, nil
	}
	o.alone = true
	return true, nil
}

// stopWaiting is for one who gives up.
func (o *Conns) stopWaiting(wait *aloneWait) {
	o.mu.Lock()
	wait.count--
	entered := wait.beside
	o.mu.Unlock()
	if entered {
		o.leave(false, 0)
	}
}

// mayClose begins to close one of those that are open, unless that has to wait.
func (o *Conns) mayClose() (alone, ok bool) {
	switch {
	case o.open > 1:
		o.busy++
	case o.busy == 0:
		o.alone = true
	default:
		return false, false
	}
	o.open--
	return o.alone, true
}

// leave ends what enter or mayClose has begun, and closes what was left.
func (o *Conns) leave(alone bool, opened int) {
	o.mu.Lock()
	o.open += opened
	if alone {
		o.alone = false
		o.endWait()
	} else {
		o.busy--
	}
	var next func(alone bool)
	if len(o.left) > 0 {
		var ok bool
		if alone, ok = o.mayClose(); ok {
			next, o.left = o.left[0], o.left[1:]
		}
	}
	o.mu.Unlock()
	if next != nil {
		defer o.leave(alone, 0)
		next(alone)
	}
}

// endWait lets those go on who have waited for the one that was alone.
func (o *Conns) endWait() {
	wait := o.waiting
	if wait == nil {
		return
	}
	if o.open > 0 {
		wait.beside = true
		o.busy += wait.count
	}
	o.waiting = nil
	close(wait.over)
}

// A ConnsError says that a connection was not opened, since others were being opened or closed. Err is
// rwlock.ErrTimeout, rwlock.ErrClosed, or the context's error.
type ConnsError struct {
	Waited time.Duration
	Err    error
}

func (e *ConnsError) Error() string {
	return fmt.Sprintf("%v: waited for %v while other connections were being opened or closed", e.Err, e.Waited.Round(time.Millisecond))
}

func (e *ConnsError) Unwrap() error { return e.Err }
