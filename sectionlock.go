package dblocker

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// LockUsers is [Lock] for several users at once, whose IDs are as for [WithUser]. The
// locks are granted together, so that two calls never wait for each other in a circle,
// in whatever order they name their users. The user of ctx need not be among them, and
// takes a lock of its own then; a context without user works for all of them.
//
// A slice of IDs stands for all of them, and a [SectionOption] may stand among the IDs:
//
//	ctx, unlock, err := dblocker.LockUsers(ctx, db, from, to, dblocker.Tag("move files"))
//	ctx, unlock, err := dblocker.LockUsers(ctx, db, ids, dblocker.Tag("merge"))
func LockUsers(ctx context.Context, db Handle, ids ...any) (_ context.Context, unlock func(), err error) {
	var opts []SectionOption
	users := make([]string, 0, len(ids))
	for _, id := range ids {
		if opt, ok := id.(SectionOption); ok {
			opts = append(opts, opt)
			continue
		}
		if users, err = appendUsers(users, id); err != nil {
			return ctx, func() {}, err
		}
	}
	if len(users) == 0 {
		return ctx, func() {}, errNobodyNamed
	}
	slices.Sort(users)
	return beginSection(ctx, db, sectionRequest{mode: Exclusive, users: slices.Compact(users)}, opts)
}

// appendUsers appends the user of an ID, or those of a slice of IDs.
func appendUsers(users []string, id any) ([]string, error) {
	_, isStringer := id.(fmt.Stringer)
	list := reflect.ValueOf(id)
	if isStringer || list.Kind() != reflect.Slice || list.Type().Elem().Kind() == reflect.Uint8 {
		user, err := canonicalUser(id)
		return append(users, user), err
	}
	for i := range list.Len() {
		user, err := canonicalUser(list.Index(i).Interface())
		if err != nil {
			return nil, err
		}
		users = append(users, user)
	}
	return users, nil
}

var errNobodyNamed = errors.New("dblocker: LockUsers: no user is named; give one ID at least, or take LockAll for all users")

// A sectionRequest is what a section is to be.
type sectionRequest struct {
	mode  Mode
	try   bool     // fail at once instead of waiting
	users []string // sorted; nil for the user of the context
	all   bool     // every user instead
	tag   string
	pin   bool

	timeout *time.Duration     // of its statements; nil for the handle's
	gone    func(sec *section) // called when it is released; may be nil
}

func (r sectionRequest) with(opts []SectionOption) (sectionRequest, error) {
	for _, opt := range opts {
		if opt == nil {
			return r, errNilOption
		}
		opt(&r)
	}
	return r, nil
}

// beginSection is what the functions that begin a section come to.
func beginSection(ctx context.Context, db Handle, req sectionRequest, opts []SectionOption) (context.Context, func(), error) {
	nothing := func() {}
	if ctx == nil {
		return context.Background(), nothing, errNilContext
	}
	if len(opts) > 0 { // since req is on the heap then
		var err error
		if req, err = req.with(opts); err != nil {
			return ctx, nothing, err
		}
	}
	c, bound, err := connectorOf(ctx, db)
	if err != nil {
		return ctx, nothing, err
	}
	id, tagged := identityFrom(ctx)
	switch {
	case id.err != nil:
		return ctx, nothing, id.err
	case !tagged && req.users == nil && !req.all:
		return ctx, nothing, errSectionOfNobody
	}
	s, err := c.begin(ctx, id, bound, req)
	if err != nil {
		return ctx, nothing, err
	}
	return s, s.unlock, nil
}

var (
	errNilContext = errors.New("dblocker: the context is nil; pass the request's, or context.Background()")
	errNilOption  = errors.New("dblocker: an option of the section is nil; leave it out")
)

// begin returns a section of the user id. If it is begun through a handle that is
// itself inside one, that is bound.
func (c *Connector) begin(ctx context.Context, id identity, bound *section, req sectionRequest) (*section, error) {
	s := &section{parent: ctx, db: c, id: id, mode: req.mode, users: req.users, timeout: req.timeout, gone: req.gone, done: make(chan struct{})}
	s.after = s.room.after[:0]
	m := marksFrom(ctx)
	if s.outer = m.section; !s.outer.isInside(bound) {
		s.outer = bound
	}
	if s.id.owner == nil {
		s.id.owner, s.ofNobody = m.ownerOrNew()
	}
	s.marks = marks{s, s.id.owner, m.mode}
	if isSuspect(id.user) {
		c.warnOfID(id.user)
	}
	if i := slices.IndexFunc(req.users, isSuspect); i >= 0 {
		c.warnOfID(req.users[i])
	}
	if req.users == nil && !req.all {
		s.room.users[0] = id.user
		s.users = s.room.users[:]
	}
	var err error
	if s.pool, err = c.open(); err != nil {
		return nil, err
	}
	locked := false
	defer func() {
		if !locked {
			s.pool.release()
		}
	}()
	if err := s.lock(req); err != nil {
		return nil, err
	}
	locked = true
	if s.ofNobody {
		s.begins()
	}
	if req.pin {
		s.pin = &pin{section: s, turn: newTurn()}
	}
	s.watch()
	return s, nil
}

// isInside reports whether s is the section bound or was begun inside it. Every section,
// and none, is inside none.
func (s *section) isInside(bound *section) bool {
	for ; s != bound; s = s.outer {
		if s == nil {
			return false
		}
	}
	return true
}

// ownerOrNew returns the owner, or else a new one.
func (m marks) ownerOrNew() (o *owner, isNew bool) {
	if m.owner != nil {
		return m.owner, false
	}
	return newOwner(nil), true
}

