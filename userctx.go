package dblocker

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// UserKey is the context key of the user ID, for programs that would rather not
// import dblocker where they tag their contexts:
//
//	ctx = context.WithValue(ctx, dblocker.UserKey, id)
//
// Such a context has the owner of the context that it was made from, if that one
// has any; [WithUser] gives it an owner of its own.
var UserKey any = &contextKey{"user"}

// ownerKey is the context key of the owner.
var ownerKey any = &contextKey{"owner"}

// modeKey is the context key of the Mode that WithMode sets.
var modeKey any = &contextKey{"mode"}

type contextKey struct{ name string }

func (k *contextKey) String() string { return "dblocker context value " + k.name }

// identity is what WithUser stores under UserKey.
type identity struct {
	user  string
	owner *owner // nil if the context was tagged with UserKey only
	err   error  // a bad ID; reported by the first use

	nobody  bool // by WithoutUser; then there is no user
	suspect bool // an ID that programs have by mistake; logged by the first use
}

// lockOwner returns the owner for the lock table.
func (id identity) lockOwner() *rwlock.Owner { return id.owner.lock() }

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
	tagged := newIdentity(id)
	outer, _ := ctx.Value(ownerKey).(*owner)
	if s := sectionFrom(ctx); s != nil && s.id.owner == outer {
		tagged.owner = outer
	} else {
		tagged.owner = newOwner(outer)
	}
	return withIdentity(ctx, tagged)
}

// WithoutUser returns a context whose database work belongs to no user, and is meant to: it
// takes no user's lock, and the option untagged has nothing to say of it. It is for
// migrations and start-up code in a program that otherwise refuses or logs what has no
// user. In a section or a transaction of a user it is work of that user, as any other there.
func WithoutUser(ctx context.Context) context.Context {
	outer, _ := ctx.Value(ownerKey).(*owner)
	return withIdentity(ctx, identity{nobody: true, owner: outer})
}

func withIdentity(ctx context.Context, id identity) context.Context {
	ctx = context.WithValue(ctx, ownerKey, id.owner)
	return context.WithValue(ctx, UserKey, &id)
}

// A Mode is the strength of a user's lock.
type Mode rwlock.Mode

const (
	Shared    = Mode(rwlock.Shared)    // many readers at a time
	Exclusive = Mode(rwlock.Exclusive) // one writer alone
)

// String returns "shared" or "exclusive".
func (m Mode) String() string { return rwlock.Mode(m).String() }

// WithMode returns a context whose operations take the user's lock in mode,
// whatever their SQL says. It is for statements that cannot be judged by their
// text, above all a SELECT that calls a user-defined function which writes. A statement
// that concerns only its session, such as SET, takes a lock with Exclusive only.
func WithMode(ctx context.Context, mode Mode) context.Context {
	return context.WithValue(ctx, modeKey, mode)
}

// identityFrom returns the user that ctx is tagged with, if any.
func identityFrom(ctx context.Context) (identity, bool) {
	switch v := ctx.Value(UserKey).(type) {
	case nil:
		return identity{}, false
	case *identity:
		return *v, !v.nobody
	default:
		id := newIdentity(v)
		id.owner, _ = ctx.Value(ownerKey).(*owner)
		return id, true
	}
}

// newIdentity is that of an ID, without an owner.
func newIdentity(id any) identity {
	user, err := canonicalUser(id)
	return identity{user: user, err: err, suspect: isSuspect(user)}
}

// isSuspect tells of IDs that stand for "none" in many programs.
func isSuspect(user string) bool {
	switch user {
	case "0", "-1", "00000000-0000-0000-0000-000000000000", "<nil>":
		return true
	}
	return false
}

// modeFrom returns the mode that ctx asks for, or else the given one.
func modeFrom(ctx context.Context, mode Mode) (Mode, error) {
	switch v := ctx.Value(modeKey).(type) {
	case nil:
		return mode, nil
	case Mode:
		if v == Shared || v == Exclusive {
			return v, nil
		}
	}
	return mode, errors.New("dblocker: WithMode was given an unknown mode; use dblocker.Shared or dblocker.Exclusive")
}

// canonicalUser reduces an ID to the string that names the user.
func canonicalUser(id any) (string, error) {
	if isNilPointer(id) {
		return "", fmt.Errorf("dblocker: the user ID is a nil %T; give each user an ID of its own, or leave the context untagged for work that belongs to no user", id)
	}
	user, ok := userString(id)
	if !ok {
		return "", fmt.Errorf("dblocker: a user ID of type %T cannot be used; give a string, an integer, a [16]byte or a fmt.Stringer", id)
	}
	if user == "" {
		return "", errors.New("dblocker: the user ID is empty; give each user an ID of its own, or leave the context untagged for work that belongs to no user")
	}
	return user, nil
}

func isNilPointer(id any) bool {
	v := reflect.ValueOf(id)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

func userString(id any) (string, bool) {
	if s, ok := id.(string); ok { // the usual case, before reflection
		return s, true
	}
	if s, ok := id.(fmt.Stringer); ok {
		return s.String(), true
	}
	switch v := reflect.ValueOf(id); {
	case v.Kind() == reflect.String:
		return v.String(), true
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10), true
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10), true
	case v.Kind() == reflect.Array && v.Type().ConvertibleTo(uuidType):
		return uuidText(v.Convert(uuidType).Interface().([16]byte)), true
	}
	return "", false
}

var uuidType = reflect.TypeFor[[16]byte]()

// uuidText writes a UUID in the form of RFC 9562, section 4.
func uuidText(u [16]byte) string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
