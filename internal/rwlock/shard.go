package rwlock

import (
	"sync"
	"sync/atomic"
)

// shard is a mutex and the locks that it guards: a part of the keys of a table, or
// one free-standing lock.
type shard struct {
	mu sync.Mutex

	// rank orders all shards of the process. Whoever locks several mutexes
	// locks them in this order. It never changes.
	rank uint64

	// keyed says that this is a part of a table, whose locks are in the index and
	// freed when idle. It never changes.
	keyed bool

	// slots is set for one free-standing lock whose holders are limited, and gate for one
	// that is a gate. They never change.
	slots *slots
	gate  bool

	// index has the locks that are in use, of a shard of a table. Guarded by mu.
	index index

	// spare are idle locks to be used again, linked by chain, so that a lock that
	// comes and goes allocates nothing. They stay in their shard, because a hold
	// finds its mutex through its lock, even if the lock was freed meanwhile.
	// Guarded by mu.
	spare  *Lock
	spares int

	// watch looks after those who wait for these locks. Guarded by mu.
	watch watch
}

const maxSpares = 8

// ranks is the last rank taken.
var ranks atomic.Uint64

// takeRanks takes n ranks and returns the first of them.
func takeRanks(n int) uint64 { return ranks.Add(uint64(n)) - uint64(n) + 1 }

// obtain returns the lock of the key, which it makes if there is none. It is called
// with the shard locked, and the caller must use the lock or reap it before it
// unlocks the shard.
func (s *shard) obtain(key string, hash uint32) *Lock {
	if l := s.index.find(key, hash); l != nil {
		return l
	}
	l := s.spare
	if l != nil {
		s.spare = l.chain
		s.spares--
	} else {
		l = &Lock{shard: s}
	}
	l.name, l.hash = key, hash
	s.index.add(l)
	return l
}

// reap frees the lock of a key if nobody holds it or waits for it. It is called
// with the shard locked.
func (s *shard) reap(l *Lock) {
	if !s.keyed || !l.idle() {
		return
	}
	s.index.remove(l)
	l.name, l.chain = "", nil // keep neither the key nor the chain alive
	if s.spares < maxSpares {
		s.spare, l.chain = l, s.spare
		s.spares++
	}
}
