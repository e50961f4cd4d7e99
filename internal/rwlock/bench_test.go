package rwlock_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// The benchmarks compare the table with what one would write by hand, a sync.Map of
// *sync.RWMutex, which never frees a lock. Both get the same keys in the same order.
//
//	go test -bench . ./internal/rwlock

// handmade is the table that one would write by hand.
type handmade struct{ locks sync.Map }

func (m *handmade) lock(key string) *sync.RWMutex {
	if l, ok := m.locks.Load(key); ok {
		return l.(*sync.RWMutex)
	}
	l, _ := m.locks.LoadOrStore(key, new(sync.RWMutex))
	return l.(*sync.RWMutex)
}

var benchUsers = []int{1, 1_000, 1_000_000}

var benchKeys = sync.OnceValue(func() []string {
	keys := make([]string, 1_000_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("user-%07d", i)
	}
	return keys
})

// drawn returns keys picked at random, as often as keys are used before the order
// repeats. They lie in memory in this order, since a key in use is in the cache: what
// is measured is the table, not how long it takes to fetch a random string.
func drawn(keys []string) []string {
	draws := make([]string, 1<<20)
	for i := range draws {
		draws[i] = strings.Clone(keys[rand.IntN(len(keys))])
	}
	return draws
}

// subject makes the function that one goroutine calls to acquire and release a key.
type subject func() func(key string)

// eachTable runs the benchmark for each number of users, on a table of ours and on
// a handmade one that has seen them all.
func eachTable(b *testing.B, mode rwlock.Mode, run func(*testing.B, []string, subject)) {
	for _, users := range benchUsers {
		keys := benchKeys()[:users]
		b.Run(fmt.Sprintf("users=%d/table", users), func(b *testing.B) {
			run(b, keys, tableSubject(b.Context(), rwlock.NewTable(), mode))
		})
		b.Run(fmt.Sprintf("users=%d/syncmap", users), func(b *testing.B) {
			var m handmade
			for _, key := range keys {
				m.lock(key)
			}
			run(b, keys, handmadeSubject(&m, mode))
		})
	}
}

func tableSubject(ctx context.Context, table *rwlock.Table, mode rwlock.Mode) subject {
	wait := rwlock.Wait{Timeout: time.Minute}
	return func() func(string) {
		h := new(struct {
			rwlock.Hold
			_ [128]byte // holds of different goroutines share no cache line
		})
		return func(key string) {
			if err := table.Acquire(ctx, key, mode, &h.Hold, wait); err != nil {
				panic(err)
			}
			h.Release()
		}
	}
}

func handmadeSubject(m *handmade, mode rwlock.Mode) subject {
	if mode == rwlock.Shared {
		return func() func(string) {
			return func(key string) {
				l := m.lock(key)
				l.RLock()
				//lint:ignore SA2001 the empty section is what is measured
				l.RUnlock()
			}
		}
	}
	return func() func(string) {
		return func(key string) {
			l := m.lock(key)
			l.Lock()
			//lint:ignore SA2001 the empty section is what is measured
			l.Unlock()
		}
	}
}

func sequential(b *testing.B, keys []string, s subject) {
	use, draws := s(), drawn(keys)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		use(draws[i%len(draws)])
		i++
	}
}

func parallel(b *testing.B, keys []string, s subject) {
	draws := drawn(keys)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		use := s()
		for i := rand.IntN(len(draws)); pb.Next(); i++ {
			use(draws[i%len(draws)])
		}
	})
}

func BenchmarkShared(b *testing.B)            { eachTable(b, rwlock.Shared, sequential) }
func BenchmarkExclusive(b *testing.B)         { eachTable(b, rwlock.Exclusive, sequential) }
func BenchmarkParallelShared(b *testing.B)    { eachTable(b, rwlock.Shared, parallel) }
func BenchmarkParallelExclusive(b *testing.B) { eachTable(b, rwlock.Exclusive, parallel) }

// BenchmarkBesideHeld acquires a second shared hold of users who are all held.
func BenchmarkBesideHeld(b *testing.B) {
	for _, users := range benchUsers {
		keys := benchKeys()[:users]
		b.Run(fmt.Sprintf("users=%d/table", users), func(b *testing.B) {
			table := rwlock.NewTable()
			holds := holdAll(b, table, keys)
			sequential(b, keys, tableSubject(b.Context(), table, rwlock.Shared))
			releaseAll(holds)
		})
	}
}

