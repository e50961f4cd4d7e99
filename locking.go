package dblocker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A userHold is what an operation holds: its user's lock, or a place in a section
// that has that lock, or both if its section is another user's.
type userHold struct {
	rwlock.Hold
	user  string
	owner *owner // nil if the context had none

	all    *rwlock.Hold // a share in the lock of all users, if somebody wants that one; else nil
	inside membership   // of a section
}

// release gives up all that the operation holds. It does nothing the second time.
func (h *userHold) release() {
	h.Hold.Release()
	h.releaseAll()
	h.inside.leave()
}

func (h *userHold) releaseAll() {
	if h.all != nil {
		h.all.Release()
		h.all = nil
	}
}

// Held reports whether the operation has its user's lock, by itself or through its
// section.
func (h *userHold) Held() bool { return h.inside.section != nil || h.Hold.Held() }

// move gives all that the operation holds to another one, on c or on no connection,
// which keeps its own owner, kind and tag.
func (h *userHold) move(to *userHold, c *conn) (moved bool) {
	if key, ok := h.Hold.Move(&to.Hold); ok {
		to.user, moved = key, true
	}
	to.all, h.all = h.all, nil
	if h.inside.section != nil {
		to.user, moved = h.user, true
		h.inside.move(&to.inside, c)
	}
	return moved
}

// A request is what an operation would take by itself: a hold of that kind, in
// that mode, of its user's lock.
type request struct {
	kind rwlock.Kind
	mode Mode
}

// lock decides what an operation on c needs, and takes it. h becomes that hold,
// or stays idle if the operation needs none.
func (c *conn) lock(ctx context.Context, h *userHold, req request) error {
	var err error
	if req.mode, err = modeFrom(ctx, req.mode); err != nil {
		return err
	}
	s := c.sectionOf(ctx)
	id, err := c.identify(ctx, s)
	switch {
	case err != nil:
		return err
	case c.scope != nil:
		return c.scope.lock(ctx, id, s)
	case s != nil:
		return c.lockInside(ctx, s, h, req, id)
	case id.user == "":
		return nil
	}
	return c.acquire(ctx, h, req, id)
}

// lockInside is lock for an operation inside a section. The section's lock covers it;
// for a user that is not the section's, it takes that user's lock besides.
func (c *conn) lockInside(ctx context.Context, s *section, h *userHold, req request, id identity) error {
	h.user, h.owner = id.user, id.owner
	if err := s.enter(&h.inside, c); err != nil {
		return err
	}
	if s.covering(c.pool.users, id.user) != nil {
		return nil
	}
	err := c.acquire(ctx, h, req, id)
	if err != nil {
		h.release()
	}
	return err
}

// acquire takes the lock of the user id into h. Before it waits, it lets go what
// would be in the way of others meanwhile:
//
//   - A connection that only prepared a statement is given back. Else all connections
//     could be held by those who wait for a lock.
//   - If it is for a write of an owner that still reads, beside others who read, the
//     owner's rows are spilled. Else two such would wait for each other for ever.
func (c *conn) acquire(ctx context.Context, h *userHold, req request, id identity) error {
	h.user, h.owner, h.Owner, h.Kind = id.user, id.owner, id.lockOwner(), req.kind
	if c.db.trace {
		h.Tag = callSite()
	}
	users, mode, wait := c.pool.users, rwlock.Mode(req.mode), c.wait()
	unused := c.drawn.sc != nil && c.busy == idle && c.scope == nil
	reads := req.mode == Exclusive && id.owner != nil && id.owner.hasRows()
	if unused || reads {
		err := users.acquire(ctx, id.user, mode, h, rwlock.Wait{})
		if !errors.Is(err, rwlock.ErrTimeout) && !errors.Is(err, rwlock.ErrDeadlock) {
			return lockError(err, id)
		}
		if unused {
			c.giveBack()
		}
		if reads {
			if err := c.db.spill(ctx, id.owner, id.user); err != nil {
				return err
			}
		}
	}
	if c.drawn.sc == nil && req.kind == rwlock.Leaf {
		c.slot.With = &h.Hold // which will last until a connection can be drawn
	}
	return lockError(users.acquire(ctx, id.user, mode, h, wait), id)
}

// identify returns the user of an operation on c, or none as far as the handle
// allows that. In a section, or in a transaction that was begun for a user, it need
// not be said again.
func (c *conn) identify(ctx context.Context, s *section) (identity, error) {
	if c.bound != nil {
		return s.id, nil
	}
	id, ok := identityFrom(ctx)
	if ok || s != nil || c.scope != nil && c.scope.tagged {
		return id, id.err
	}
	switch c.db.untagged {
	case ErrorUntagged:
		return identity{}, ErrNoUser
	case WarnUntagged:
		c.db.calls.warnOnce(c.db.logger)
	}
	return identity{}, nil
}

// modeOf returns the mode of a Query: shared only if its text is known to read.
func modeOf(st sqltext.Statement) Mode {
	if st.Kind == sqltext.Read {
		return Shared
	}
	return Exclusive
}

// lockError puts the end of a wait for a user's lock in the terms of a user of
// dblocker.
func lockError(err error, id identity) error {
	if err == nil {
		return nil
	}
	var w *rwlock.WaitError
	if !errors.As(err, &w) {
		return err // the context was done before there was anything to wait for
	}
	what := fmt.Sprintf("the %v lock of user %q", w.Mode, w.Key)
	if w.Key == allUsers {
		what = "the lock of all users"
		if w.Mode == rwlock.Shared {
			what = fmt.Sprintf("the lock of user %q behind the lock of all users", id.user)
		}
	} else {
		id.user = w.Key // of those that were asked for together
	}
	return waitError(w, id, what)
}

// connectError does the same for the wait for a server connection.
func (c *Connector) connectError(err error) error {
	if err == nil {
		return nil
	}
	var w *rwlock.WaitError
	if errors.As(err, &w) {
		return waitError(w, identity{}, fmt.Sprintf("one of the %d server connections that max_open_conns allows", c.limits.maxOpenConns))
	}
	return err
}

func waitError(w *rwlock.WaitError, id identity, what string) error {
	e := &LockError{
		User:   id.user,
		Mode:   Mode(w.Mode),
		Waited: w.Waited,
		Err:    w.Err,
		what:   what,
	}
	switch w.Err {
	case rwlock.ErrClosed:
		return errClosed
	case rwlock.ErrTimeout:
		e.Err = ErrLockTimeout
	case rwlock.ErrDeadlock:
		e.Err = ErrDeadlock
	}
	own := id.owner != nil && w.Blocker.Owner == id.lockOwner()
	e.blocker = describeBlocker(w.Blocker, own, id.user != "")
	if own {
		e.advice = "do this with the Tx or the connection that has it, or end that first; for work that runs in parallel give each part a context of dblocker.Fork"
	}
	return e
}

// describeBlocker says in a few words what was in the way. The mode is of interest
// for a user's lock only.
func describeBlocker(b rwlock.Info, own, withMode bool) string {
	what := b.Kind.String()
	if own {
		what += " of the same owner"
	}
	if b.Tag != "" {
		what = fmt.Sprintf("%s, %s", what, b.Tag)
	}
	verb := "has held it"
	if b.Waiting {
		verb = "came before and has waited"
	}
	if withMode {
		verb += fmt.Sprintf(" (%v)", b.Mode)
	}
	return fmt.Sprintf("%s, which %s for %v", what, verb, b.For.Round(time.Millisecond))
}
