package dblocker

import (
	"context"
	"errors"
	"fmt"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/seen"
)

// UserKey is the context key of the user ID, for programs that would rather not
// import dblocker where they tag their contexts:
//
//	ctx = context.WithValue(ctx, dblocker.UserKey, id)
//
// Such a context has the owner of the context that it was made from, if that one
// has any; [WithUser] gives it an owner of its own.
var UserKey any = &contextKey{"user"}

// marksKey is the context key of marks.
var marksKey any = &contextKey{"marks"}

type contextKey struct{ name string }

func (k *contextKey) String() string { return "dblocker context value " + k.name }

// WithUser returns a context whose database work belongs to the user id: it is
// done behind that user's lock. It also marks the owner, the one request or
// thread of control that the work belongs to, so call it once per request, and
// [Fork] for what the request does in parallel to itself.
//
// An inner layer of a request may tag its context again, for the same user or for another: that
// is still the request, which does not wait for what the outer context has, nor the other
// way round. Two contexts that are tagged from the same one are two requests, since that may be
// the context of the whole program. Inside a section the owner stays that of the
// section, which is what the work waits for, unless [Fork] has made another since.
//
// An id is a string, an integer, a [16]byte (taken as a UUID) or a
// [fmt.Stringer], which is looked at first. All are reduced to one string: 27,
// int64(27) and "27" are the same user. An id that is empty, nil or of another
// type is reported by the first operation that uses the context. One that programs often
// have for a user who is not logged in, such as 0 or a UUID of zeros, is used and logged.
func WithUser(ctx context.Context, id any) context.Context {
	tagged, m := locks.NewIdentity(id), marksFrom(ctx)
	if s := m.section; s != nil && s.locks.Identity().Owner == m.owner {
		tagged.Owner = m.owner
	} else {
		tagged.Owner = locks.NewOwner(m.owner)
	}
	return withIdentity(ctx, m, tagged)
}

// User returns the ID of the user whom the work of ctx belongs to, as a string. It is not ok if that is nobody, or if the ID cannot be used.
func User(ctx context.Context) (id string, ok bool) {
	who, tagged := identityFrom(ctx)
	return who.User, tagged && who.Err == nil
}

// WithoutUser returns a context whose database work belongs to no user, and is meant to: it
// takes no user's lock, and the option untagged has nothing to say of it. It is for
// migrations and start-up code in a program that otherwise refuses or logs what has no
// user. In a section or a transaction of a user it is work of that user, as any other there.
func WithoutUser(ctx context.Context) context.Context {
	m := marksFrom(ctx)
	return withIdentity(ctx, m, locks.Identity{Nobody: true, Owner: m.owner})
}

// Fork returns a context for work that a request does in parallel to its other
// work: the same user, but an owner of its own and inside of none, so that the two wait
// for each other as two requests would. A context without a user is returned as it is.
func Fork(ctx context.Context) context.Context {
	m := marksFrom(ctx)
	id, ok := m.identity(ctx)
	if !ok {
		return ctx
	}
	id.Owner = locks.NewOwner(nil)
	return withIdentity(ctx, m, id)
}

// A Mode is the strength of a user's lock.
type Mode uint8

const (
	Shared    Mode = iota // many readers at a time
	Exclusive             // one writer alone
)

// The two are those of the lock table, which this does not compile without.
var (
	_ = [1]struct{}{}[Shared-Mode(rwlock.Shared)]
	_ = [1]struct{}{}[Exclusive-Mode(rwlock.Exclusive)]
)

// String returns "shared" or "exclusive".
func (m Mode) String() string { return rwlock.Mode(m).String() }

// WithMode returns a context whose operations take the user's lock in mode,
// whatever their SQL says. It is for statements that cannot be judged by their
// text, above all a SELECT that calls a user-defined function which writes. A statement
// that concerns only its session, such as SET, takes a lock with Exclusive only.
func WithMode(ctx context.Context, mode Mode) context.Context {
	m := marksFrom(ctx)
	m.mode = askedModeOf(mode)
	return &markedContext{Context: ctx, marks: m}
}