// BenchmarkKinds shows what the start of a hold costs, which is not recorded for a leaf.
func BenchmarkKinds(b *testing.B) {
	for _, kind := range []rwlock.Kind{rwlock.Leaf, rwlock.Tx} {
		b.Run(kind.String(), func(b *testing.B) {
			table := rwlock.NewTable()
			h := rwlock.Hold{Kind: kind}
			b.ReportAllocs()
			for b.Loop() {
				if err := table.Acquire(context.Background(), "user", rwlock.Exclusive, &h, rwlock.Wait{}); err != nil {
					b.Fatal(err)
				}
				h.Release()
			}
		})
	}
}

// BenchmarkAcquireAll acquires a user and two other locks.
func BenchmarkAcquireAll(b *testing.B) {
	table := rwlock.NewTable()
	gate, other := rwlock.NewLock("gate", 0), rwlock.NewLock("other", 0)
	var user, writer, reader rwlock.Hold
	b.ReportAllocs()
	for b.Loop() {
		err := rwlock.AcquireAll(context.Background(), rwlock.Wait{},
			rwlock.Request{Table: table, Key: "user", Mode: rwlock.Exclusive, Hold: &user},
			rwlock.Request{Lock: gate, Mode: rwlock.Exclusive, Hold: &writer},
			rwlock.Request{Lock: other, Mode: rwlock.Shared, Hold: &reader})
		if err != nil {
			b.Fatal(err)
		}
		reader.Release()
		writer.Release()
		user.Release()
	}
}

// BenchmarkHandover has goroutines take one exclusive lock by turns: the time for
// each handover, and how unequal the waits are.
func BenchmarkHandover(b *testing.B) {
	for _, waiters := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("waiters=%d", waiters), func(b *testing.B) {
			table := rwlock.NewTable()
			waits := make([][]time.Duration, waiters)
			b.ReportAllocs()
			b.ResetTimer()
			var working sync.WaitGroup
			for i := range waits {
				turns := b.N/waiters + 1
				working.Go(func() {
					hold := rwlock.Hold{Owner: new(rwlock.Owner)}
					for range turns {
						start := time.Now()
						if err := table.Acquire(b.Context(), "user", rwlock.Exclusive, &hold, rwlock.Wait{Timeout: time.Hour}); err != nil {
							b.Error(err)
						}
						waits[i] = append(waits[i], time.Since(start))
						runtime.Gosched() // so that the others come to wait
						hold.Release()
					}
				})
			}
			working.Wait()
			all := slices.Sorted(slices.Values(slices.Concat(waits...)))
			b.ReportMetric(float64(all[len(all)*99/100])/float64(max(all[len(all)/2], 1)), "p99/median")
		})
	}
}

// BenchmarkMemory reports what a held user costs, with the Hold and without the key, and
// what is left of it after the release.
func BenchmarkMemory(b *testing.B) {
	keys := benchKeys()
	for b.Loop() {
		held, released := measureMemory(b, keys)
		b.ReportMetric(held, "B/user")
		b.ReportMetric(released, "B/user-released")
	}
}

// measureMemory returns the bytes that each key costs while it is held, and after.
func measureMemory(tb testing.TB, keys []string) (held, released float64) {
	table := rwlock.NewTable()
	before := liveBytes()
	holds := holdAll(tb, table, keys)
	during := liveBytes()
	releaseAll(holds)
	holds = nil
	after := liveBytes()
	if n := table.Len(); n != 0 {
		tb.Errorf("%d locks are left after the release of all", n)
	}
	perKey := func(bytes int64) float64 { return float64(bytes) / float64(len(keys)) }
	return perKey(during - before), perKey(after - before)
}

func liveBytes() int64 {
	runtime.GC()
	runtime.GC() // the first may have begun before the garbage was made
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// holdAll acquires each key shared, with holds allocated one by one as they are when
// they are part of other structs.
func holdAll(tb testing.TB, table *rwlock.Table, keys []string) []*rwlock.Hold {
	holds := make([]*rwlock.Hold, len(keys))
	for i, key := range keys {
		holds[i] = new(rwlock.Hold)
		if err := table.Acquire(context.Background(), key, rwlock.Shared, holds[i], rwlock.Wait{}); err != nil {
			tb.Fatal(err)
		}
	}
	return holds
}

func releaseAll(holds []*rwlock.Hold) {
	for _, h := range holds {
		h.Release()
	}
}
