//go:build linux || darwin

package bytelock

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func BenchmarkPair(b *testing.B) {
	for _, held := range []int{0, 100, 1000} {
		for _, m := range []Mode{Shared, Exclusive} {
			b.Run(fmt.Sprintf("%v with %d held", m, held), func(b *testing.B) {
				f := open(b, newDatabase(b))
				for i := range held {
					defer lock(b, f, fmt.Sprint("user ", i), Shared).Release()
				}
				k, ctx := KeyOf("", "ann"), context.Background()
				b.ReportAllocs()
				for b.Loop() {
					l, err := f.Acquire(ctx, k, m)
					if err != nil {
						b.Fatal(err)
					}
					l.Release()
				}
			})
		}
	}
}

// BenchmarkFollow is a reader beside readers of its process.
func BenchmarkFollow(b *testing.B) {
	f := open(b, newDatabase(b))
	defer lock(b, f, "ann", Shared).Release()
	k, ctx := KeyOf("", "ann"), context.Background()
	b.ReportAllocs()
	for b.Loop() {
		l, err := f.Acquire(ctx, k, Shared)
		if err != nil {
			b.Fatal(err)
		}
		l.Release()
	}
}

// BenchmarkKernel is what the parts cost.
func BenchmarkKernel(b *testing.B) {
	d := open(b, newDatabase(b)).keys.tries
	at := span{42, 1}
	b.Run("lock and unlock", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.try(Exclusive, at)
			d.unlock(at)
		}
	})
	b.Run("look at the doors", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.look(allDoors)
		}
	})
}

func BenchmarkKeyOf(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		KeyOf("app", "user 27")
	}
}

// BenchmarkHolders is for errors.
func BenchmarkHolders(b *testing.B) {
	f := open(b, newDatabase(b))
	defer lock(b, f, "ann", Exclusive).Release()
	for b.Loop() {
		f.Holders(KeyOf("", "ann"))
	}
}

// BenchmarkAll is AcquireAll under the load of 8 workers of another open, of random users, that have some holds in between.
func BenchmarkAll(b *testing.B) {
	database := newDatabase(b)
	f, g := open(b, database), open(b, database)
	stop := make(chan struct{})
	var holds atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { loadUntil(g, stop, 50, uint64(i), Exclusive, 100*time.Microsecond, &holds) })
	}
	var waits []time.Duration
	for b.Loop() {
		for begun := holds.Load(); holds.Load() < begun+8; {
			time.Sleep(100 * time.Microsecond)
		}
		began := time.Now()
		l, err := f.AcquireAll(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		waits = append(waits, time.Since(began))
		l.Release()
	}
	slices.Sort(waits)
	b.ReportMetric(float64(waits[len(waits)/2].Microseconds()), "median-us")
	b.ReportMetric(float64(waits[len(waits)-1].Microseconds()), "longest-us")
	close(stop)
	wg.Wait()
}
