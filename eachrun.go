package dblocker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/calmdocs/dblocker/internal/locks"
)

// An eachRun is a call of EachUser.
type eachRun struct {
	db       Handle
	f        func(ctx context.Context) error
	shared   bool
	parallel int
	list     func(ctx context.Context) ([]string, error)
	progress func(UserDone)
	isThere  func(user string) (bool, error) // whether a user still has a database; nil if it is not known

	mu   sync.Mutex // guards what follows, and the calls of progress
	err  EachError
	done int
}

// users returns who they are.
func (r *eachRun) users(ctx context.Context) ([]string, error) {
	c, _, err := connectorOf(ctx, r.db)
	if err != nil {
		return nil, err
	}
	files, ofFiles := c.tenancy.files()
	var users []string
	switch {
	case r.list != nil:
		users, err = r.list(ctx)
	case ofFiles:
		r.isThere = files.IsThere
		users, err = files.Users()
	case c.tenancy != nil:
		return nil, errors.New("dblocker: EachUser: the databases of a server are not looked for: name their users with the option EachOf or EachNamed")
	default:
		return nil, errors.New("dblocker: EachUser: the handle has one database for all users, and nobody knows who they are: name them with the option EachOf, or open the handle with {user} in its DSN")
	}
	if err != nil {
		return nil, fmt.Errorf("dblocker: EachUser: the users cannot be listed: %w", err)
	}
	return distinct(users)
}

// distinct leaves out IDs that have come before.
func distinct(users []string) (ids []string, err error) {
	seen := make(map[string]bool, len(users))
	for _, user := range users {
		if _, err := locks.CanonicalUser(user); err != nil {
			return nil, err
		}
		if !seen[user] {
			seen[user] = true
			ids = append(ids, user)
		}
	}
	return ids, nil
}

// run does the work for all users. Each has a goroutine of its own, which f may end.
func (r *eachRun) run(ctx context.Context, users []string) error {
	r.err.Total = len(users)
	places := make(chan struct{}, r.parallel)
	var running sync.WaitGroup
	begun := 0
	for _, user := range users {
		if !takePlace(ctx, places) {
			break
		}
		begun++
		running.Go(func() {
			defer func() { <-places }()
			r.one(ctx, user)
		})
	}
	running.Wait()
	if r.err.NotBegun += len(users) - begun; r.err.NotBegun > 0 {
		r.err.Err = context.Cause(ctx)
	}
	if r.err.NotBegun == 0 && len(r.err.Users) == 0 {
		return nil
	}
	return &r.err
}

func takePlace(ctx context.Context, places chan<- struct{}) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case places <- struct{}{}:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// one does the work for a user, also if the program's functions panic or end the goroutine.
func (r *eachRun) one(ctx context.Context, user string) {
	err := errEnded
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
		}
		r.note(user, err)
	}()
	err = r.work(WithUser(ctx, user), user)
}

var (
	errEnded    = errors.New("the function ended its goroutine, by runtime.Goexit or as t.FailNow does; return an error instead")
	errNotBegun = errors.New("the context has ended before the user's turn")
)

func panicked(p any) error { return fmt.Errorf("the function panicked: %v\n%s", p, debug.Stack()) }

// work calls f in a section of the user. A user who is not there any more has no work.
func (r *eachRun) work(ctx context.Context, user string) error {
	if there, err := r.stillThere(user); !there {
		return err
	}
	begin := Lock
	if r.shared {
		begin = RLock
	}
	inside, unlock, err := begin(ctx, r.db, Tag(tagEachUser))
	switch {
	case err != nil && ctx.Err() != nil:
		return errNotBegun
	case err != nil:
		return err
	}
	defer unlock()
	if there, err := r.stillThere(user); !there { // it was removed while we waited for the lock
		return err
	}
	return r.f(inside)
}

func (r *eachRun) stillThere(user string) (bool, error) {
	if r.isThere == nil {
		return true, nil
	}
	return r.isThere(user)
}

// note notes what has become of a user.
func (r *eachRun) note(user string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == errNotBegun {
		r.err.NotBegun++
		return
	}
	r.done++
	if err != nil {
		r.err.Users = append(r.err.Users, UserError{user, err})
	}
	if r.progress == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			r.err.Users = append(r.err.Users, UserError{user, fmt.Errorf("EachProgress: %w", panicked(p))})
		}
	}()
	r.progress(UserDone{User: user, Err: err, Done: r.done, Total: r.err.Total})
}
