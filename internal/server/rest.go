package server

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Leftover is a lock of the engine that nobody relies on any more, and that the session of a connection still has.
type Leftover interface {
	GiveUp() // to the server; if that fails, so does the connection
	Lost()   // the session has ended, or is going to
}

// restTime is how long a session keeps such a lock. What comes next in that time goes on under it, or gives it up in the message that
// asks for another: so a lock costs one message, or none, instead of two. Others wait for it that much longer.
const restTime = time.Millisecond

// A rest is what a connection has of that. mu guards all of it.
//
//	state      left  whose it is
//	nothing    nil
//	resting    set   of who comes first: who has the connection, or the timer
//	awake      set   of who has the connection
//	givingUp   set   of the goroutine that does; done is closed when it has
//
// Whoever uses the connection wakes it first, and who leaves it lets it rest again. So what the timer does to the connection it does
// alone.
type rest struct {
	state atomic.Int32 // written under mu

	mu      sync.Mutex
	left    Leftover
	user    string // whose lock it is
	hurried bool   // somebody waits for it: it is given up when it would rest
	done    chan struct{}
	timer   *time.Timer
}

const (
	nothing = int32(iota)
	resting
	awake
	givingUp
)

// Rest lets the session keep a lock of a user for a while, and reports false if it is to be given up now. Whoever has the
// connection calls it. gone is called first if it may.
func (sc *Conn) Rest(l Leftover, user string, gone func()) bool {
	r := &sc.rest
	if sc.Pinned || sc.HasRows() || sc.IsSettling() || r.state.Load() != nothing {
		return false
	}
	gone()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left, r.user, r.hurried = l, user, false
	sc.lie()
	return true
}

// lie has mu.
func (sc *Conn) lie() {
	r := &sc.rest
	r.state.Store(resting)
	if r.timer == nil {
		r.timer = time.AfterFunc(restTime, sc.expire)
	} else {
		r.timer.Reset(restTime)
	}
	if r.hurried {
		go sc.expire()
	}
}

// expire gives the lock up, unless somebody has woken it.
func (sc *Conn) expire() {
	r := &sc.rest
	r.mu.Lock()
	if r.state.Load() != resting {
		r.mu.Unlock()
		return
	}
	left, done := r.left, make(chan struct{})
	r.done = done
	r.state.Store(givingUp)
	r.mu.Unlock()
	given := false
	defer func() { // also if the driver ends the goroutine
		sc.broken = sc.broken || !given
		r.mu.Lock()
		defer r.mu.Unlock()
		r.left, r.done = nil, nil
		r.state.Store(nothing)
		close(done)
	}()
	given = sc.cfg.contain(left.GiveUp) == nil
}

// Hurry is for who waits for the lock, and does not have the connection.
func (sc *Conn) Hurry() {
	r := &sc.rest
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hurried = true
	if r.state.Load() == resting {
		r.timer.Stop()
		go sc.expire()
	}
}

// Wake makes what rests that of the caller, who has the connection from now on, and waits for who is giving it up. sc may be nil.
func (sc *Conn) Wake() {
	if sc != nil && sc.rest.state.Load() != nothing {
		sc.wake()
	}
}

func (sc *Conn) wake() {
	if done := sc.tryWake(); done != nil {
		<-done
	}
}

// TryWake is Wake for who cannot wait. If somebody is giving the lock up, IsSettling goes on to tell so. sc may be nil.
func (sc *Conn) TryWake() {
	if sc != nil && sc.rest.state.Load() == resting {
		sc.tryWake()
	}
}

// tryWake returns what is closed when nobody is giving the lock up; nil if nobody is.
func (sc *Conn) tryWake() (done chan struct{}) {
	r := &sc.rest
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.Load() == resting {
		r.state.Store(awake)
		r.timer.Stop()
	}
	return r.done
}

// LieDown ends what Wake has begun, if anything is left. sc may be nil.
func (sc *Conn) LieDown() {
	if sc == nil || sc.rest.state.Load() != awake {
		return
	}
	sc.rest.mu.Lock()
	defer sc.rest.mu.Unlock()
	if sc.rest.state.Load() == awake {
		sc.lie()
	}
}

// TakeLeft returns the lock that rests, which is the caller's to give up then; nil if there is none. The caller has the connection.
func (sc *Conn) TakeLeft() Leftover {
	sc.Wake()
	r := &sc.rest
	if r.state.Load() != awake {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.left
	r.left = nil
	r.state.Store(nothing)
	return left
}

// giveUpRest gives the lock up that rests, and waits for who does already. Whoever sends something by the connection does it first, unless that takes the
// lock over. A driver that panics, or ends the goroutine, goes no further: the lock is that of another call, which has returned.
func (sc *Conn) giveUpRest() {
	left := sc.TakeLeft()
	if left == nil {
		return
	}
	if err := apart(sc.cfg.Logger, left.GiveUp); err != nil {
		sc.broken = true
	}
}

// forgetRest is for a connection that is about to be closed.
func (sc *Conn) forgetRest() {
	if left := sc.TakeLeft(); left != nil {
		left.Lost()
	}
}

// hasRest tells who is about to send something whether there is a lock to be given up first. Who gives one up sends something too.
func (sc *Conn) hasRest() bool {
	state := sc.rest.state.Load()
	return state == resting || state == awake
}

// restsFor may be asked by who does not have the connection.
func (sc *Conn) restsFor(user string) bool {
	r := &sc.rest
	if r.state.Load() != resting {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.Load() == resting && r.user == user
}
