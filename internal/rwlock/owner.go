package rwlock

import (
	"cmp"
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
//
// An owner may be the inner part of another one (Within): a part of a request that was
// marked again. Owners are in one line if they are the same, or one is inside the
// other; those are each other's own. Two that are inside a third are strangers to each other,
// though each is in one line with that: it may be a request and its parts, or
// what all requests of a program come from. So to be in one line is not transitive.
type Owner struct {
	parent *Owner      // that it is inside; nil if in none. It never changes once the owner is used
	depth  int8        // number of those that it is inside
	hasKin atomic.Bool // it is inside another one, or another one inside it

	// awaited counts the lasting holds of the owner for whose locks somebody
	// waits, or has waited since they were granted, and awaitedInside those of the
	// owners inside it. While both are zero, and awaited of those that it is inside, nobody
	// waits for the owner's line. (The inner ones are counted apart, so that what one
	// of many requests does is not looked at by the others.)
	awaited       atomic.Int32
	awaitedInside atomic.Int32

	// written counts the times that the owner, or one inside it, has had a gate for itself and has left it: see NoteWritten.
	written atomic.Uint32

	// mu guards what follows. It is locked after the mutexes of shards, never before, and
	// together with no other owner's but by a search.
	mu     sync.Mutex
	waits  []*waiter // for holds of the owner, in the order in which they came
	inside int       // how many waiters the owners inside it have
	latest *waiter   // the last to come of those; nil if that waits no more
}

// maxDepth bounds the walks up a line.
const maxDepth = 16

// Within puts o, which nobody has used yet, inside the owner parent, which may be nil. It
// reports whether there was room: a line has maxDepth owners at most.
func (o *Owner) Within(parent *Owner) bool {
	switch {
	case parent == nil:
	case parent.depth+1 >= maxDepth:
		return false
	default:
		o.parent, o.depth = parent, parent.depth+1
		o.hasKin.Store(true)
		parent.hasKin.Store(true)
	}
	return true
}

// InLine reports whether the owners, either of which may be nil for nobody, are in one line.
func (o *Owner) InLine(p *Owner) bool {
	if o == nil || p == nil {
		return false
	}
	for o.depth > p.depth {
		o = o.parent
	}
	for p.depth > o.depth {
		p = p.parent
	}
	return o == p
}

// Related reports whether the owners, either of which may be nil for nobody, are in one line,
// or inside the same owner.
func (o *Owner) Related(p *Owner) bool { return o != nil && p != nil && o.root() == p.root() }

// outer returns the owner that o, which may be nil, is inside.
func (o *Owner) outer() *Owner {
	if o == nil {
		return nil
	}
	return o.parent
}

func (o *Owner) root() *Owner {
	for o.parent != nil {
		o = o.parent
	}
	return o
}

// count adds n to the lasting holds of the owner that are awaited.
func (o *Owner) count(n int32) {
	o.awaited.Add(n)
	for p := o.parent; p != nil; p = p.parent {
		p.awaitedInside.Add(n)
	}
}

// lineAwaited reports whether anybody may wait for lasting holds of the owner's line.
func (o *Owner) lineAwaited() bool {
	if o.awaitedInside.Load() > 0 {
		return true
	}
	for ; o != nil; o = o.parent {
		if o.awaited.Load() > 0 {
			return true
		}
	}
	return false
}

// NoteWritten notes that the owner, which may be nil, is done with what it had a gate for itself for.
func (o *Owner) NoteWritten() {
	for ; o != nil; o = o.parent {
		o.written.Add(1)
	}
}

// Written changes whenever the owner, which may be nil, or one inside it has written: it is so before the writer goes on.
func (o *Owner) Written() uint32 {
	if o == nil {
		return 0
	}
	return o.written.Load()
}

// add notes that the owner waits through w.
func (o *Owner) add(w *waiter) {
	if !o.addOwn(w) {
		return
	}
	for p := o.parent; p != nil; p = p.parent {
		p.mu.Lock()
		p.inside++
		p.latest = w
		p.mu.Unlock()
	}
}

func (o *Owner) addOwn(w *waiter) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if slices.Contains(o.waits, w) { // the owner of several of its holds
		return false
	}
	o.waits = append(o.waits, w)
	return true
}

// remove forgets w.
func (o *Owner) remove(w *waiter) {
	if !o.removeOwn(w) {
		return
	}
	for p := o.parent; p != nil; p = p.parent {
		p.mu.Lock()
		p.inside--
		if p.latest == w {
			p.latest = nil
		}
		p.mu.Unlock()
	}
}

func (o *Owner) removeOwn(w *waiter) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.Index(o.waits, w)
	if i >= 0 {
		o.waits = slices.Delete(o.waits, i, i+1)
	}
	return i >= 0
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

// waitsFor returns the holds of the owner's line that wait for l, whose shard is locked, as
// they came: those that it makes ahead keep their order.
func (o *Owner) waitsFor(l *Lock) (holds []*Hold) {
	if o.waitsInside() {
		for h := l.queue.head(); h != nil; h = h.next { // there is no list of those inside
			if h.Owner.InLine(o) {
				holds = append(holds, h)
			}
		}
		return holds
	}
	for p := o; p != nil; p = p.parent {
		holds = p.ownWaitsFor(l, holds)
	}
	if o != nil && o.parent != nil { // else they are all of one owner, and in order
		slices.SortStableFunc(holds, func(a, b *Hold) int { return cmp.Compare(a.since, b.since) })
	}
	return holds
}

func (o *Owner) waitsInside() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.inside > 0
}

func (o *Owner) ownWaitsFor(l *Lock, holds []*Hold) []*Hold {
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
