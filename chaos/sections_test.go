package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/calmdocs/dblocker"
)

// A lockFunc is dblocker.Lock or one of its kin.
type lockFunc = func(context.Context, dblocker.Handle, ...dblocker.SectionOption) (context.Context, func(), error)

func (r *request) lock()    { r.section("Lock", dblocker.Lock, dblocker.Exclusive) }
func (r *request) rlock()   { r.section("RLock", dblocker.RLock, dblocker.Shared) }
func (r *request) tryLock() { r.section("TryLock", dblocker.TryLock, dblocker.Exclusive) }

// section does several things under one lock that the request takes itself: what one of
// them reads is what the one before it has left.
func (r *request) section(what string, lock lockFunc, mode dblocker.Mode) {
	var opts []dblocker.SectionOption
	if r.rng.IntN(4) == 0 {
		what, opts = "pinned "+what, append(opts, dblocker.Pin())
	}
	inside := *r
	inside.one = opts != nil
	var unlock func()
	err := r.calls.do(what, func() (err error) {
		inside.ctx, unlock, err = lock(r.ctx, r.db, opts...)
		return err
	})
	if err != nil {
		return
	}
	defer unlock()
	inside.work(what, r.ctx, mode)
}

// do is section by way of Do, which ends the section also if the handler panics. What
// it does inside are calls of their own, and only those have a time to return in.
func (r *request) do() {
	err := dblocker.Do(r.ctx, r.db, func(ctx context.Context) error {
		inside := *r
		inside.ctx = ctx
		inside.work("Do", r.ctx, dblocker.Exclusive)
		return nil
	})
	r.calls.do("Do", func() error { return err })
}

// lockTwo has a section of two users and works for both. It is rare, like rewriteTwo.
func (r *request) lockTwo() {
	if r.rng.IntN(10) > 0 {
		return
	}
	other := *r
	other.user = r.rng.IntN(users)
	var ctx context.Context
	var unlock func()
	err := r.calls.do("LockUsers", func() (err error) {
		ctx, unlock, err = dblocker.LockUsers(r.plain, r.db, r.tag(r.user), r.tag(other.user))
		return err
	})
	if err != nil {
		return
	}
	defer unlock()
	for _, part := range []*request{r, &other} {
		inside := *part
		inside.ctx = dblocker.WithUser(ctx, r.tag(part.user))
		inside.work("LockUsers", r.plain, dblocker.Exclusive)
	}
}

// work is what a request does inside its section. Its lock is given up when the context
// that the section was made from ends, be it that of the section a moment later.
func (r *request) work(what string, from context.Context, mode dblocker.Mode) {
	leave := r.enter(from, mode, what)
	defer leave()
	r.reads = mode == dblocker.Shared
	parts := []func(*request){(*request).read, (*request).readPrepared, (*request).readTx, (*request).readItems}
	if !r.reads {
		parts = append(parts, (*request).write, (*request).writePrepared, (*request).writeReturning, (*request).writeSlow, (*request).rewrite)
	}
	for range 1 + r.rng.IntN(3) {
		choose(r.rng, parts)(r)
		was, err := r.query("QueryRow in a section")
		r.think()
		r.maybePanic()
		if err == nil {
			r.readAgain(was, from, "QueryRow in a section")
		}
	}
	if r.reads {
		r.refuseWrite()
	}
}

// refuseWrite tries to write in a shared section.
func (r *request) refuseWrite() {
	_, err := r.db.ExecContext(r.ctx, fmt.Sprintf(bump, r.user, newID()))
	if err == nil || !errors.Is(err, dblocker.ErrReadOnly) && r.calls.kind(err) == "" {
		r.violate("a write in a shared section: %v", err)
	}
}

// readItems reads in a loop over rows, both under the lock that the context has, if any.
func (r *request) readItems() {
	var rows *sql.Rows
	err := r.calls.do("Query of items", func() (err error) {
		rows, err = r.db.QueryContext(r.ctx, "SELECT i FROM items")
		return err
	})
	if err != nil {
		return
	}
	defer rows.Close()
	for r.next(rows) {
		if !r.one && r.rng.IntN(4) == 0 {
			r.query("QueryRow in rows of items")
		}
	}
}

// untagged reads for nobody, in a loop, or writes what is nobody's.
func (r *request) untagged() {
	nobody := *r
	nobody.ctx = r.plain
	if r.rng.IntN(2) == 0 {
		nobody.readItems()
		return
	}
	r.calls.do("untagged Exec", func() error {
		_, err := r.db.ExecContext(r.plain, "UPDATE items SET i = i WHERE i = 1")
		return err
	})
}
