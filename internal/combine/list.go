package combine

import (
	"context"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A list has the rides that need not wait in the queue of the gate, since one who has the gate is at work for
// others, and looks at the list before it gives the gate up: the publication list of flat combining. To wait
// there costs little, since it is no request for a lock. The leader takes the user's lock for a ride, if that is free,
// and runs it like one of the queue. What it cannot run so is told to go to the queue.
//
// The list belongs to who has the gate for itself, and its place at the gate shuts it when that is left. It stays open without anybody
// only if another has come before the first on it: that one may lead, or else the watchdog shuts it. The watchdog
// also shuts it if its leader is silent. So nobody is in state listed for longer than twice the watchdog's time. Nobody on the
// list passes who came to the queue before, and waits for the gate there.
type list struct {
	mu       sync.Mutex // guards what follows, and the states of the rides
	open     bool
	rides    []*Ride // those in state listed, from first on, and some in state gone; in the order of their numbers
	first    int
	worked   time.Time // when a leader was last seen at work
	watching bool      // the watchdog's timer is set
}

const (
	mostListed = 256                  // more go to the queue at once
	watchdog   = 5 * time.Millisecond // for which a leader may be silent
	leaderless = time.Millisecond     // for which there may be none, while others have the gate
)

// A state is that of a ride on the list.
type state uint8

const (
	listed  state = iota
	running       // it was taken by the leader
	told          // its caller has been told an outcome, or will be without any wait
	gone          // its caller has gone
)

// An Outcome is what came of a ride on the list.
type Outcome uint8

const (
	Back  Outcome = iota // it is to wait in the queue; also if its context has ended, or the handle was closed
	Rode                 // it was taken: see Ride.Arrive
	Leads                // its caller has the gate, and the user's lock, in Ride.Hold
)

// Board puts the ride on the list and reports true, if there is a leader. Wait must follow.
func (env *Env) Board(r *Ride) bool {
	l := &env.list
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open || len(l.rides)-l.first >= mostListed {
		return false
	}
	r.nth = rwlock.Arrive()
	r.told = make(chan Outcome, 1)
	l.rides = append(l.rides, r)
	env.waiting.Add(1)
	if !l.watching {
		l.watching, l.worked = true, time.Now()
		time.AfterFunc(watchdog, l.watch)
	}
	return true
}

// Wait waits for what comes of a ride that has boarded.
func (r *Ride) Wait(ctx context.Context, closed <-chan struct{}) Outcome {
	out := r.outcome(ctx, closed)
	r.env.waiting.Add(-1)
	if out == Back {
		r.told = nil
	}
	return out
}

func (r *Ride) outcome(ctx context.Context, closed <-chan struct{}) Outcome {
	select {
	case out := <-r.told:
		return out
	case <-ctx.Done():
	case <-closed:
	}
	switch r.env.list.leave(r) {
	case gone:
		return Back
	case told:
		return <-r.told
	}
	select {
	case out := <-r.told:
		return out
	case <-ctx.Done():
		return Rode
	}
}

// leave takes the ride off the list, if it is in state listed. It returns the ride's state.
func (l *list) leave(r *Ride) state {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.state == listed {
		r.state = gone
	}
	return r.state
}

// head returns the first ride in state listed; nil if there is none. The caller has mu.
func (l *list) head() *Ride {
	for ; l.first < len(l.rides); l.first++ {
		if r := l.rides[l.first]; r.state == listed {
			return r
		}
		l.rides[l.first] = nil
	}
	l.rides, l.first = l.rides[:0], 0
	return nil
}

// sendBack tells the first ride to go to the queue. The caller has mu.
func (l *list) sendBack(r *Ride) {
	r.state = told
	r.told <- Back
}

// Open opens the list for one who has the gate for itself, until that leaves. It is open already for one who was told to lead.
func (env *Env) Open(at *gate.Place) {
	if env.Reaches || !at.Gate().IsWAL() { // else it would have to wait for readers too, or for other processes
		return
	}
	l := &env.list
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = true
	at.SetList(l)
}

// Shut implements [gate.List].
func (l *list) Shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close()
}

// watch closes the list if its leader is silent.
func (l *list) watch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := watchdog - time.Since(l.worked)
	if l.open && left <= 0 {
		l.close()
	}
	if l.watching = l.open; l.watching {
		time.AfterFunc(left, l.watch)
	}
}

// close sends all to the queue. The caller has mu.
func (l *list) close() {
	l.open = false
	for r := l.head(); r != nil; r = l.head() {
		l.sendBack(r)
	}
}

// take takes the first ride for the batch, with its user's lock, if it is its turn: else another has come to the queue
// before it. Those that cannot be taken are sent to the queue.
func (l *list) take(b *rwlock.Batch, users *locks.Table, may func(*Ride) bool, now time.Time) *Ride {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.worked = now
	for r := l.head(); r != nil && b.IsTurnOf(r.nth); r = l.head() {
		if may(r) && users.TakeFree(b, &r.Hold) {
			r.state = running
			return r
		}
		l.sendBack(r)
	}
	return nil
}

// end is for the leader, whose work is done, and who still has the gate: the first on the list is to be the next. If another
// comes before it, that one may lead; soon, or else the watchdog closes the list.
func (l *list) end(b *rwlock.Batch, at *gate.Place, users *locks.Table) {
	for {
		r := l.choose(b)
		if r == nil {
			at.SetList(nil)
			return
		}
		if r.Hold.User == "" || users.TryAcquire(rwlock.Exclusive, &r.Hold) {
			at.HandOver(&r.Hold.Gate)
			r.told <- Leads
			return
		}
		r.told <- Back
	}
}

// choose returns the one who is to lead next; nil if there is none.
func (l *list) choose(b *rwlock.Batch) *Ride {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.head()
	if r == nil {
		l.open = false
		return nil
	}
	if !b.IsTurnOf(r.nth) {
		l.worked = time.Now().Add(leaderless - watchdog)
		return nil
	}
	r.state = told
	return r
}
