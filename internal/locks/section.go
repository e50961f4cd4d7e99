// Package locks says who has which user's lock: owners, what an operation holds, and sections, in which
// operations need no lock of their own. It knows gates, but no SQL and no connection.
package locks

import (
	"context"
	"slices"
	"sync"

	"github.com/calmdocs/dblocker/internal/each"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A Section is a critical section of the program, in which its operations need no lock of their own.
//
//	          ended   members   lock
//	open      nil     any       held; operations enter and leave
//	ended     set     some      held for them; nobody enters any more
//	released  set     none      given up
//
// End, and the end of the context that it was made from, move it from open to ended;
// what was left open inside is closed then, at once on connections that are not
// in the middle of a call, and else when that call returns. Then its context is done.
// The last member to leave an ended section moves it to released.
type Section struct {
	parent context.Context
	outer  *Section // that it was begun inside; nil if in none
	nested Member

	table *Table
	id    Identity // user is "" if its context had none
	mode  rwlock.Mode
	host  Host

	ofNobody bool // its context has no owner, so it has one of its own

	users  []string         // whose lock it was asked for, sorted; nil for all users
	hold   Hold             // of its only user, or of all; idle if an outer section has the lock
	label  rwlock.Label     // of its holds
	more   []*Hold          // of several users
	shares []*borrowedShare // of outer sections, if it has the lock of all users
	moves  CallMark         // of who has entered and left

	done chan struct{} // closed a moment after it has ended

	// mu guards what follows, and the links of the members. Whoever has it does not call package
	// rwlock, which asks what goes on in the section with its own mutexes locked.
	mu       sync.Mutex
	thread   *Thread       // that has begun it, if its context has no owner; else nil
	ended    error         // why it has; else nil
	stops    []func() bool // end the watch over the contexts that end it
	members  *Member
	barriers []*Barrier // that what its lock covers has to wait for
	released bool
	after    []*afterFunc // to be called when it is ended
	room     struct {     // for the usual content of the slices
		users [1]string
		after [2]*afterFunc
	}
}

// A Host is what a section is of. It knows the connections that are used there.
type Host interface {
	// TakeBesideReaders goes on with take, of the locks of the users, which was refused with err
	// since others who read too wait for rows of the section's owner.
	TakeBesideReaders(owner Identity, users []string, err error, take func() error) error

	// Contain runs f where no goroutine of the program waits for it, so that a panic of the inner
	// driver would end the program.
	Contain(f func())

	// Leaving is called when the last member has left an ended section, and Gone when that has given
	// up its locks too.
	Leaving()
	Gone()
}

// unlockAndRelease unlocks mu, and gives up what the section has if it is ended and
// empty.
func (s *Section) unlockAndRelease() {
	last := s.ended != nil && s.members == nil && !s.released
	s.released = s.released || last
	s.mu.Unlock()
	if last {
		s.giveUp()
	}
}

// giveUp does all of it, also if the inner driver panics when the pinned connection goes back.
func (s *Section) giveUp() {
	defer s.host.Gone()
	defer s.nested.Leave()
	defer s.releaseLocks()
	s.host.Leaving()
}

// End ends the section for the given reason. It does nothing the second time. If the inner
// driver panics when what is open is closed, the panic goes on once the section has ended.
//
// Four steps have mu, and none of what lies between them, which calls the program, the driver or
// package context: markEnded, Sweep, markDone and tryRelease.
func (s *Section) End(reason error) {
	stops, marked := s.markEnded(reason)
	if !marked {
		return
	}
	for _, stop := range stops {
		stop()
	}
	defer s.finish()
	s.Sweep() // before database/sql learns of it, which would do so in its own time
}

// markEnded ends the section for whoever wants to enter. It returns what ends the watch over
// the contexts that would end it; marked is false if it has ended before.
func (s *Section) markEnded(reason error) (stops []func() bool, marked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil, false
	}
	s.ended = reason
	return s.stops, true
}

// finish is the end of a section whose members have been told of it.
func (s *Section) finish() {
	after := s.markDone()
	defer s.tryRelease()
	each.Do(after, func(f *afterFunc) { f.call() })
}

// markDone ends the section's context, and returns what is to be called after that.
func (s *Section) markDone() (after []*afterFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.done)
	after, s.after = s.after, nil
	return after
}

// tryRelease gives up what the section has, unless members are still in it, the last of whom will.
func (s *Section) tryRelease() {
	s.mu.Lock()
	s.unlockAndRelease()
}

// endBehind ends the section where no goroutine of the program waits for it.
func (s *Section) endBehind(reason error) {
	s.host.Contain(func() { s.End(reason) })
}

// Sweep ends what was left open inside the section, if that has ended, or inside an ended one
// that is inside it, on the pinned connection.
func (s *Section) Sweep() { s.sweep(true) }

// SweepDue is Sweep where it is due already.
func (s *Section) SweepDue() { s.sweep(false) }

func (s *Section) sweep(ended bool) {
	s.mu.Lock()
	var residents []*Resident
	for m := s.members; m != nil; m = m.next {
		if m.resident != nil && (ended && s.ended != nil || m.resident.Due.Load()) {
			residents = append(residents, m.resident)
		}
	}
	s.mu.Unlock()
	each.Do(residents, func(r *Resident) {
		r.Due.Store(true)
		r.Conn.Sweep()
	})
}

// HasEnded reports whether the section, which may be nil, has ended.
func (s *Section) HasEnded() bool { return s != nil && s.Reason() != nil }

// Reason returns why the section has ended; nil if it has not.
func (s *Section) Reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// Covers tells in which mode a lock of the section, or of those that it is inside, covers in the
// table an operation of the user, or of nobody; if one does.
func (s *Section) Covers(in *Table, user string) (mode rwlock.Mode, covered bool) {
	if cover := s.covering(in, user); cover != nil {
		return cover.mode, true
	}
	return 0, false
}

// covering returns the section, of s and those that it is inside, whose lock in the
// given table covers an operation of the user, or of nobody; nil if there is none.
func (s *Section) covering(in *Table, user string) *Section {
	for ; s != nil; s = s.outer {
		if s.table == in && (user == "" || s.users == nil || slices.Contains(s.users, user)) {
			return s
		}
	}
	return nil
}

// lender returns the outermost of the sections that cover the operation: the one that has
// the lock.
func (s *Section) lender(in *Table, user string) (outermost *Section) {
	for s = s.covering(in, user); s != nil; s = s.outer.covering(in, user) {
		outermost = s
	}
	return outermost
}

// OwnHold returns the hold of the section's only user, or of all.
func (s *Section) OwnHold() *Hold { return &s.hold }

// Identity returns whose the section is. The owner is that of its operations.
func (s *Section) Identity() *Identity { return &s.id }
