package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/calmdocs/dblocker"
)

// A request is one of a user, or a parallel part of one: it has an owner of its
// own. It is what a handler would do with the context that it was given.
type request struct {
	*world
	rng   *rand.Rand
	db    *sql.DB
	user  int
	owner *owner
	ctx   context.Context
	plain context.Context // ctx without its user
	reads bool            // it is in a shared section
	one   bool            // it has but one connection, for one thing at a time
}

// An owner is one for the monitor, as WithUser and Fork make one for dblocker.
type owner struct{ _ byte }

// errOops is what the requests panic with.
var errOops = errors.New("a bug in a handler")

// serve runs a request from its arrival to its end. It may leave through a panic,
// from which the server protects itself.
func (w *world) serve(rng *rand.Rand) {
	defer func() {
		if p := recover(); p != nil && p != errOops {
			panic(p)
		}
	}()
	r := &request{world: w, rng: rng, db: w.handle(rng), user: rng.IntN(users), owner: new(owner)}
	ctx, cancel := r.deadline(testContext)
	defer cancel()
	r.plain, r.ctx = ctx, dblocker.WithUser(ctx, w.tag(r.user))
	for range 1 + rng.IntN(3) {
		choose(rng, steps)(r)
	}
}

// tag is the user as dblocker is told. With locking switched off, each request is
// that of a stranger.
func (w *world) tag(user int) string {
	if w.locking {
		return fmt.Sprint(user)
	}
	return fmt.Sprint(user, " ", newID())
}

// deadline lets the context of some requests end, at a random moment, in one of
// the two ways.
func (r *request) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	after := time.Duration(r.rng.Int64N(int64(40 * time.Millisecond)))
	switch r.rng.IntN(8) {
	case 0:
		return context.WithTimeout(ctx, after)
	case 1:
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(after, cancel)
		return ctx, cancel
	}
	return context.WithCancel(ctx)
}

// fork is the request's parallel part.
func (r *request) fork() *request {
	part := *r
	part.rng = rand.New(rand.NewPCG(r.rng.Uint64(), r.rng.Uint64()))
	part.owner = new(owner)
	part.ctx = dblocker.Fork(r.ctx)
	return &part
}

// writing is a context for the request's writes.
func (r *request) writing() context.Context {
	if grace || r.engine.waits {
		return r.ctx
	}
	return context.WithoutCancel(r.ctx)
}

// enter begins a critical section of the request.
func (r *request) enter(ctx context.Context, mode dblocker.Mode, what string) (leave func()) {
	return r.monitor.enter(&section{r.user, r.owner, mode, ctx, what, time.Time{}})
}

// enterRows begins a critical section of open rows.
func (r *request) enterRows(ctx context.Context, mode dblocker.Mode, until time.Time) (leave func()) {
	return r.monitor.enter(&section{r.user, r.owner, mode, ctx, "a Rows loop", until})
}

// think is the time that a handler spends on other things. A few take so long that
// those who wait for their locks give up.
func (r *request) think() {
	switch {
	case r.rng.IntN(5000) == 0:
		time.Sleep(lockTimeout + lockTimeout/4)
	case r.rng.IntN(2) == 0:
		time.Sleep(time.Duration(r.rng.Int64N(int64(time.Millisecond))))
	}
}

// maybePanic is called where a handler holds a lock.
func (r *request) maybePanic() {
	if r.rng.IntN(50) == 0 {
		panic(errOops)
	}
}

// choose picks one of several at random.
func choose[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }
