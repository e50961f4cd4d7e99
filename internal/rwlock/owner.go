package rwlock

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Owner is one thread of control. The zero Owner is ready for use; it is compared by
// its address and must not be copied.
//
// An owner may be used by several goroutines, but then this package knows only of
// those that wait: to the deadlock search, an owner all of whose waits are stuck
// is stuck.
type Owner struct {
	// awaited counts the lasting holds of the owner for whose locks somebody
	// waits, or has waited since they were granted. While it is zero, nobody
	// waits for the owner.
	awaited atomic.Int32

	// mu guards waits. It is locked after the mutexes of shards, never before.
	mu    sync.Mutex
	waits []*waiter // for holds of the owner, in the order in which they came
}

// add notes that the owner waits through w.
func (o *Owner) add(w *waiter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Contains(o.waits, w) { // the owner of several of its holds
		o.waits = append(o.waits, w)
	}
}

// remove forgets w.
func (o *Owner) remove(w *waiter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i := slices.Index(o.waits, w); i >= 0 {
		o.waits = slices.Delete(o.waits, i, i+1)
	}
}

// waiting reports whether the owner, which may be nil, waits for anything.
func (o *Owner) waiting() bool {
	if o == nil {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.waits) > 0
}

// waitsFor returns the owner's holds that wait for l, whose shard is locked.
func (o *Owner) waitsFor(l *Lock) (holds []*Hold) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, w := range o.waits {
		for _, p := range w.places {
			if p.lock == l && p.hold.Owner == o && p.hold.wait == w {
				holds = append(holds, p.hold)
			}
		}
	}
	return holds
}
