package locks

import (
	"context"
	"errors"
	"fmt"

	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/userid"
)

// A Request is what a section is to be.
type Request struct {
	Outer    *Section // that it is begun inside; nil if in none
	Identity Identity // without an owner it gets one of its own
	Mode     rwlock.Mode
	Users    []string // sorted; nil for the user of the identity
	All      bool     // every user instead
	Tag      string
	Wait     rwlock.Wait
	Host     Host
	Told     *rwlock.Told // of its locks; nil if nobody is
}

// Begin begins the section s, which is to be the zero value, with a context that was made from ctx.
func (s *Section) Begin(ctx context.Context, t *Table, req Request) error {
	s.parent, s.table, s.outer, s.id, s.mode, s.users, s.host = ctx, t, req.Outer, req.Identity, req.Mode, req.Users, req.Host
	s.done = make(chan struct{})
	s.after = s.room.after[:0]
	if s.id.Owner == nil {
		s.id.Owner, s.ofNobody = NewOwner(nil), true
	}
	if req.Users == nil && !req.All {
		s.room.users[0] = req.Identity.User
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

// An UpgradeError is of an exclusive section of a user inside a shared one: two of them would wait
// for each other for ever.
type UpgradeError struct{ User string }

// Error implements [error].
func (e *UpgradeError) Error() string {
	return fmt.Sprintf("an exclusive section of user %s inside a shared one", userid.Brief(e.User))
}

// begins notes which goroutine begins the section. If that asks for another one, no owner
// tells that it is the same request.
func (s *Section) begins() {
	t := thisThread(s.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thread = t
}

// watch makes the section end with the context that it was made from, and at once with
// the section that it is inside.
func (s *Section) watch() {
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
func (s *Section) lock(req Request) error {
	if s.outer != nil {
		if err := s.outer.Enter(&s.nested, nil); err != nil {
			return err
		}
	}
	s.hold.Lock.Owner, s.hold.Owner, s.hold.Lock.Kind, s.hold.Lock.Work = s.id.LockOwner(), s.id.Owner, rwlock.Section, s
	s.hold.Lock.Label = s.describe(req)
	locked := false
	defer func() {
		if !locked { // also if the inner driver panics, whose rows made way
			s.releaseHolds()
			s.nested.Leave()
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

// describe returns the label of its holds; nil if there is nothing to say.
func (s *Section) describe(req Request) *rwlock.Label {
	if req.Tag == "" && req.Told == nil {
		return nil
	}
	s.label.Tag, s.label.Told = req.Tag, req.Told
	if req.Told != nil {
		s.label.Ctx = s.parent
	}
	return &s.label
}

// lockUsers takes the locks of the section's users that no outer section has.
func (s *Section) lockUsers(w rwlock.Wait) (err error) {
	missing := s.users
	if s.outer != nil {
		missing, err = s.missing(s.users)
	}
	if err != nil || len(missing) == 0 {
		return err
	}
	if len(missing) > 1 {
		s.more = s.holds(missing)
	}
	s.id.Owner.NoteWork()
	if s.ofNobody && s.mode == rwlock.Shared {
		if err := s.take(missing, rwlock.Wait{}); !errors.Is(err, rwlock.ErrTimeout) || w.Timeout <= 0 {
			return err
		}
		s.joinOwnReader(missing[0])
	}
	if s.mode == rwlock.Exclusive && s.id.Owner.HasRows() {
		w.Whole = new(rwlock.WholeWait)
		defer func() { w.Whole.End(err) }()
	}
	err = s.take(missing, w)
	if s.mode == rwlock.Exclusive && errors.Is(err, rwlock.ErrDeadlock) {
		// As for a statement, the owner's open rows make way if others read too.
		err = s.host.TakeBesideReaders(s.id, missing, err, func() error { return s.take(missing, w) })
	}
	return err
}

// take acquires the locks of the users: into hold, or into more if they are several.
func (s *Section) take(users []string, w rwlock.Wait) error {
	if len(users) > 1 {
		return s.table.acquireTogether(s.parent, s.mode, w, s.more...)
	}
	return s.table.Acquire(s.parent, users[0], s.mode, &s.hold, nil, w)
}

// joinOwnReader is for a shared section that has to wait, though perhaps only for its turn behind
// a writer who waits for a shared section that the same goroutine has begun. It reads beside
// that as one of the same owner.
func (s *Section) joinOwnReader(user string) {
	caller := currentThread()
	for _, work := range s.table.users.Work(user) {
		if o, ok := work.(*Section); ok && o.mode == rwlock.Shared && o.BegunBy().id() == caller {
			s.id.Owner = o.id.Owner
			s.hold.Lock.Owner, s.hold.Owner = s.id.LockOwner(), s.id.Owner
			return
		}
	}
}

// missing returns those of the users whose lock no outer section has. It is an error if
// one has it and s wants more.
func (s *Section) missing(users []string) (missing []string, err error) {
	for _, user := range users {
		switch o := s.outer.covering(s.table, user); {
		case o == nil:
			missing = append(missing, user)
		case s.mode == rwlock.Exclusive && o.mode == rwlock.Shared:
			return nil, &UpgradeError{user}
		}
	}
	return missing, nil
}

// holds returns new holds like that of the section, for several users.
func (s *Section) holds(users []string) []*Hold {
	holds := make([]*Hold, len(users))
	for i, user := range users {
		holds[i] = &Hold{User: user, Owner: s.hold.Owner}
		holds[i].Lock.Owner, holds[i].Lock.Kind, holds[i].Lock.Label, holds[i].Lock.Work = s.hold.Lock.Owner, s.hold.Lock.Kind, s.hold.Lock.Label, s
	}
	return holds
}

// releaseLocks gives up the locks that the section has taken itself.
func (s *Section) releaseLocks() {
	all := s.users == nil && s.hold.Lock.Held()
	s.releaseHolds()
	s.returnShares()
	if all {
		s.table.users.Unbar()
	}
}

func (s *Section) releaseHolds() {
	for _, h := range s.more {
		h.Release()
	}
	s.hold.Release()
}

// Taken returns whose locks the section has taken itself, and whether that is all users'. It does not change.
func (s *Section) Taken() (users []string, all bool) {
	if s.users == nil {
		return nil, s.hold.Lock.Held()
	}
	for _, user := range s.users {
		if s.outer.covering(s.table, user) == nil {
			users = append(users, user)
		}
	}
	return users, false
}
