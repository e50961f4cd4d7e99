package dblocker

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/locks"
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

// LockAll is [Lock] against every user of the database, for migrations and backups. It
// waits for all who came before it, and whoever comes later waits for it. ctx need not
// have a user. What others do without a user takes no lock, and is not kept out.
func LockAll(ctx context.Context, db Handle, opts ...SectionOption) (_ context.Context, unlock func(), err error) {
	return beginSection(ctx, db, sectionRequest{mode: Exclusive, all: true}, opts)
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
	errNilOption  = errors.New("dblocker: an option of the section is nil; leave it out")
)

// begin returns a section of the user id. If it is begun through a handle that is
// itself inside one, that is bound.
func (c *Connector) begin(ctx context.Context, id locks.Identity, bound *section, req sectionRequest) (*section, error) {
	s := &section{db: &c.handle, timeout: req.timeout, gone: req.gone}
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
	if req.pin {
		s.pin = &pin{section: s, turn: newTurn()}
	}
	var err error
	if s.backend, err = c.retainBackend(); err != nil {
		return nil, err
	}
	begun := false
	defer func() {
		if !begun {
			s.backend.Release()
		}
	}()
	if err := s.locks.Begin(ctx, s.backend.Users, lockRequest(s, id, req)); err != nil {
		return nil, s.lockError(err)
	}
	begun = true
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
	r.Wait = s.db.wait()
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
