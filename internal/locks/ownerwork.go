package locks

import "sync/atomic"

// An ownerWork counts what an owner does beside transactions that are pending.
type ownerWork struct {
	// pending counts the transactions of the owner, and of those inside it, that have only
	// been asked for. While there are any, work counts the locks that the owner takes, and
	// workInside those that the others take.
	pending          atomic.Int32
	work, workInside atomic.Int64
}

// NoteWork notes that the owner, which may be nil, has taken a lock.
func (o *Owner) NoteWork() {
	if o == nil {
		return
	}
	if o.pending.Load() > 0 {
		o.work.Add(1)
	}
	for o = o.outer; o != nil; o = o.outer {
		if o.pending.Load() > 0 {
			o.workInside.Add(1)
		}
	}
}

// HasPending tells whether there are any of the owner, or of those inside it.
func (o *Owner) HasPending() bool { return o != nil && o.pending.Load() > 0 }

// AddPending notes n transactions that are pending, more or less than before.
func (o *Owner) AddPending(n int32) {
	for ; o != nil; o = o.outer {
		o.pending.Add(n)
	}
}

// Worked returns how many locks the line of the owner has taken while there was something
// pending in it. It is compared only while something is.
func (o *Owner) Worked() (n int64) {
	if o == nil {
		return 0
	}
	n = o.workInside.Load()
	for ; o != nil; o = o.outer {
		n += o.work.Load()
	}
	return n
}
