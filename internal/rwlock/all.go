package rwlock

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Request asks for one lock among several: for that of Key in Table, or for Lock.
type Request struct {
	Table *Table
	Key   string
	Lock  *Lock

	Mode Mode
	Hold *Hold

	// Pass asks for a lock of a table also while that is barred.
	Pass bool
}

// AcquireAll waits until all the requested locks can be granted at once. Until then it
// holds none of them, but it has its place in every queue: who comes later and is in
// conflict waits behind it. However many such requests there are, and in whatever
// order they name their locks, they never wait for each other in a circle, because the
// one that came first is first in all its queues.
//
// An owner that has locks already may come to wait behind a request for several locks that
// waits for that owner in turn. Then it is put ahead, or another in the circle is. So if
// all owners take their locks in the same order, be it several at once, none gets
// ErrDeadlock.
//
// It returns an error as Acquire does, and then acquires nothing. The same lock
// may be asked for only once, since it is not for this package to say which of two
// holds gets it: otherwise it returns ErrDuplicate.
func AcquireAll(ctx context.Context, w Wait, reqs ...Request) error {
	return acquire(ctx, w, ungated, reqs...)
}

// acquire acquires all the requested locks. A waiter for them begins at the stage.
func acquire(ctx context.Context, w Wait, from stage, reqs ...Request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var buf [4]place // on the stack
	ps, err := resolve(buf[:0], reqs)
	if err != nil {
		return err
	}
	ps.lock()
	if err := ps.claim(); err != nil {
		ps.unlock()
		return err
	}
	if _, by := ps.blocked(); by != nil {
		return contend(ctx, w, from, ps)
	}
	pending := ps.grant(nil)
	ps.unlock()
	retry(pending)
	return nil
}

// grant makes the holds, which are in no list, holders. It appends to pending the
// waiters to be retried.
func (ps places) grant(pending []*waiter) []*waiter {
	for i := range ps {
		if ps[i].lock.grant(ps[i].hold) {
			pending = ps[i].lock.wake(pending)
		}
	}
	return pending
}

// resolve appends the places of the requests to ps, in the order of their
// shards. Those that are in a table have no lock yet.
func resolve(ps places, reqs []Request) (places, error) {
	for i := range reqs {
		r := &reqs[i]
		p := place{lock: r.Lock, hold: r.Hold, mode: r.Mode}
		switch {
		case r.Hold == nil:
			return nil, fmt.Errorf("rwlock: request %d has no hold", i)
		case (r.Table == nil) == (r.Lock == nil):
			return nil, fmt.Errorf("rwlock: request %d must name a table or a lock", i)
		case r.Table != nil:
			p.key = r.Key
			p.shard, p.hash = r.Table.locate(r.Key)
			if !r.Pass {
				p.table = r.Table
			}
		case r.Lock.shard.slots != nil:
			return nil, errSlots
		default:
			p.key = r.Lock.name
			p.shard = r.Lock.shard
		}
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.shard.rank, b.shard.rank), cmp.Compare(a.key, b.key))
	})
	for i := 1; i < len(ps); i++ {
		if ps[i].shard == ps[i-1].shard && ps[i].key == ps[i-1].key {
			return nil, fmt.Errorf("%w: %q", ErrDuplicate, ps[i].key)
		}
	}
	return ps, nil
}

// claim finds the locks of the places and claims the holds for them, all or none.
// It is called with the shards locked.
func (ps places) claim() error {
	for i := range ps {
		p := &ps[i]
		if p.table != nil && p.table.barred() {
			ps[:i].disclaim()
			return ErrBarred
		}
		if p.lock == nil {
			p.lock = p.shard.obtain(p.key, p.hash)
		}
		if !p.hold.claim(p.lock, p.mode) {
			p.shard.reap(p.lock)
			ps[:i].disclaim()
			return ErrHoldInUse
		}
	}
	return nil
}
