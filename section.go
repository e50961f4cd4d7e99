package dblocker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// Lock begins a section: several statements and other Go code under the exclusive
// lock of the user of ctx. Everything that is done with the returned context, and
// with contexts made from it, is inside the section; it takes no lock of its own
// unless it is another user's.
//
//	ctx, unlock, err := dblocker.Lock(ctx, db)
//	if err != nil {
//		return err
//	}
//	defer unlock()
//
// It waits for the lock as long as ctx and lock_timeout allow, and fails with a
// [*LockError]. A context without user gets [ErrNoUser].
//
// The section ends with unlock, or with ctx. Nothing survives it: its rows are
// closed, its transactions rolled back, its context is done. unlock does not wait for a
// call that is still running; the lock passes on when that has returned. From then
// on the section's context answers [ErrReleased]. unlock is never nil, also beside an
// error, and does nothing the second time. Close of db does not end a section, as it does
// not end a transaction: the program's own code may still be at work in it.
//
// A section is no transaction: what it has written stays. And it is no session: its
// statements may run on different connections, but see [Pin].
//
// A section of the same user inside a section costs no second lock. Only an exclusive one
// inside a shared one is refused, with [ErrReadOnly]: two of them would wait for each
// other for ever.
func Lock(ctx context.Context, db Handle, opts ...SectionOption) (_ context.Context, unlock func(), err error) {
	return beginSection(ctx, db, sectionRequest{mode: Exclusive}, opts)
}

// RLock is [Lock] with the shared lock. A statement that writes, or is not known to
// only read, is refused with [ErrReadOnly]; a transaction that is begun inside can only
// read.
func RLock(ctx context.Context, db Handle, opts ...SectionOption) (_ context.Context, unlock func(), err error) {
	return beginSection(ctx, db, sectionRequest{mode: Shared}, opts)
}

// TryLock is [Lock] without waiting: if the lock is not free, it fails at once with a
// [*LockError], which is [ErrLockTimeout].
func TryLock(ctx context.Context, db Handle, opts ...SectionOption) (_ context.Context, unlock func(), err error) {
	return beginSection(ctx, db, sectionRequest{mode: Exclusive, try: true}, opts)
}

// TryRLock is [RLock] without waiting, like [TryLock].
func TryRLock(ctx context.Context, db Handle, opts ...SectionOption) (_ context.Context, unlock func(), err error) {
	return beginSection(ctx, db, sectionRequest{mode: Shared, try: true}, opts)
}

// Do runs f inside an exclusive section, see [Lock]. It returns f's error, and ends the
// section also if f panics.
func Do(ctx context.Context, db Handle, f func(ctx context.Context) error, opts ...SectionOption) error {
	ctx, unlock, err := Lock(ctx, db, opts...)
	if err != nil {
		return err
	}
	defer unlock()
	return f(ctx)
}

// RDo runs f inside a shared section, as [Do] does inside an exclusive one.
func RDo(ctx context.Context, db Handle, f func(ctx context.Context) error, opts ...SectionOption) error {
	ctx, unlock, err := RLock(ctx, db, opts...)
	if err != nil {
		return err
	}
	defer unlock()
	return f(ctx)
}

// A SectionOption sets something about one section.
type SectionOption func(*sectionRequest)

// Tag names a section in errors and logs, for those who find it in their way.
func Tag(tag string) SectionOption { return func(r *sectionRequest) { r.tag = tag } }

// Pin gives a section one server connection, on which all its statements run, as on
// a [sql.Conn]: what a statement sets up there, such as a temporary table or a SET,
// the others see. The connection is taken by the first statement and goes back to the
// pool with the section.
//
// As on a sql.Conn, its statements run one at a time, a transaction is for all of
// them, not every driver can do something else while rows are open, and what was set
// up is still there when the connection is used again.
func Pin() SectionOption { return func(r *sectionRequest) { r.pin = true } }

// A section is a critical section of the program. It is the context that the program
// works with inside it.
//
//	          ended   members   lock
//	open      nil     any       held; operations enter and leave
//	ended     set     some      held for them; nobody enters any more
//	released  set     none      given up
//
// unlock, and the end of the context that it was made from, move it from open to
// ended; what was left open inside is closed then, at once on connections that are not
// in the middle of a call, and else when that call returns. Then its context is done.
// The last member to leave an ended section moves it to released.
type section struct {
	parent context.Context
	outer  *section // that it was begun inside; nil if in none
	nested membership

	db   *Connector
	pool *pool    // whose shared parts it retains until it is released
	id   identity // user is "" if its context had none
	mode Mode

	marks marks // of its context

	ofNobody bool // its context has no owner, so it has one of its own

	users  []string         // whose lock it was asked for, sorted; nil for all users
	hold   userHold         // of its only user, or of all; idle if an outer section has the lock
	more   []*userHold      // of several users
	shares []*borrowedShare // of outer sections, if it has the lock of all users
	pin    *pin             // nil if it is not pinned
	moves  callMark         // of who has entered and left

	timeout *time.Duration // of its statements; nil for the handle's

	gone func(*section) // called when it is released; may be nil
	done chan struct{}  // closed a moment after it has ended

	// mu guards what follows, and the links of the members. Whoever has it does not call package
	// rwlock, which asks what goes on in the section with its own mutexes locked.
	mu       sync.Mutex
	thread   *thread       // that has begun it, if its context has no owner; else nil
	ended    error         // why it has; else nil
	stops    []func() bool // end the watch over the contexts that end it
	members  *membership
	lost     []lostCall // that what its lock covers has to wait for
	released bool
	after    []*afterFunc // to be called when it is ended
	room     struct {     // for the usual content of the slices
		users [1]string
		after [2]*afterFunc
	}
}

