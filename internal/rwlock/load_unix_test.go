//go:build unix && !race

// The race detector's cost of a mutex grows with the number of goroutines.

package rwlock_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// cpuTime is the processor time that the process has used.
func cpuTime() time.Duration {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// A crowdOf has n requests wait, and returns the function that makes way for them and returns
// when all have been served.
type crowdOf func(t *testing.T, n int) (serve func())

var crowds = map[string]crowdOf{
	"requests for several locks": func(t *testing.T, n int) func() {
		table, all := rwlock.NewTable(), rwlock.NewLock("all", 0)
		h := mustTry(t, all.Acquire, exclusive)
		serve := waitAll(t, n, all.Len, func(i int) error {
			var user, share rwlock.Hold
			user.Owner = new(rwlock.Owner)
			share.Owner = user.Owner
			defer user.Release()
			defer share.Release()
			return rwlock.AcquireAll(context.Background(), rwlock.Wait{Timeout: long, Self: long},
				rwlock.Request{Table: table, Key: fmt.Sprint(i / 2), Mode: exclusive, Hold: &user},
				rwlock.Request{Lock: all, Mode: shared, Hold: &share})
		})
		return func() { h.Release(); serve() }
	},
	"writers of one user at a gate": func(t *testing.T, n int) func() {
		table, gate := rwlock.NewTable(), rwlock.NewGate("gate")
		h := mustTry(t, gate.Acquire, exclusive)
		serve := waitAll(t, n, gate.Len, func(int) error { return writeAtGate(table, gate) })
		return func() { h.Release(); serve() }
	},
	"writers of one user at a gate that is free": func(t *testing.T, n int) func() {
		table, gate := rwlock.NewTable(), rwlock.NewGate("gate")
		h := mustTry(t, keyOf(table, "user"), exclusive)
		serve := waitAll(t, n, func() int { return gate.Len() + 1 }, func(int) error { return writeAtGate(table, gate) })
		return func() { h.Release(); serve() }
	},
	"writers of one user who holds its lock for longer than the gate": func(t *testing.T, n int) func() {
		table, gate := rwlock.NewTable(), rwlock.NewGate("gate")
		h, user := mustTry(t, gate.Acquire, exclusive), mustTry(t, keyOf(table, "user"), exclusive)
		serve := waitAll(t, n, gate.Len, func(int) error { return writeAtGate(table, gate) })
		return func() { h.Release(); user.Release(); serve() }
	},
	"statements that wait for a slot, each awaited": func(t *testing.T, n int) func() {
		table, pool := rwlock.NewTable(), rwlock.NewLock("pool", 20)
		var holds [20]rwlock.Hold
		for i := range holds {
			holds[i].Owner, holds[i].Kind = new(rwlock.Owner), rwlock.Session
			if err := try(pool.Acquire, shared, &holds[i]); err != nil {
				t.Fatal(err)
			}
		}
		w := rwlock.Wait{Timeout: long, Self: 200 * time.Millisecond}
		waiting := func() int { return table.Len() + pool.Len() - len(holds) + 1 }
		serve := waitAll(t, n, waiting, func(i int) error {
			var user, slot rwlock.Hold
			user.Owner = new(rwlock.Owner)
			slot.Owner, slot.With, slot.Kind = user.Owner, &user, rwlock.Session
			defer user.Release()
			defer slot.Release()
			if err := table.Acquire(context.Background(), fmt.Sprint(i/2), exclusive, &user, w); err != nil {
				return err
			}
			return pool.Acquire(context.Background(), shared, &slot, w)
		})
		time.Sleep(3 * w.Self) // they look again, each time
		return func() {
			for i := range holds {
				holds[i].Release()
			}
			serve()
		}
	},
	"many locks for one request": func(t *testing.T, n int) func() {
		table := rwlock.NewTable()
		holds, more := make([]rwlock.Hold, n), make([]rwlock.Hold, n)
		var reqs []rwlock.Request
		for i := range holds {
			key := fmt.Sprint(i)
			if err := try(keyOf(table, key), exclusive, &holds[i]); err != nil {
				t.Fatal(err)
			}
			reqs = append(reqs, rwlock.Request{Table: table, Key: key, Mode: exclusive, Hold: &more[i]})
		}
		serve := waitAll(t, 1, func() int { return len(table.Snapshot()) - 2*n + 2 }, func(int) error {
			return rwlock.AcquireAll(context.Background(), rwlock.Wait{Timeout: long}, reqs...)
		})
		return func() {
			for i := range holds {
				holds[i].Release()
			}
			serve()
			releaseEach(more)
		}
	},
	"requests that give up": func(t *testing.T, n int) func() {
		lock := rwlock.NewLock("k", 0)
		h := mustTry(t, lock.Acquire, exclusive)
		ctx, cancel := context.WithCancel(t.Context())
		serve := waitAll(t, n, lock.Len, func(i int) error {
			lock.Acquire(ctx, rwlock.Mode(i%2), new(rwlock.Hold), rwlock.Wait{Timeout: long})
			return nil
		})
		return func() { cancel(); serve(); h.Release() }
	},
}

func releaseEach(holds []rwlock.Hold) {
	for i := range holds {
		holds[i].Release()
	}
}

// waitAll starts n requests and returns when all wait, beside one holder.
func waitAll(t *testing.T, n int, length func() int, request func(i int) error) (serve func()) {
	var working sync.WaitGroup
	for i := range n {
		working.Go(func() {
			if err := request(i); err != nil {
				t.Error(err)
			}
		})
	}
	for end := time.Now().Add(patience); length() < n+1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d requests wait", length()-1, n)
		}
	}
	return working.Wait
}

// What a wait costs, to its end, does not depend on how many others wait: 16 times as many
// take 16 times as long, or little more. If each looked at all others, it would be 256.
func TestCostOfAWaitDoesNotDependOnTheQueue(t *testing.T) {
	const few, times = 500, 16
	for name, crowd := range crowds {
		t.Run(name, func(t *testing.T) {
			cost := func(n int) time.Duration {
				before := cpuTime()
				crowd(t, n)()
				return max(cpuTime()-before, time.Millisecond)
			}
			best := 1e9
			for range 6 {
				// A few milliseconds may be anything, and many waiters need more memory than the processor's cache has, which others use too.
				one, many := max(cost(few), 4*time.Millisecond), cost(times*few)
				if best = min(best, float64(many)/float64(one)); best < 6*times { // a cost that depends on the queue is times*times
					t.Logf("%d: %v, %d: %v", few, one, times*few, many)
					return
				}
			}
			t.Errorf("%d times as many waiters cost %.0f times as much", times, best)
		})
	}
}

// writeAtGate is a write of the one user.
func writeAtGate(table *rwlock.Table, gate *rwlock.Lock) error {
	var user, write rwlock.Hold
	user.Owner = new(rwlock.Owner)
	write.Owner = user.Owner
	defer write.Release()
	defer user.Release()
	return rwlock.AcquireGated(context.Background(), rwlock.Wait{Timeout: long, Self: long},
		rwlock.Request{Lock: gate, Mode: exclusive, Hold: &write},
		rwlock.Request{Table: table, Key: "user", Mode: exclusive, Hold: &user})
}
