package dblocker

import (
	"context"
	"errors"
	"fmt"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A lockSectionRequest is what a section is to be.
type lockSectionRequest struct {
	Outer    *lockSection // that it is begun inside; nil if in none
	Identity identity     // without an owner it gets one of its own
	Mode     rwlock.Mode
	Users    []string // sorted; nil for the user of the identity
	All      bool     // every user instead
	Tag      string
	Wait     rwlock.Wait
	Host     sectionHost
}

// Begin begins the section s, which is to be the zero value, with a context that was made from ctx.
func (s *lockSection) Begin(ctx context.Context, t *lockTable, req lockSectionRequest) error {
	s.parent, s.table, s.outer, s.id, s.mode, s.users, s.host = ctx, t, req.Outer, req.Identity, req.Mode, req.Users, req.Host
	s.done = make(chan struct{})
	s.after = s.room.after[:0]
	if s.id.owner == nil {
		s.id.owner, s.ofNobody = newOwner(nil), true
	}
	if req.Users == nil && !req.All {
		s.room.users[0] = req.Identity.user
		s.users = s.room.users[:]
	}
	if err := s.lock(req); err != nil {
		return err
	}
	if s.ofNobody {
		s.begins()
	}
	s.watch()
	return nil
}

// An upgradeError is of an exclusive section of a user inside a shared one: two of them would wait
// for each other for ever.
type upgradeError struct{ User string }

func (e *upgradeError) Error() string {
	return fmt.Sprintf("an exclusive section of user %q inside a shared one", e.User)
}

// begins notes which goroutine begins the section. If that asks for another one, no owner
// tells that it is the same request.
func (s *lockSection) begins() {
	t := thisThread(s.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thread = t
}

// watch makes the section end with the context that it was made from, and at once with
// the section that it is inside.
func (s *lockSection) watch() {
	var stops []func() bool
	done := s.parent.Done()
	if s.outer != nil {
		stops = append(stops, s.outer.AfterFunc(func() { s.endBehind(s.outer.Err()) }))
		if done == s.outer.done {
			done = nil
		}
	}
	if done != nil {
		stops = append(stops, context.AfterFunc(s.parent, func() { s.endBehind(s.parent.Err()) }))
	}
	s.mu.Lock()
	ended := s.ended != nil
	s.stops = stops
	s.mu.Unlock()
	if ended {
		for _, stop := range stops {
			stop()
		}
	}
}

// lock enters the outer section, and takes what that one does not have.
func (s *lockSection) lock(req lockSectionRequest) error {
	if s.outer != nil {
		if err := s.outer.Enter(&s.nested, nil); err != nil {
			return err
		}
	}
	s.hold.lock.Owner, s.hold.owner, s.hold.lock.Kind, s.hold.lock.Tag, s.hold.lock.Work = s.id.lockOwner(), s.id.owner, rwlock.Section, req.Tag, s
	locked := false
	defer func() {
		if !locked { // also if the inner driver panics, whose rows made way
			s.releaseHolds()
			s.nested.leave()
		}
	}()
	var err error
	if req.All {
		err = s.lockAll(req.Wait)
	} else {
		err = s.lockUsers(req.Wait)
	}
	locked = err == nil
	return err
}

// lockUsers takes the locks of the section's users that no outer section has.
func (s *lockSection) lockUsers(w rwlock.Wait) error {
	missing, err := s.users, error(nil)
	if s.outer != nil {
		missing, err = s.missing(s.users)
	}
	if err != nil || len(missing) == 0 {
		return err
	}
	acquire := func(w rwlock.Wait) error {
		return s.table.acquire(s.parent, missing[0], s.mode, &s.hold, nil, w)
	}
	if len(missing) > 1 {
		s.more = s.holds(missing)
		acquire = func(w rwlock.Wait) error {
			return s.table.acquireTogether(s.parent, s.mode, w, s.more...)
		}
	}
	s.id.owner.noteWork()
	if s.ofNobody && s.mode == rwlock.Shared {
		if err := acquire(rwlock.Wait{}); !errors.Is(err, rwlock.ErrTimeout) || w.Timeout <= 0 {
			return err
		}
		s.joinOwnReader(missing[0])
	}
	err = acquire(w)
	if s.mode == rwlock.Exclusive && errors.Is(err, rwlock.ErrDeadlock) {
		// As for a statement, the owner's open rows make way if others read too.
		err = s.host.TakeBesideReaders(s.id, missing, err, func() error { return acquire(w) })
	}
	return err
}

// joinOwnReader is for a shared section that has to wait, though perhaps only for its turn behind
// a writer who waits for a shared section that the same goroutine has begun. It reads beside
// that as one of the same owner.
func (s *lockSection) joinOwnReader(user string) {
	caller := currentThread()
	for _, work := range s.table.users.Work(user) {
		if o, ok := work.(*lockSection); ok && o.mode == rwlock.Shared && o.BegunBy().id() == caller {
			s.id.owner = o.id.owner
			s.hold.lock.Owner, s.hold.owner = s.id.lockOwner(), s.id.owner
			return
		}
	}
}

// missing returns those of the users whose lock no outer section has. It is an error if
// one has it and s wants more.
func (s *lockSection) missing(users []string) (missing []string, err error) {
	for _, user := range users {
		switch o := s.outer.covering(s.table, user); {
		case o == nil:
			missing = append(missing, user)
		case s.mode == rwlock.Exclusive && o.mode == rwlock.Shared:
			return nil, &upgradeError{user}
		}
	}
	return missing, nil
}

// holds returns new holds like that of the section, for several users.
func (s *lockSection) holds(users []string) []*userHold {
	holds := make([]*userHold, len(users))
	for i, user := range users {
		holds[i] = &userHold{user: user, owner: s.hold.owner}
		holds[i].lock.Owner, holds[i].lock.Kind, holds[i].lock.Tag, holds[i].lock.Work = s.hold.lock.Owner, s.hold.lock.Kind, s.hold.lock.Tag, s
	}
	return holds
}

// releaseLocks gives up the locks that the section has taken itself.
func (s *lockSection) releaseLocks() {
	all := s.users == nil && s.hold.lock.Held()
	s.releaseHolds()
	s.returnShares()
	if all {
		s.table.users.Unbar()
	}
}

func (s *lockSection) releaseHolds() {
	for _, h := range s.more {
		h.release()
	}
	s.hold.release()
}
