package rwlock_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A statement that finds its locks free costs neither an allocation nor a look at the clock. What
// lasts has its start recorded.
func TestUncontendedAllocatesNothingAndReadsNoClock(t *testing.T) {
	table, gate, all := rwlock.NewTable(), rwlock.NewGate("gate"), rwlock.NewLock("all", 0)
	pool := rwlock.NewLock("pool", 2)
	var user, writer, share rwlock.Hold
	expectFree := func(what string, acquire func() error) {
		t.Helper()
		f := func() {
			if err := acquire(); err != nil {
				t.Fatal(err)
			}
			user.Release()
			writer.Release()
			share.Release()
		}
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
		if n := rwlock.ClockReadings(f); n != 0 {
			t.Errorf("%s: %v readings of the clock", what, n)
		}
		user.Kind = rwlock.Tx
		defer func() { user.Kind = rwlock.Leaf }()
		if n := rwlock.ClockReadings(f); what != "a lock" && n != 1 {
			t.Errorf("%s: %v readings of the clock for what lasts, want 1", what, n)
		}
	}
	expectFree("a key", func() error { return try(keyOf(table, "k"), exclusive, &user) })
	expectFree("a key that is free", func() error {
		if !table.TryAcquire("k", exclusive, &user) {
			return rwlock.ErrTimeout
		}
		return nil
	})
	expectFree("a lock", func() error { return try(gate.Acquire, shared, &writer) })
	expectFree("a slot", func() error { return pool.Acquire(t.Context(), shared, &user, rwlock.Wait{Turn: "user"}) })
	expectFree("several", func() error {
		return rwlock.AcquireAll(t.Context(), rwlock.Wait{},
			rwlock.Request{Table: table, Key: "k", Mode: exclusive, Hold: &user},
			rwlock.Request{Lock: gate, Mode: exclusive, Hold: &writer},
			rwlock.Request{Lock: all, Mode: shared, Hold: &share})
	})
	expectFree("a gate and a key", func() error {
		return rwlock.AcquireGated(t.Context(), rwlock.Wait{},
			rwlock.Request{Lock: gate, Mode: exclusive, Hold: &writer},
			rwlock.Request{Table: table, Key: "k", Mode: exclusive, Hold: &user})
	})
}

// TryAcquire grants what Acquire would grant at once, and else leaves no trace.
func TestTryAcquire(t *testing.T) {
	table := rwlock.NewTable()
	var held, free, asked rwlock.Hold
	for _, test := range []struct {
		held, asked rwlock.Mode
		want        bool
	}{{shared, shared, true}, {shared, exclusive, false}, {exclusive, shared, false}, {exclusive, exclusive, false}} {
		if !table.TryAcquire("k", test.held, &held) || !table.TryAcquire("other", exclusive, &free) {
			t.Fatal("a free lock was refused")
		}
		if got := table.TryAcquire("k", test.asked, &asked); got != test.want || asked.Held() != test.want {
			t.Errorf("%v beside %v: got %v, and held: %v; want %v", test.asked, test.held, got, asked.Held(), test.want)
		}
		if table.TryAcquire("third", shared, &held) {
			t.Error("a hold that is in use was granted another lock")
		}
		held.Release()
		free.Release()
		asked.Release()
		if n := table.Len(); n != 0 {
			t.Errorf("%d locks are left, want none", n)
		}
	}
	table.Bar()
	if table.TryAcquire("k", shared, &asked) {
		t.Error("a lock of a barred table was granted")
	}
	if n := table.Len(); n != 0 {
		t.Errorf("%d locks are left of a barred table, want none", n)
	}
}

func TestMemoryPerUser(t *testing.T) {
	const users = 200_000
	held, released := measureMemory(t, benchKeys()[:users])
	if held > 200 {
		t.Errorf("a held user costs %.1f bytes, want at most 200", held)
	}
	// What stays is the same for any number of users.
	if left := released * users; left > 128<<10 {
		t.Errorf("%.0f bytes are left after the release of all", left)
	}
}

// A table that grows and shrinks finds all its keys at each moment.
func TestTableGrowsAndShrinks(t *testing.T) {
	table := rwlock.NewTable()
	held := map[string]*rwlock.Hold{}
	check := func() {
		t.Helper()
		if n := table.Len(); n != len(held) {
			t.Fatalf("%d keys in use, want %d", n, len(held))
		}
		for key, h := range held {
			if !h.Held() {
				t.Fatalf("%s is not held", key)
			}
			if err := try(keyOf(table, key), shared, new(rwlock.Hold)); err == nil {
				t.Fatalf("%s was granted twice", key)
			}
		}
	}
	for _, size := range []int{10, 5000, 1000, 20000, 3, 8000, 0} {
		for len(held) < size {
			key := fmt.Sprint("key ", rand.Uint64())
			held[key] = mustTry(t, keyOf(table, key), exclusive)
		}
		for key, h := range held {
			if len(held) <= size {
				break
			}
			h.Release()
			delete(held, key)
		}
		check()
	}
	expectIdle(t, table)
	buckets, spares := table.Footprint()
	maxBuckets, maxSpares := table.MinFootprint()
	if buckets > maxBuckets || spares > maxSpares {
		t.Errorf("an idle table has %d buckets and %d spare locks, want at most %d and %d", buckets, spares, maxBuckets, maxSpares)
	}
}

func TestShardCount(t *testing.T) {
	for procs, want := range map[int]int{1: 32, 2: 64, 3: 128, 4: 128, 8: 256, 128: 256} {
		if got := rwlock.ShardCount(procs); got != want {
			t.Errorf("%d processors: %d shards, want %d", procs, got, want)
		}
	}
}

// TestCount counts each hold and each wait once, whatever their number.
func TestCount(t *testing.T) {
	table := rwlock.NewTable()
	holds := make([]rwlock.Hold, 20_000)
	for i, key := range benchKeys()[:len(holds)] {
		if !table.TryAcquire(key, shared, &holds[i]) {
			t.Fatal("a free lock was refused")
		}
	}
	var second rwlock.Hold
	if !table.TryAcquire(benchKeys()[0], shared, &second) {
		t.Fatal("a shared lock was refused")
	}
	if held, waiting := table.Count(); held != len(holds)+1 || waiting != 0 {
		t.Errorf("%d holds and %d waits, want %d and none", held, waiting, len(holds)+1)
	}
}