// begins notes which goroutine begins the section. If that asks for another one, no owner
// tells that it is the same request.
func (s *section) begins() {
	t := thisThread(s.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thread = t
}

// watch makes the section end with the context that it was made from, and at once with
// the section that it is inside.
func (s *section) watch() {
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
func (s *section) lock(req sectionRequest) error {
	if s.outer != nil {
		if err := s.outer.enter(&s.nested, nil); err != nil {
			return err
		}
	}
	s.hold.lock.Owner, s.hold.owner, s.hold.lock.Kind, s.hold.lock.Tag, s.hold.lock.Work = s.id.lockOwner(), s.id.owner, rwlock.Section, req.tag, s
	if s.db.trace {
		s.hold.lock.Tag = taggedWith(req.tag, callSite())
	}
	locked := false
	defer func() {
		if !locked { // also if the inner driver panics, whose rows made way
			s.releaseHolds()
			s.nested.leave()
		}
	}()
	var err error
	if req.all {
		err = s.lockAll(s.wait(req))
	} else {
		err = s.lockUsers(s.wait(req))
	}
	locked = err == nil
	return err
}

func taggedWith(tag, site string) string {
	if tag == "" {
		return "at " + site
	}
	return tag + " at " + site
}

func (s *section) wait(req sectionRequest) rwlock.Wait {
	w := s.db.wait()
	w.Hopeless = hopeless(false)
	if req.try {
		w.Timeout = 0
	}
	return w
}

// lockUsers takes the locks of the section's users that no outer section has.
func (s *section) lockUsers(w rwlock.Wait) error {
	missing, err := s.users, error(nil)
	if s.outer != nil {
		missing, err = s.missing(s.users)
	}
	if err != nil || len(missing) == 0 {
		return err
	}
	acquire := func(w rwlock.Wait) error {
		return s.pool.users.acquire(s.parent, missing[0], rwlock.Mode(s.mode), &s.hold, nil, w)
	}
	if len(missing) > 1 {
		s.more = s.holds(missing)
		acquire = func(w rwlock.Wait) error {
			return s.pool.users.acquireTogether(s.parent, rwlock.Mode(s.mode), w, s.more...)
		}
	}
	s.id.owner.noteWork()
	if s.ofNobody && s.mode == Shared {
		if err := acquire(rwlock.Wait{}); !errors.Is(err, rwlock.ErrTimeout) || w.Timeout <= 0 {
			return s.lockError(err)
		}
		s.joinOwnReader(missing[0])
	}
	err = acquire(w)
	if s.mode == Exclusive && errors.Is(err, rwlock.ErrDeadlock) {
		// As for a statement, the owner's open rows make way if others read too.
		err = s.db.takeBesideReaders(s.parent, nil, s.id, missing, err, func() error { return acquire(w) })
	}
	return s.lockError(err)
}

// joinOwnReader is for a shared section that has to wait, though perhaps only for its turn behind
// a writer who waits for a shared section that the same goroutine has begun. It reads beside
// that as one of the same owner.
func (s *section) joinOwnReader(user string) {
	caller := currentThread()
	for _, work := range s.pool.users.users.Work(user) {
		if o, ok := work.(*section); ok && o.mode == Shared && o.BegunBy().id() == caller {
			s.id.owner = o.id.owner
			s.hold.lock.Owner, s.hold.owner = s.id.lockOwner(), s.id.owner
			return
		}
	}
}

// lockError says besides of a wait in vain when it was for a section with the same context.
func (s *section) lockError(err error) error {
	var w *rwlock.WaitError
	if !errors.As(err, &w) {
		return err
	}
	err = lockError(err, s.id)
	by, ok := w.Blocker.Work.(*section)
	if e, is := err.(*LockError); is && ok && e.Err == ErrLockTimeout && by.hasContext(s.parent) {
		e.advice = "it was begun with the same context: if it is the caller's own, pass its handle or its context on instead of asking for another, or tag the request's context once with dblocker.WithUser"
	}
	return err
}

// hasContext reports whether the section was begun with ctx, and nobody else has that.
func (s *section) hasContext(ctx context.Context) bool {
	return ctx.Done() != nil && reflect.ValueOf(ctx).Comparable() && s.parent == ctx
}

// missing returns those of the users whose lock no outer section has. It is an error if
// one has it and s wants more.
func (s *section) missing(users []string) (missing []string, err error) {
	for _, user := range users {
		switch o := s.outer.covering(s.pool.users, user); {
		case o == nil:
			missing = append(missing, user)
		case s.mode == Exclusive && o.mode == Shared:
			return nil, nestedExclusive(user)
		}
	}
	return missing, nil
}

// holds returns new holds like that of the section, for several users.
func (s *section) holds(users []string) []*userHold {
	holds := make([]*userHold, len(users))
	for i, user := range users {
		holds[i] = &userHold{user: user, owner: s.hold.owner}
		holds[i].lock.Owner, holds[i].lock.Kind, holds[i].lock.Tag, holds[i].lock.Work = s.hold.lock.Owner, s.hold.lock.Kind, s.hold.lock.Tag, s
	}
	return holds
}

// releaseLocks gives up the locks that the section has taken itself.
func (s *section) releaseLocks() {
	all := s.users == nil && s.hold.lock.Held()
	s.releaseHolds()
	s.returnShares()
	if all {
		s.pool.users.users.Unbar()
	}
}

func (s *section) releaseHolds() {
	for _, h := range s.more {
		h.release()
	}
	s.hold.release()
}
