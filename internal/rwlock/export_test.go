package rwlock

import (
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
)

// Footprint returns how many buckets and spare locks the table has, of which it keeps
// some for ever.
func (t *Table) Footprint() (buckets, spares int) {
	for i := range t.shards {
		s := &t.shards[i].shard
		buckets += len(s.index.buckets)
		spares += s.spares
	}
	return buckets, spares
}

// MinFootprint returns the most that an idle table keeps.
func (t *Table) MinFootprint() (buckets, spares int) {
	return len(t.shards) * minBuckets, len(t.shards) * maxSpares
}

// Awaited returns how many lasting holds of the owner are awaited, and of those inside it.
func (o *Owner) Awaited() int { return int(o.awaited.Load() + o.awaitedInside.Load()) }

// ShardCount gives the tests access to shardCount.
var ShardCount = shardCount

// HoldSearches keeps all waits from looking for deadlocks until the returned function
// is called.
func HoldSearches() (goOn func()) {
	searching.Lock()
	return searching.Unlock
}

// ClockReadings returns how often f, which must be alone, has the clock read. The watch over the
// waits of an earlier test may still look at it, which does not count.
func ClockReadings(f func()) int {
	var n atomic.Int64
	clock := func() stamp {
		if !strings.Contains(string(debug.Stack()), ").patrol(") {
			n.Add(1)
		}
		return stamp(time.Since(epoch)) + 1
	}
	testClock.Store(&clock)
	defer testClock.Store(nil)
	f()
	return int(n.Load())
}

// HoldTable keeps everybody from the locks of the table until the returned function is called.
func HoldTable(t *Table) (goOn func()) {
	for i := range t.shards {
		t.shards[i].mu.Lock()
	}
	return func() {
		for i := range t.shards {
			t.shards[i].mu.Unlock()
		}
	}
}
