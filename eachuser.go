package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/userid"
)

// DatabaseName returns what stands for {user} in the data source name of a handle with a database for each user: u27 for
// the user 27. It is for a program that creates its schemas or databases by hand, or looks for a file. The id is as for [WithUser].
//
// The name is u and the ID: small letters and digits as they are, a capital letter as _ and the small one, a hyphen as __, any
// other byte as _0 and two hexadecimal digits. It is of [a-z0-9_] only, each ID has another name, and [UserOf] gives the ID back. In SQL put it
// between quotes, since the user "ser" has the name user. In a GRANT or LIKE _ stands for any character: write \_ for it there.
func DatabaseName(id any) (name string, err error) {
	user, err := locks.CanonicalUser(id)
	if err != nil {
		return "", err
	}
	return userid.Encode(user), nil
}

// UserOf returns the user whose database has the name, as [DatabaseName] gives it: without a directory, an extension or
// whatever else stands around {user}. It is not ok for a name that no user has.
func UserOf(name string) (id string, ok bool) { return userid.Decode(name) }

// EachUser calls f once for each user of a handle with a database for each, in a section of that user, see [Lock]: to migrate all
// databases, or to look at them. All that f does with its context is on the database of the user, and under the user's lock.
//
//	err := dblocker.EachUser(ctx, db, func(ctx context.Context) error {
//		_, err := db.ExecContext(ctx, "VACUUM")
//		return err
//	})
//
// The users are those whose SQLite file is there. For servers, and for a handle with one database for all, the option [EachOf] or
// [EachNamed] says who they are. A user who comes meanwhile may be left out; one whose file is gone meanwhile is, unless an option has named him.
//
// An error of f, also that its user's lock was not to be had, or a panic, keeps f from no other user. All are in the [*EachError] that is returned. When ctx
// ends, no more users are begun, and what runs is waited for.
func EachUser(ctx context.Context, db Handle, f func(ctx context.Context) error, opts ...EachOption) error {
	if ctx == nil {
		return errNilContext
	}
	if f == nil {
		return errors.New("dblocker: EachUser: the function is nil")
	}
	r := eachRun{db: db, f: f, parallel: 4}
	for _, opt := range opts {
		if opt == nil {
			return errors.New("dblocker: EachUser: an option is nil; leave it out")
		}
		opt(&r)
	}
	if r.parallel < 1 {
		return fmt.Errorf("dblocker: EachParallel(%d): so many users at a time must be at least 1", r.parallel)
	}
	users, err := r.users(ctx)
	if err != nil {
		return err
	}
	return r.run(ctx, users)
}

// An EachOption sets something about one call of [EachUser].
type EachOption func(*eachRun)

// EachShared has f run under the shared lock of each user, as by [RLock]: it can only read, and keeps no reader waiting.
func EachShared() EachOption { return func(r *eachRun) { r.shared = true } }

// EachParallel is for how many users f runs at a time: 4 by default.
func EachParallel(n int) EachOption { return func(r *eachRun) { r.parallel = n } }

// EachOf names the users: list returns their IDs.
func EachOf(list func(ctx context.Context) (ids []string, err error)) EachOption {
	return func(r *eachRun) { r.list = list }
}

// EachNamed names the users by a query for the names of their schemas or databases, in one column, on a handle of any kind that has no {user}. What is not a name as
// by [DatabaseName] is left out.
//
//	dblocker.EachNamed(admin, "SELECT nspname FROM pg_namespace")
func EachNamed(db interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}, query string, args ...any) EachOption {
	return EachOf(func(ctx context.Context) (ids []string, err error) {
		if db == nil || isNilPointer(db) {
			return nil, errors.New("dblocker: EachNamed: the handle is nil; pass one that can ask for the names, without {user}")
		}
		rows, err := db.QueryContext(ctx, query, args...)
		if errors.Is(err, ErrNoUser) {
			return nil, fmt.Errorf("dblocker: EachNamed: its handle has a database for each user itself, so nobody's query has no place there; pass a handle without {user}: %w", err)
		}
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		if columns, err := rows.Columns(); err == nil && len(columns) != 1 {
			return nil, fmt.Errorf("dblocker: EachNamed: the query has %d columns; it is to have one, the names", len(columns))
		}
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return nil, err
			}
			if id, ok := UserOf(name); ok {
				ids = append(ids, id)
			}
		}
		return ids, rows.Err()
	})
}

// EachProgress has f told after each user, of one at a time.
func EachProgress(f func(p UserDone)) EachOption { return func(r *eachRun) { r.progress = f } }

// A UserDone tells that [EachUser] is done with a user.
type UserDone struct {
	User  string
	Err   error
	Done  int // users so far, with this one
	Total int
}

// An EachError is what [EachUser] returns if something went wrong for some users. [errors.Is] and [errors.As] look at the errors of all of them.
type EachError struct {
	Users    []UserError // whose work failed, in the order in which it did
	Total    int
	NotBegun int   // users for whom nothing was done, since the context had ended
	Err      error // of the context; nil if all were begun
}

// A UserError is the error of one user.
type UserError struct {
	User string
	Err  error
}

func (e *UserError) Error() string { return fmt.Sprintf("user %s: %v", userid.Brief(e.User), e.Err) }
func (e *UserError) Unwrap() error { return e.Err }

// Error names the first ten.
func (e *EachError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "dblocker: EachUser: %d of %d users failed", len(e.Users), e.Total)
	if e.Err != nil {
		fmt.Fprintf(&b, ", and %d were not begun, since %v", e.NotBegun, e.Err)
	}
	const most = 10
	for _, u := range e.Users[:min(most, len(e.Users))] {
		fmt.Fprintf(&b, "; %v", &u)
	}
	if more := len(e.Users) - most; more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

// Unwrap returns the errors of the users, each a [*UserError], and that of the context.
func (e *EachError) Unwrap() []error {
	var all []error
	for i := range e.Users {
		all = append(all, &e.Users[i])
	}
	if e.Err != nil {
		all = append(all, e.Err)
	}
	return all
}
