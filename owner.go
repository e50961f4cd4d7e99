package dblocker

import (
	"context"
	"slices"
	"sync"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// An owner is one thread of control of a user, such as a request: what it does
// is not kept waiting by what it did before. WithUser makes one.
//
// If that is called with a context that has an owner, as when an inner layer of a request tags
// its context again, the new owner is inside that one. Owners that are so in one line, as
// package rwlock has it, are one request. Two inside the same are strangers: the context
// they come from may be that of the whole program.
type owner struct {
	rwlock.Owner
	outer *owner // that it is inside; nil if in none

	mu    sync.Mutex // guards what follows, and the links of rows
	rows  *rows      // the open ones that hold a lock: a doubly linked list
	inner []*rows    // some of those of the owners inside it, up to maxInner

	ownerWork
}

// maxInner is enough for one request, and not much for what all requests come from.
const maxInner = 8

// newOwner returns an owner inside outer, which may be nil. Where contexts are tagged again
// without end, as in a loop, the outer one has to do.
func newOwner(outer *owner) *owner {
	o := &owner{outer: outer}
	if outer != nil && !o.Within(&outer.Owner) {
		return outer
	}
	return o
}

// lock returns what the lock table knows of the owner, which may be nil.
func (o *owner) lock() *rwlock.Owner {
	if o == nil {
		return nil
	}
	return &o.Owner
}

// Fork returns a context for work that a request does in parallel to its other
// work: the same user, but an owner of its own and inside of none, so that the two wait
// for each other as two requests would. A context without a user is returned as it is.
func Fork(ctx context.Context) context.Context {
	id, ok := identityFrom(ctx)
	if !ok {
		return ctx
	}
	id.owner = newOwner(nil)
	return withIdentity(ctx, id)
}

// hasRows tells whether there are rows that may hold a lock, be it for another in the owner's
// line.
func (o *owner) hasRows() bool {
	return o.anyRows(func(*rows) bool { return true })
}

// anyRows tells whether one of the rows of the owner's line, as far as they are known, is so.
func (o *owner) anyRows(is func(*rows) bool) bool {
	if o != nil && o.anyInnerRows(is) {
		return true
	}
	for ; o != nil; o = o.outer {
		if o.anyOwnRows(is) {
			return true
		}
	}
	return false
}

func (o *owner) anyInnerRows(is func(*rows) bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.inner, is)
}

func (o *owner) anyOwnRows(is func(*rows) bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for r := o.rows; r != nil; r = r.next {
		if is(r) {
			return true
		}
	}
	return false
}

// add and remove keep the list of rows that the owner may have to spill.
func (o *owner) add(r *rows) {
	o.addOwn(r)
	for p := o.outer; p != nil; p = p.outer {
		p.addInner(r)
	}
}

func (o *owner) remove(r *rows) {
	o.removeOwn(r)
	for p := o.outer; p != nil; p = p.outer {
		p.removeInner(r)
	}
}

func (o *owner) addInner(r *rows) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.inner) < maxInner {
		o.inner = append(o.inner, r)
	}
}

func (o *owner) removeInner(r *rows) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i := slices.Index(o.inner, r); i >= 0 {
		o.inner = slices.Delete(o.inner, i, i+1)
	}
}

func (o *owner) addOwn(r *rows) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r.next, r.prev = o.rows, nil
	if o.rows != nil {
		o.rows.prev = r
	}
	o.rows = r
}

func (o *owner) removeOwn(r *rows) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case r.prev != nil:
		r.prev.next = r.next
	case o.rows == r:
		o.rows = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	}
	r.next, r.prev = nil, nil
}

// spill makes the owner, and the others in its line, give up what those of their open rows
// hold that are in the way, by reading the rest of those rows, each up to limit bytes, into
// memory. It returns how many they were.
func (o *owner) spill(ctx context.Context, limit int64, inTheWay func(*rows) bool, giveUp func(*rows)) (n int, err error) {
	var held []*rows
	o.anyRows(func(r *rows) bool {
		if inTheWay(r) {
			held = append(held, r)
		}
		return false
	})
	for _, r := range held {
		if err := r.spill(ctx, limit, giveUp); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// spill does that for an operation on the handle, which counts it.
func (c *Connector) spill(ctx context.Context, o *owner, inTheWay func(*rows) bool, giveUp func(*rows)) error {
	n, err := o.spill(ctx, c.spillLimit, inTheWay, giveUp)
	c.spills.Add(int64(n))
	return err
}

// spillForUser spills the owner's rows that hold the lock of the user.
func (c *Connector) spillForUser(ctx context.Context, o *owner, user string) error {
	return c.spill(ctx, o, func(r *rows) bool { return r.hold.user == user }, (*rows).unlock)
}
