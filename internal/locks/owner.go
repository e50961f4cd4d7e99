package locks

import (
	"slices"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// An Owner is one thread of control of a user, such as a request: what it does
// is not kept waiting by what it did before. WithUser makes one.
//
// If that is called with a context that has an owner, as when an inner layer of a request tags
// its context again, the new owner is inside that one. Owners that are so in one line, as
// package rwlock has it, are one request. Two inside the same are strangers: the context
// they come from may be that of the whole program.
type Owner struct {
	rwlock.Owner
	outer *Owner // that it is inside; nil if in none

	rows  RowsList    // the open ones that hold a lock
	inner []*RowsHold // some of those of the owners inside it, up to maxInner; rows.mu guards it too

	ownerWork
}

// maxInner is enough for one request, and not much for what all requests come from.
const maxInner = 8

// NewOwner returns an owner inside outer, which may be nil. Where contexts are tagged again
// without end, as in a loop, the outer one has to do.
func NewOwner(outer *Owner) *Owner {
	o := &Owner{outer: outer}
	if outer != nil && !o.Within(&outer.Owner) {
		return outer
	}
	return o
}

// lock returns what the lock table knows of the owner, which may be nil.
func (o *Owner) lock() *rwlock.Owner {
	if o == nil {
		return nil
	}
	return &o.Owner
}

// HasRows tells whether there are rows that may hold a lock, be it for another in the owner's
// line.
func (o *Owner) HasRows() bool {
	return o.RowsThat(func(*RowsHold) bool { return true }) != nil
}

// HasPassed tells whether there are rows that have passed by the gate.
func (o *Owner) HasPassed(g *gate.Gate) bool {
	return o.RowsThat(func(h *RowsHold) bool { return h.Gate.HasPassed() && h.Gate.Gate() == g }) != nil
}

// RowsThat returns the holds of those of the rows of the owner's line, as far as they are known,
// that are so.
func (o *Owner) RowsThat(are func(*RowsHold) bool) (found []*RowsHold) {
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

// Add adds to the rows that the owner's line may have to spill, until these are unlisted.
func (o *Owner) Add(h *RowsHold) {
	o.rows.Add(h)
	for p := o.outer; p != nil; p = p.outer {
		p.addInner(h)
	}
}

func (o *Owner) remove(h *RowsHold) {
	o.rows.remove(h)
	for p := o.outer; p != nil; p = p.outer {
		p.removeInner(h)
	}
}

func (o *Owner) addInner(h *RowsHold) {
	o.rows.mu.Lock()
	defer o.rows.mu.Unlock()
	if len(o.inner) < maxInner {
		o.inner = append(o.inner, h)
	}
}

func (o *Owner) removeInner(h *RowsHold) {
	o.rows.mu.Lock()
	defer o.rows.mu.Unlock()
	if i := slices.Index(o.inner, h); i >= 0 {
		o.inner = slices.Delete(o.inner, i, i+1)
	}
}