// withCopying is for the statement by which Backup copies a database.
func withCopying(ctx context.Context) context.Context {
	m := marksFrom(ctx)
	m.mode = askedCopy
	return &markedContext{Context: ctx, marks: m}
}

// An askedMode is what WithMode asks for.
type askedMode uint8

const (
	askedNone askedMode = iota
	askedShared
	askedExclusive
	askedUnknown
	askedCopy // by Backup, of a statement that only reads the database, whatever its text says
)

func askedModeOf(mode Mode) askedMode {
	switch mode {
	case Shared:
		return askedShared
	case Exclusive:
		return askedExclusive
	}
	return askedUnknown
}

// or returns the mode that was asked for, or else the given one.
func (a askedMode) or(mode Mode) (Mode, error) {
	switch a {
	case askedNone, askedCopy:
		return mode, nil
	case askedShared:
		return Shared, nil
	case askedExclusive:
		return Exclusive, nil
	}
	return mode, errUnknownMode
}

var errUnknownMode = errors.New("dblocker: WithMode was given an unknown mode; use dblocker.Shared or dblocker.Exclusive")

// marks are what the functions of this package have put into a context. Each context that they
// make has those of its parent too, so that one walk up the chain finds all of them. The user
// is not among them: the program may put that into a context itself.
type marks struct {
	section *section     // the innermost; nil if there is none
	owner   *locks.Owner // nil if there is none
	mode    askedMode
}

func marksFrom(ctx context.Context) marks {
	if m, ok := ctx.Value(marksKey).(*marks); ok {
		return *m
	}
	return marks{}
}

// A markedContext is a context with marks, and perhaps a user.
type markedContext struct {
	context.Context
	marks   marks
	hasUser bool // id is the user; else the user is the parent's
	id      locks.Identity
}

// withIdentity returns a context with the user id, and the marks m but for the owner.
func withIdentity(ctx context.Context, m marks, id locks.Identity) context.Context {
	m.owner = id.Owner
	return &markedContext{ctx, m, true, id}
}

// Value implements [context.Context].
func (c *markedContext) Value(key any) any {
	switch {
	case key == marksKey:
		return &c.marks
	case c.hasUser && key == UserKey:
		return &c.id
	}
	return c.Context.Value(key)
}

// String is for who prints contexts: as with those of package context, no value is shown.
func (c *markedContext) String() string {
	parent, key := fmt.Sprintf("%T", c.Context), marksKey
	if s, ok := c.Context.(fmt.Stringer); ok {
		parent = s.String()
	}
	if c.hasUser {
		key = UserKey
	}
	return fmt.Sprintf("%s.WithValue(%v)", parent, key)
}

// identityFrom returns the user that ctx is tagged with, if any.
func identityFrom(ctx context.Context) (locks.Identity, bool) { return marksFrom(ctx).identity(ctx) }

// identity is identityFrom for a context whose marks are m.
func (m marks) identity(ctx context.Context) (locks.Identity, bool) {
	switch v := ctx.Value(UserKey).(type) {
	case nil:
		return locks.Identity{}, false
	case *locks.Identity:
		return *v, !v.Nobody
	default:
		id := locks.NewIdentity(v)
		id.Owner = m.owner
		return id, true
	}
}

// warnUntagged logs the place in the program that runs an operation without a user,
// the first time it does.
func (c *handle) warnUntagged() {
	if site := callers.Site(); c.calls.IsNew(site) {
		c.logger.Warn("dblocker: a database operation without a user; tag its context with dblocker.WithUser, or with dblocker.WithoutUser if it belongs to none", "at", site)
	}
}

// suspectIDs are the IDs that each logger was told of. It is of the process, since some programs open
// a handle for each request.
var suspectIDs seen.Set

// warnOfID logs, once for each, an ID that programs have by mistake.
func (c *handle) warnOfID(user string) {
	if suspectIDs.IsNew(fmt.Sprintf("%p %s", c.logger, user)) {
		c.logger.Warn("dblocker: the user ID is one that programs often have for a user who is not logged in; all of these share one lock. "+
			"Give each user an ID of its own, or use dblocker.WithoutUser", "user", user, "at", callers.Site())
	}
}
