package main

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
)

// BenchmarkHandover has requests of one user take its exclusive lock by turns: what it costs to
// hand it on to the next, and how unequal the waits are. "section" is a section with nothing
// in it, "mutex" the same with a sync.Mutex.
//
//	go test -run '^$' -bench Handover .
func BenchmarkHandover(b *testing.B) {
	for _, waiters := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("section/waiters=%d", waiters), func(b *testing.B) {
			db, err := sql.Open("dblocker", "sqlite3:"+filepath.Join(b.TempDir(), "app.db"))
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			handover(b, waiters, func() (lock func() (unlock func(), err error)) {
				ctx := dblocker.WithUser(b.Context(), "1")
				return func() (func(), error) {
					_, unlock, err := dblocker.Lock(ctx, db)
					return unlock, err
				}
			})
		})
		b.Run(fmt.Sprintf("mutex/waiters=%d", waiters), func(b *testing.B) {
			var mu sync.Mutex
			handover(b, waiters, func() func() (func(), error) {
				return func() (func(), error) {
					mu.Lock()
					return mu.Unlock, nil
				}
			})
		})
	}
}

// handover shares b.N turns among the waiters. Each has a lock function of its own.
func handover(b *testing.B, waiters int, request func() (lock func() (unlock func(), err error))) {
	waits := make([][]time.Duration, waiters)
	b.ReportAllocs()
	b.ResetTimer()
	var working sync.WaitGroup
	for i := range waits {
		lock, turns := request(), b.N/waiters+1
		working.Go(func() {
			for range turns {
				start := time.Now()
				unlock, err := lock()
				if err != nil {
					b.Error(err)
					return
				}
				waits[i] = append(waits[i], time.Since(start))
				runtime.Gosched() // so that the others come to wait
				unlock()
			}
		})
	}
	working.Wait()
	all := slices.Sorted(slices.Values(slices.Concat(waits...)))
	b.ReportMetric(float64(all[len(all)*99/100])/float64(max(all[len(all)/2], 1)), "p99/median")
}
