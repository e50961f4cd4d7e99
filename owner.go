package dblocker

import (
	"slices"

	"github.com/calmdocs/dblocker/internal/gate"
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

	rows  rowsList    // the open ones that hold a lock
	inner []*rowsHold // some of those of the owners inside it, up to maxInner; rows.mu guards it too

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

// hasRows tells whether there are rows that may hold a lock, be it for another in the owner's
// line.
func (o *owner) hasRows() bool {
	return o.rowsThat(func(*rowsHold) bool { return true }) != nil
}

// hasPassed tells whether there are rows that have passed by the gate.
func (o *owner) hasPassed(g *gate.Gate) bool {
	return o.rowsThat(func(h *rowsHold) bool { return h.gate.HasPassed() && h.gate.Gate() == g }) != nil
}

// rowsThat returns the holds of those of the rows of the owner's line, as far as they are known,
// that are so.
func (o *owner) rowsThat(are func(*rowsHold) bool) (found []*rowsHold) {
	if o == nil {
		return nil
	}
	o.rows.mu.Lock()
	for _, h := range o.inner {
		if are(h) {
			found = append(found, h)
		}
	}
	o.rows.mu.Unlock()
	for ; o != nil; o = o.outer {
		found = append(found, o.rows.which(are)...)
	}
	return found
}

// add and remove keep the list of rows that the owner's line may have to spill.
func (o *owner) add(h *rowsHold) {
	o.rows.add(h)
	for p := o.outer; p != nil; p = p.outer {
		p.addInner(h)
	}
}

func (o *owner) remove(h *rowsHold) {
	o.rows.remove(h)
	for p := o.outer; p != nil; p = p.outer {
		p.removeInner(h)
	}
}

func (o *owner) addInner(h *rowsHold) {
	o.rows.mu.Lock()
	defer o.rows.mu.Unlock()
	if len(o.inner) < maxInner {
		o.inner = append(o.inner, h)
	}
}

func (o *owner) removeInner(h *rowsHold) {
	o.rows.mu.Lock()
	defer o.rows.mu.Unlock()
	if i := slices.Index(o.inner, h); i >= 0 {
		o.inner = slices.Delete(o.inner, i, i+1)
	}
}