// A membership is the place of one operation in a section, whose lock it keeps until
// it leaves. It is in the list of section, or in none and section is nil.
type membership struct {
	section    *section
	resident   *resident // that the operation is on; nil if on none
	prev, next *membership
}

// enter makes m a member, on behalf of an operation on r, which may be nil.
func (s *section) enter(m *membership, r *resident) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return s.ended
	}
	s.add(m, r)
	return nil
}

func (s *section) add(m *membership, r *resident) {
	s.moves.move()
	m.section, m.resident, m.prev, m.next = s, r, nil, s.members
	if s.members != nil {
		s.members.prev = m
	}
	s.members = m
}

func (s *section) remove(m *membership) {
	s.moves.move()
	if m.prev == nil {
		s.members = m.next
	} else {
		m.prev.next = m.next
	}
	if m.next != nil {
		m.next.prev = m.prev
	}
	*m = membership{}
}

// leave does nothing the second time.
func (m *membership) leave() {
	s := m.section
	if s == nil {
		return
	}
	s.mu.Lock()
	s.remove(m)
	s.unlockAndRelease()
}

// move passes the membership on to an operation on r, or on no connection.
func (m *membership) move(to *membership, r *resident) {
	s := m.section
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(m)
	s.add(to, r)
}

// unlockAndRelease unlocks mu, and gives up what the section has if it is ended and
// empty.
func (s *section) unlockAndRelease() {
	last := s.ended != nil && s.members == nil && !s.released
	s.released = s.released || last
	s.mu.Unlock()
	if last {
		s.giveUp()
	}
}

// giveUp does all of it, also if the inner driver panics when the pinned connection goes back.
func (s *section) giveUp() {
	if s.gone != nil {
		defer s.gone(s)
	}
	defer s.pool.release()
	defer s.nested.leave()
	defer s.releaseLocks()
	if s.pin != nil {
		s.pin.close()
	}
}

// end ends the section for the given reason. It does nothing the second time. If the inner
// driver panics when what is open is closed, the panic goes on once the section has ended.
//
// Four steps have mu, and none of what lies between them, which calls the program, the driver or
// package context: markEnded, sweep, markDone and tryRelease.
func (s *section) end(reason error) {
	stops, marked := s.markEnded(reason)
	if !marked {
		return
	}
	for _, stop := range stops {
		stop()
	}
	defer s.finish()
	s.sweep() // before database/sql learns of it, which would do so in its own time
}

// markEnded ends the section for whoever wants to enter. It returns what ends the watch over
// the contexts that would end it; marked is false if it has ended before.
func (s *section) markEnded(reason error) (stops []func() bool, marked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil, false
	}
	s.ended = reason
	return s.stops, true
}

// finish is the end of a section whose members have been told of it.
func (s *section) finish() {
	after := s.markDone()
	defer s.tryRelease()
	server.Each(after, func(f *afterFunc) { f.call() })
}

// markDone ends the section's context, and returns what is to be called after that.
func (s *section) markDone() (after []*afterFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.done)
	after, s.after = s.after, nil
	return after
}

// tryRelease gives up what the section has, unless members are still in it, the last of whom will.
func (s *section) tryRelease() {
	s.mu.Lock()
	s.unlockAndRelease()
}

func (s *section) unlock() { s.end(ErrReleased) }

// endBehind ends the section where no goroutine of the program waits for it, so that a panic of
// the inner driver would end the program.
func (s *section) endBehind(reason error) {
	s.db.contain(func() { s.end(reason) })
}

// sweep ends what was left open inside the section, if that has ended, or inside an ended one
// that is inside it, on the pinned connection.
func (s *section) sweep() {
	s.mu.Lock()
	var residents []*resident
	for m := s.members; m != nil; m = m.next {
		if m.resident != nil && (s.ended != nil || m.resident.due.Load()) {
			residents = append(residents, m.resident)
		}
	}
	s.mu.Unlock()
	server.Each(residents, func(r *resident) {
		r.due.Store(true)
		r.conn.Sweep()
	})
}

// hasEnded reports whether the section, which may be nil, has ended.
func (s *section) hasEnded() bool { return s != nil && s.reason() != nil }

// reason returns why the section has ended; nil if it has not.
func (s *section) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// covering returns the section, of s and those that it is inside, whose lock in the
// given table covers an operation of the user, or of nobody; nil if there is none.
func (s *section) covering(in *lockTable, user string) *section {
	for ; s != nil; s = s.outer {
		if s.pool.users == in && (user == "" || s.users == nil || slices.Contains(s.users, user)) {
			return s
		}
	}
	return nil
}

// lender returns the outermost of the sections that cover the operation: the one that has
// the lock.
func (s *section) lender(in *lockTable, user string) (outermost *section) {
	for s = s.covering(in, user); s != nil; s = s.outer.covering(in, user) {
		outermost = s
	}
	return outermost
}

// refuses reports whether a statement of the user may not run inside the section,
// because it writes and the lock is shared. WithMode can only strengthen what is known of
// the statement.
func (s *section) refuses(op *operation, user string, st sqltext.Statement) bool {
	cover := s.covering(s.pool.users, user)
	if cover == nil || cover.mode == Exclusive {
		return false
	}
	return st.Kind == sqltext.Write || op.mode == askedExclusive
}
