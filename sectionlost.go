package dblocker

import (
	"context"
	"slices"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A lostCall is a lost session that is under the lock of a section, and has the lock exclusively.
type lostCall struct {
	session *lostSession
	lock    *rwlock.Lock
}

// bar keeps back what the section does next, if o is under a section's lock: that waits as a
// stranger would for the lock of o.
func (o *lostSession) bar(users *lockTable) {
	s := o.hold.inside.section.lender(users, o.hold.user)
	if s == nil || s.mode == Shared {
		return
	}
	l := rwlock.NewLock(o.hold.user, 0)
	o.cover, o.barrier.Kind, o.barrier.Tag = s, o.hold.lock.Kind, o.hold.lock.Tag
	l.Acquire(context.Background(), rwlock.Exclusive, &o.barrier, rwlock.Wait{}) // nobody else knows of it yet
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = append(s.lost, lostCall{o, l})
}

func (o *lostSession) unbar() {
	s := o.cover
	if s == nil {
		return
	}
	s.mu.Lock()
	s.lost = slices.DeleteFunc(s.lost, func(l lostCall) bool { return l.session == o })
	s.mu.Unlock()
	o.barrier.Release()
}

// awaitLost waits, on behalf of an operation of the user id in the section, until the server
// has ended the section's earlier ones that have lost their connections.
func (c *conn) awaitLost(ctx context.Context, in *section, id identity, mode Mode) error {
	s := in.lender(c.pool.users, id.user)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	lost := slices.Clone(s.lost)
	s.mu.Unlock()
	if len(lost) > 0 && c.busy == idle {
		c.giveBack() // as whoever waits for a lock
	}
	for _, call := range lost {
		h := rwlock.Hold{Owner: id.lockOwner(), With: c.turnLink(id.lockOwner())}
		if err := call.lock.Acquire(ctx, rwlock.Mode(mode), &h, c.wait()); err != nil {
			return c.explainClosed(lockError(err, id))
		}
		h.Release()
	}
	return nil
}
