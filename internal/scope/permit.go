package scope

import (
	"context"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A Permit is what a call needs that waits at the server on a connection which others could have meanwhile. A try that does not
// wait needs none, nor does who has its connection for longer than the wait.
//
// At most one call of a user and process has one of that user's, and at most half of the connections of a handle are those of calls that
// have one: see Limit. Who waits for a permit does so in the process, without a connection. Users take turns at the handle's, and
// the calls of one user are first come, first served.
//
//	          user   pool
//	idle      -      -
//	had       held   held   or one of the two, where the other is not needed
type Permit struct {
	user rwlock.Hold // of the user; a writer is alone in its process, and needs none
	pool rwlock.Hold // of the handle's connections
}

// permits bounds the calls of a handle that wait at the server.
type permits struct {
	users *rwlock.Table // of the Table; nil if no engine's wait takes a connection
	pool  *rwlock.Lock  // nil if the number of connections is not limited
}

// Limit bounds the waits at the server to half the connections that the handle may have.
func (s *Scope) Limit(maxOpenConns int) {
	if maxOpenConns > 0 {
		s.permits.pool = rwlock.NewLock("a turn to wait at the server", max(1, maxOpenConns/2))
	}
}

func (p *permits) needsUser(a Ask) bool { return a.Shared && !a.All }

// TryPermit takes a permit for the ask, if that can be had at once.
func (s *Scope) TryPermit(p *Permit, a Ask) bool {
	p.describe(a, nil, nil)
	if s.permits.needsUser(a) && !s.permits.users.TryAcquire(a.Users[0], rwlock.Exclusive, &p.user) {
		return false
	}
	if s.permits.pool == nil || s.permits.pool.Acquire(context.Background(), rwlock.Shared, &p.pool, rwlock.Wait{Turn: a.turn()}) == nil {
		return true
	}
	p.user.Release()
	return false
}

// AwaitPermit waits for a permit. with is what the call has that cannot end before, and work is done under it.
func (s *Scope) AwaitPermit(ctx context.Context, p *Permit, a Ask, with *rwlock.Hold, work any, w rwlock.Wait) error {
	p.describe(a, with, work)
	w.Turn, w.Self = a.turn(), w.Timeout // that it waits for its own, in another goroutine, is no reason to end it
	began := time.Now()
	if s.permits.needsUser(a) {
		if err := s.permits.users.Acquire(ctx, a.Users[0], rwlock.Exclusive, &p.user, w); err != nil {
			return err
		}
	}
	if s.permits.pool == nil {
		return nil
	}
	w.Timeout = max(time.Millisecond, w.Timeout-time.Since(began))
	err := s.permits.pool.Acquire(ctx, rwlock.Shared, &p.pool, w)
	if err != nil {
		p.user.Release()
	}
	return err
}

func (p *Permit) describe(a Ask, with *rwlock.Hold, work any) {
	if a.Owner == nil {
		with = nil
	}
	p.user.Owner, p.user.Kind, p.user.Work, p.user.With = a.Owner, rwlock.Leaf, work, with
	p.pool.Owner, p.pool.Kind, p.pool.Work, p.pool.With = a.Owner, rwlock.Leaf, work, &p.user
	if a.Owner == nil {
		p.pool.With = nil
	}
}

// turn is whose turn it takes among the users.
func (a Ask) turn() string { return a.names()[0] }

// Link returns what the owner has by the permit, linked for what the call goes on to wait for.
func (p *Permit) Link(owner *rwlock.Owner) *rwlock.Hold {
	if p == nil || owner == nil || p.pool.Owner != owner {
		return nil
	}
	return &p.pool
}

// Release gives the permit on to who waits for it. The second time it does nothing.
func (p *Permit) Release() {
	p.pool.Release()
	p.user.Release()
}

// HasShared tells whether the process has the user's lock, shared: then another of its readers can probably have it at once.
func (s *Scope) HasShared(a Ask) bool {
	return len(s.table.those(a, func(g *Grant) bool { return g.released == nil && g.ask.Shared })) > 0
}
