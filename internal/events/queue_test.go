package events

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// TestQueueKeepsTheOrder: events come one at a time, in order, and no goroutine is left.
func TestQueueKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []int
		q := New(func(e int, _ int64) { got = append(got, e) }, nil, nil)
		var mu sync.Mutex
		want := 0
		for range 4 {
			go func() {
				for range 100 {
					mu.Lock()
					q.Put(want)
					want++
					mu.Unlock()
				}
			}()
		}
		synctest.Wait()
		if len(got) != 400 || !slices.IsSorted(got) {
			t.Errorf("got %v", got)
		}
	})
}

// TestQueueIsBounded: a function that does not return keeps nobody waiting, and what was dropped is counted.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		var n, dropped int64
		behind := 0
		q := New(func(_ int, d int64) { <-hold; n++; dropped += d }, nil, func() { behind++ })
		q.Put(0)
		synctest.Wait() // it is at work
		for range Most + 10 {
			q.Put(1)
		}
		synctest.Wait()
		if behind != 1 {
			t.Errorf("told %d times that it is behind, want once, while it is", behind)
		}
		close(hold)
		synctest.Wait()
		q.Put(2)
		synctest.Wait()
		if n != Most+2 || dropped != 10 {
			t.Errorf("%d events came, and %d were said to be dropped", n, dropped)
		}
	})
}

// TestQueueOutlivesItsFunction: after a panic, which is told once, and after the end of the goroutine, it goes on.
func TestQueueOutlivesItsFunction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []int
		panics := 0
		q := New(func(e int, _ int64) {
			got = append(got, e)
			switch e % 3 {
			case 1:
				panic("of the program")
			case 2:
				runtime.Goexit()
			}
		}, func(any) { panics++ }, nil)
		for e := range 9 {
			q.Put(e)
		}
		synctest.Wait()
		if len(got) != 9 || panics != 1 {
			t.Errorf("got %v, and %d panics were told", got, panics)
		}
	})
}

// TestQueuePutsFromItsFunction: the function may cause events itself.
func TestQueuePutsFromItsFunction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		var q *Queue[int]
		q = New(func(e int, _ int64) {
			if n++; e > 0 {
				q.Put(e - 1)
			}
		}, nil, nil)
		q.Put(3)
		synctest.Wait()
		if n != 4 {
			t.Errorf("%d events came, want 4", n)
		}
	})
}
