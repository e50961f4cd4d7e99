package dblocker

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/scope"
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

// LockAll is [Lock] against every user of the database, for migrations and backups. It
// waits for all who came before it, and whoever comes later waits for it. ctx need not
// have a user. What others do without a user takes no lock, and is not kept out.
func LockAll(ctx context.Context, db Handle, opts ...SectionOption) (_ context.Context, unlock func(), err error) {
	return beginSection(ctx, db, sectionRequest{mode: Exclusive, all: true}, opts)
}

// Do runs f inside an exclusive section, see [Lock]. It returns f's error, and ends the
// section also if f panics.
func Do(ctx context.Context, db Handle, f func(ctx context.Context) error, opts ...SectionOption) error {
	if f == nil {
		return errNilFunc
	}
	ctx, unlock, err := Lock(ctx, db, opts...)
	if err != nil {
		return err
	}
	defer unlock()
	return f(ctx)
}

// RDo runs f inside a shared section, as [Do] does inside an exclusive one.
func RDo(ctx context.Context, db Handle, f func(ctx context.Context) error, opts ...SectionOption) error {
	if f == nil {
		return errNilFunc
	}
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
type section struct {
	locks locks.Section // its life, and what it has

	outer   *section // that it was begun inside; nil if in none
	db      *handle
	backend *backend.Backend // whose shared parts it retains until it is released
	marks   marks            // of its context
	pin     *pin             // nil if it is not pinned
	tag     string           // that the program has given it
	grant   *scope.Grant     // what it has beyond the process; nil if nothing

	timeout *time.Duration // of its statements; nil for the handle's
	gone    func(*section) // called when it is released; may be nil
}

// hasEnded reports whether the section, which may be nil, has ended.
func (s *section) hasEnded() bool { return s != nil && s.locks.HasEnded() }

// reason returns why the section has ended; nil if it has not.
func (s *section) reason() error { return s.locks.Reason() }

func (s *section) unlock() { s.locks.End(ErrReleased) }

// Deadline implements [context.Context].
func (s *section) Deadline() (time.Time, bool) { return s.locks.Deadline() }

// Done implements [context.Context].
func (s *section) Done() <-chan struct{} { return s.locks.Done() }

// Err implements [context.Context]. The error of a section that was left is
// ErrReleased.
func (s *section) Err() error { return s.locks.Err() }

// Value implements [context.Context].
func (s *section) Value(key any) any {
	switch {
	case key == marksKey:
		return &s.marks
	case key == UserKey && s.locks.Identity().User != "":
		return s.locks.Identity()
	}
	return s.locks.Parent().Value(key)
}

// AfterFunc is for package context, which looks for it to end the contexts that are
// made from this one. f must not block.
func (s *section) AfterFunc(f func()) (stop func() bool) { return s.locks.AfterFunc(f) }

// refuses reports whether a statement of the user may not run inside the section,
// because it writes and the lock is shared. WithMode can only strengthen what is known of
// the statement.
func (s *section) refuses(op *operation, user string, st sqltext.Statement) bool {
	if mode, covered := s.locks.Covers(s.backend.Users, user); !covered || mode == rwlock.Exclusive {
		return false
	}
	return st.Kind == sqltext.Write || op.mode == askedExclusive
}

// A host is a section as a [locks.Host], which programs do not see.
type host section

func (h *host) TakeBesideReaders(owner locks.Identity, users []string, err error, take func() error) error {
	return takeBesideReaders(h.locks.Parent(), h.db, nil, owner, users, err, take)
}

func (h *host) Contain(f func()) { server.Contain(h.db.logger, f) }

func (h *host) Leaving() {
	(*section)(h).leaveReach()
	if h.pin != nil {
		h.pin.close()
	}
}

func (h *host) Gone() {
	(*section)(h).noteLeft()
	if h.gone != nil {
		defer h.gone((*section)(h))
	}
	h.backend.Release()
}

// appendUsers appends the user of an ID, or those of a slice of IDs.
func appendUsers(users []string, id any) ([]string, error) {
	_, isStringer := id.(fmt.Stringer)
	list := reflect.ValueOf(id)
	if isStringer || list.Kind() != reflect.Slice || list.Type().Elem().Kind() == reflect.Uint8 {
		user, err := locks.CanonicalUser(id)
		return append(users, user), err
	}
	for i := range list.Len() {
		user, err := locks.CanonicalUser(list.Index(i).Interface())
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

	among   bool               // its users have each a file, by which their locks reach beyond the process
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
	case id.Err != nil:
		return ctx, nothing, id.Err
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
	errNilFunc    = errors.New("dblocker: the function that is to run in the section is nil")
	errNilOption  = errors.New("dblocker: an option of the section is nil; leave it out")
)

// begin returns a section of the user id. If it is begun through a handle that is
// itself inside one, that is bound.
func (c *Connector) begin(ctx context.Context, id locks.Identity, bound *section, req sectionRequest) (*section, error) {
	if c.tenancy != nil {
		return c.tenancy.begin(ctx, id, bound, req)
	}
	b, err := c.retainBackend()
	if err != nil {
		return nil, err
	}
	return c.beginOn(ctx, b, id, bound, req)
}

// beginOn is begin on the backend, which is retained for it.
func (c *Connector) beginOn(ctx context.Context, b *backend.Backend, id locks.Identity, bound *section, req sectionRequest) (*section, error) {
	s := &section{db: &c.handle, backend: b, tag: req.tag, timeout: req.timeout, gone: req.gone}
	m := marksFrom(ctx)
	if s.outer = m.section; !s.outer.isInside(bound) {
		s.outer = bound
	}
	if locks.IsSuspect(id.User) {
		c.warnOfID(id.User)
	}
	if i := slices.IndexFunc(req.users, locks.IsSuspect); i >= 0 {
		c.warnOfID(req.users[i])
	}
	if id.Owner == nil {
		id.Owner = m.owner
	}
	s.pin = s.pinFor(req.pin)
	s.noteSection(id.User, req)
	var began time.Time
	if s.backend.Scope != nil {
		began = time.Now()
	}
	begun := false
	defer func() {
		if !begun {
			s.noteLeft()
			s.backend.Release()
		}
	}()
	if err := s.locks.Begin(ctx, s.backend.Users, lockRequest(s, id, req)); err != nil {
		return nil, s.lockError(err)
	}
	begun = true
	s.db.tellUpgrade(ctx, s.locks.OwnHold())
	if s.backend.Scope != nil {
		if err := s.reach(ctx, req, time.Since(began)); err != nil {
			s.unlock()
			return nil, err
		}
	} else if s.backend.Reaches() || req.among {
		if err := s.reachAmong(ctx, req); err != nil {
			s.unlock()
			return nil, err
		}
	}
	s.marks = marks{s, s.locks.Identity().Owner, m.mode}
	return s, nil
}

// lockRequest is what the section asks of the lock table.
func lockRequest(s *section, id locks.Identity, req sectionRequest) locks.Request {
	r := locks.Request{Identity: id, Mode: rwlock.Mode(req.mode), Users: req.users, All: req.all, Tag: req.tag, Host: (*host)(s)}
	if s.outer != nil {
		r.Outer = &s.outer.locks
	}
	if s.db.trace {
		r.Tag = taggedWith(req.tag, callers.Site())
	}
	r.Wait, r.Told = s.db.wait(), s.db.told
	r.Wait.Hopeless = locks.Hopeless(false)
	if req.try {
		r.Wait.Timeout = 0
	}
	return r
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

func taggedWith(tag, site string) string {
	if tag == "" {
		return "at " + site
	}
	return tag + " at " + site
}
