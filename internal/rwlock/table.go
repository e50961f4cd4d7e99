package rwlock

import (
	"context"
	"hash/maphash"
	"math/bits"
	"runtime"
	"sync/atomic"
)

// Table is a set of locks, one for each key. A lock exists while it is held or
// waited for; the others cost nothing.
type Table struct {
	seed   maphash.Seed
	shards []paddedShard // their number is a power of two; it never changes
	bars   atomic.Int32  // see Bar
}

// paddedShard keeps shards apart in memory, so that processors that work on
// different shards do not take cache lines from each other. Lines have 64 bytes, and
// many processors fetch them in pairs.
type paddedShard struct {
	shard
	_ [128]byte
}

// NewTable returns an empty table.
func NewTable() *Table {
	shards := make([]paddedShard, shardCount(runtime.GOMAXPROCS(0)))
	rank := takeRanks(len(shards))
	for i := range shards {
		shards[i].rank = rank + uint64(i)
		shards[i].keyed = true
	}
	return &Table{seed: maphash.MakeSeed(), shards: shards}
}

// shardCount returns the number of shards for that many processors: enough that
// two of them seldom want the same one, few enough that a table, of which there is
// one for each database, stays small.
func shardCount(procs int) int {
	return min(1<<bits.Len(uint(32*procs-1)), 256)
}

// Acquire waits until the lock of the key can be granted to h in the given mode.
//
// It returns the context's error, and acquires nothing, if the context is already
// done; ErrBarred if the table is barred; ErrHoldInUse if h is not idle; and a
// *WaitError if the wait ended without a grant. Otherwise the lock is held until
// h.Release.
func (t *Table) Acquire(ctx context.Context, key string, mode Mode, h *Hold, w Wait) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, hash := t.locate(key)
	s.mu.Lock()
	if t.barred() {
		s.mu.Unlock()
		return ErrBarred
	}
	return s.obtain(key, hash).enter(ctx, mode, h, w)
}

// TryAcquire is Acquire where the lock is free: it neither waits nor says why not. What it does
// not acquire is for Acquire to wait for, or to refuse.
func (t *Table) TryAcquire(key string, mode Mode, h *Hold) bool {
	s, hash := t.locate(key)
	s.mu.Lock()
	if t.barred() {
		s.mu.Unlock()
		return false
	}
	return s.obtain(key, hash).tryEnter(mode, h)
}

// locate returns the shard of a key and the key's hash for the shard's index. The two
// use different bits: within a shard, those that chose it are all the same.
func (t *Table) locate(key string) (*shard, uint32) {
	hash := maphash.String(t.seed, key)
	return &t.shards[hash&uint64(len(t.shards)-1)].shard, uint32(hash >> 32)
}

// Len returns the number of keys that are held or waited for.
func (t *Table) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i].shard
		s.mu.Lock()
		n += s.index.live
		s.mu.Unlock()
	}
	return n
}
