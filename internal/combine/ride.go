package combine

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/walsync"
)

// A Ride is a statement that waits at the gate, and that whoever has the gate may run. Its caller may
// be gone before that is done. So what it needs is its own, and not the caller's.
//
// Until it is taken it is the caller's. From then on it is that of who has the gate, until it has
// ended; then it is the caller's again, if that has not left.
type Ride struct {
	Hold locks.Hold   // what it asks for, and has
	Mark walsync.Mark // of its commit, when it has ended

	Took time.Duration // the statement alone

	env  *Env
	ctx  context.Context // of the call, without its end
	call server.Call

	res driver.Result
	err error // of the statement, or ErrAlone

	nth   int64        // its number among all who came to wait, if it is on the list
	told  chan Outcome // what came of it there, once; nil if it is not on the list
	state state        // there; guarded by list.mu

	among locks.Reach // its user's lock among processes; nil if it needs none

	mu    sync.Mutex // guards what follows
	ended bool
	left  bool // by its caller; then Hold has the caller's place in a section too
}

// reach takes the lock of its user among processes, if it has one that needs no wait: others of the batch may have it.
func (r *Ride) reach(users *locks.Table) bool {
	if r.Hold.User == "" {
		return true
	}
	got, err := users.TryReachAs(r.Hold.User, rwlock.Exclusive)
	if got == nil || err != nil {
		return false
	}
	r.among = got
	return true
}

// leaveReach gives it up, before the lock of this process.
func (r *Ride) leaveReach() {
	if among := r.among; among != nil {
		r.among = nil
		among.Release()
	}
}

// ErrAlone says that a statement is to run by itself.
var ErrAlone = errors.New("the statement is to run by itself")

// NewRide returns a ride for a call on the connections that env is for, with copies of its arguments;
// nil if these are not values that can be copied.
func NewRide(ctx context.Context, env *Env, call *server.Call) *Ride {
	r := &Ride{env: env, ctx: context.WithoutCancel(ctx), call: *call}
	r.call.Args = slices.Clone(call.Args)
	for i := range r.call.Args {
		switch v := r.call.Args[i].Value.(type) {
		case nil, bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, float32, float64, string, time.Time:
		case []byte:
			r.call.Args[i].Value = slices.Clone(v)
		default:
			return nil
		}
	}
	return r
}

// Number is that of its wait on the list.
func (r *Ride) Number() int64 { return r.nth }

// Verb is that of its statement.
func (r *Ride) Verb() string { return r.call.Statement.Verb }

// Waits notes that n rides more wait than before.
func (env *Env) Waits(n int32) { env.waiting.Add(n) }

// HasWaiting tells whether there may be any.
func (env *Env) HasWaiting() bool { return env.waiting.Load() > 0 }

// SharesSync tells whether a commit, as far as is known, takes so long that it has a sync.
func (env *Env) SharesSync() bool {
	commit := env.commits.Load()
	return commit == 0 || commit >= int64(withSync)
}

// Arrive returns what came of a ride that was taken, in whose stead h waited. It reports false if that is
// not known yet, since the caller has not waited for it: then the statement goes on, under its lock, and
// inside the section that h has a place in.
func (r *Ride) Arrive(h *locks.Hold) (res driver.Result, err error, arrived bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return r.res, r.err, true
	}
	r.left = true
	h.MoveTo(&r.Hold, nil)
	return nil, nil, false
}

// end ends it, and reports whether its caller has left. Then Hold is to be released.
func (r *Ride) end() (left bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	r.Hold.Lock.Owner.NoteWritten()
	return r.left
}
