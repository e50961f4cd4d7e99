package rwlock_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

const (
	shared    = rwlock.Shared
	exclusive = rwlock.Exclusive
)

// The decision table of one lock. A scenario is a list of requests, in the order in
// which they come: r for shared, w for exclusive. In the result, those that are
// granted at once are in capitals.
func TestWhoIsGrantedAtOnce(t *testing.T) {
	tests := []struct {
		limit          int
		requests, want string
	}{
		{0, "r", "R"},
		{0, "w", "W"},
		{0, "rr", "RR"},
		{0, "rw", "Rw"},
		{0, "wr", "Wr"},
		{0, "ww", "Ww"},
		{0, "rrrr", "RRRR"},
		{0, "rwr", "Rwr"},
		{0, "rwrrw", "Rwrrw"},
		{0, "wrr", "Wrr"},
		{1, "rr", "Rr"},
		{2, "rrr", "RRr"},
		{3, "rrrrr", "RRRrr"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("limit=%d/%s", tt.limit, tt.requests), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lock := rwlock.NewLock("l", tt.limit)
				s := &scene{t: t}
				var requests []*request
				got := ""
				for i, c := range tt.requests {
					r := s.ask(fmt.Sprint(i), modeOf(c), lock.Acquire)
					if r.Held() != r.settled.Load() {
						t.Fatalf("request %d: Held() = %v, Acquire returned: %v", i, r.Held(), r.settled.Load())
					}
					if r.Held() {
						c += 'A' - 'a'
					}
					got += string(c)
					requests = append(requests, r)
				}
				if got != tt.want {
					t.Errorf("granted %s, want %s", got, tt.want)
				}
				for _, r := range requests {
					r.giveUp()
					r.release()
				}
				expectIdle(t, lock)
			})
		})
	}
}

func modeOf(c rune) rwlock.Mode {
	if c == 'w' {
		return exclusive
	}
	return shared
}

func TestFirstComeFirstServed(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		w1 := s.ask("w1", exclusive, l)
		r1 := s.ask("r1", shared, l)
		r2 := s.ask("r2", shared, l)
		w2 := s.ask("w2", exclusive, l)
		r3 := s.ask("r3", shared, l)
		w3 := s.ask("w3", exclusive, l)
		s.expectGranted("w1")
		w1.release()
		s.expectGranted("r1", "r2")
		r1.release()
		s.expectGranted()
		r2.release()
		s.expectGranted("w2")
		w2.release()
		s.expectGranted("r3")
		r3.release()
		s.expectGranted("w3")
		w3.release()
	})
}

func TestNewcomerDoesNotOvertakeEvenWithoutWaiting(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		r := s.ask("r", shared, l)
		w := s.ask("w", exclusive, l)
		if err := try(l, shared, new(rwlock.Hold)); !errors.Is(err, rwlock.ErrTimeout) {
			t.Errorf("a reader behind a waiting writer: %v, want %v", err, rwlock.ErrTimeout)
		}
		r.release()
		w.release()
		s.expectGranted("r", "w")
	})
}

// A request that does not wait must not be in anybody's way either, be it for a moment.
func TestRequestWithoutWaitingIsInNobodysWay(t *testing.T) {
	lock := rwlock.NewLock("l", 0)
	reader := mustTry(t, lock.Acquire, shared)
	finished := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for h := new(rwlock.Hold); ; {
			select {
			case <-finished:
				return
			default:
				_ = try(lock.Acquire, exclusive, h)
			}
		}
	})
	for range 20_000 {
		mustTry(t, lock.Acquire, shared).Release()
	}
	close(finished)
	writer.Wait()
	reader.Release()
	expectIdle(t, lock)
}

func TestRequestWithoutWaitingLeavesNoTrace(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		r := mustTry(t, l, shared)
		var w rwlock.Hold
		if err := try(l, exclusive, &w); !errors.Is(err, rwlock.ErrTimeout) {
			t.Errorf("try: %v, want %v", err, rwlock.ErrTimeout)
		}
		mustTry(t, l, shared).Release()
		r.Release()
		if err := try(l, exclusive, &w); err != nil {
			t.Errorf("the refused hold cannot be used again: %v", err)
		}
		w.Release()
	})
}

func TestCancelledWaiterMakesWay(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		r1 := s.ask("r1", shared, l)
		w := s.ask("w", exclusive, l)
		r2 := s.ask("r2", shared, l)
		r3 := s.ask("r3", shared, l)
		s.expectGranted("r1")
		w.giveUp()
		w.expectErr(context.Canceled)
		s.expectGranted("r2", "r3")
		r1.release()
		r2.release()
		r3.release()
	})
}

func TestCancelledWaiterInTheMiddleChangesNothingForOthers(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		w1 := s.ask("w1", exclusive, l)
		w2 := s.ask("w2", exclusive, l)
		w3 := s.ask("w3", exclusive, l)
		w4 := s.ask("w4", exclusive, l)
		w3.giveUp()
		w3.expectErr(context.Canceled)
		s.expectGranted("w1")
		w1.release()
		s.expectGranted("w2")
		w2.release()
		s.expectGranted("w4")
		w4.release()
	})
}

// Whoever is cancelled and granted in the same moment either has the lock or has an
// error, and the lock is never lost.
func TestGrantInTheMomentOfCancellation(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		for i := range 200 {
			w1 := s.ask("w1", exclusive, l)
			w2 := s.ask("w2", exclusive, l)
			w3 := s.ask("w3", exclusive, l)
			if i%2 == 0 {
				w1.Release()
				w2.cancel()
			} else {
				w2.cancel()
				w1.Release()
			}
			synctest.Wait()
			if i%2 == 0 && w2.err != nil {
				t.Fatalf("a grant before the cancellation was taken back: %v", w2.err)
			}
			if w2.Held() != (w2.err == nil) || w2.Held() == w3.Held() {
				t.Fatalf("cancelled: %v, held %v; the next: held %v", w2.err, w2.Held(), w3.Held())
			}
			w2.release()
			w3.release()
		}
	})
}

func TestDoneContextAcquiresNothing(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var h rwlock.Hold
		if err := l(ctx, shared, &h, rwlock.Wait{Timeout: long}); err != context.Canceled {
			t.Errorf("error %v, want %v", err, context.Canceled)
		}
		if h.Held() {
			t.Error("held")
		}
	})
}

func TestWaitEndsWithDeadline(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		holder := mustTry(t, l, exclusive)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		err := l(ctx, shared, new(rwlock.Hold), rwlock.Wait{Timeout: long})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		holder.Release()
	})
}

func TestWaitEndsWithTimeout(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		holder := mustTry(t, l, shared)
		start := time.Now()
		w := s.askWithin(rwlock.Wait{Timeout: 2 * time.Second}, "w", exclusive, l)
		r := s.ask("r", shared, l)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		w.expectErr(rwlock.ErrTimeout)
		if waited := time.Since(start); waited != 2*time.Second {
			t.Errorf("waited %v, want 2s", waited)
		}
		s.expectGranted("r") // it had waited only for the writer
		r.release()
		holder.Release()
	})
}

func TestClosedEndsWaitsOnly(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		closed := make(chan struct{})
		w := rwlock.Wait{Timeout: long, Closed: closed}
		holder := s.askWithin(w, "holder", exclusive, l)
		w1 := s.askWithin(w, "w1", exclusive, l)
		w2 := s.askWithin(w, "w2", exclusive, l)
		close(closed)
		synctest.Wait()
		w1.expectErr(rwlock.ErrClosed)
		w2.expectErr(rwlock.ErrClosed)
		if !holder.Held() {
			t.Error("the holder lost its lock")
		}
		holder.release()
		late := s.askWithin(w, "late", exclusive, l)
		s.expectGranted("holder", "late")
		late.release()
	})
}

func TestHoldInUseIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scene{t: t}
		table, other := rwlock.NewTable(), rwlock.NewLock("other", 0)
		held := s.ask("held", exclusive, keyOf(table, "k"))
		waiting := s.ask("waiting", shared, keyOf(table, "k"))
		for _, r := range []*request{held, waiting} {
			for name, l := range map[string]locker{
				"same key": keyOf(table, "k"), "other key": keyOf(table, "k2"), "other lock": other.Acquire,
			} {
				if err := try(l, shared, &r.Hold); err != rwlock.ErrHoldInUse {
					t.Errorf("%s hold, %s: error %v, want %v", r.Tag(), name, err, rwlock.ErrHoldInUse)
				}
			}
		}
		if n := table.Len(); n != 1 {
			t.Errorf("%d keys in use, want 1", n)
		}
		expectIdle(t, other)
		held.release()
		s.expectGranted("held", "waiting")
		waiting.release()
		expectIdle(t, table)
	})
}

func TestReleaseIsHarmlessWhenThereIsNothingToRelease(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		new(rwlock.Hold).Release()
		w1 := s.ask("w1", exclusive, l)
		w2 := s.ask("w2", exclusive, l)
		w2.release() // it waits
		w1.release()
		w1.release()
		s.expectGranted("w1", "w2")
		if err := try(l, shared, new(rwlock.Hold)); !errors.Is(err, rwlock.ErrTimeout) {
			t.Errorf("the second release of one hold released another: %v", err)
		}
		w2.release()
	})
}

func TestReleaseFromManyGoroutines(t *testing.T) {
	table := rwlock.NewTable()
	var h rwlock.Hold
	for range 500 {
		if err := try(keyOf(table, "k"), exclusive, &h); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(h.Release)
		}
		wg.Wait()
		if h.Held() {
			t.Fatal("still held")
		}
	}
	expectIdle(t, table)
}

func TestKeysAreIndependent(t *testing.T) {
	table := rwlock.NewTable()
	var holds []*rwlock.Hold
	for i := range 1000 {
		holds = append(holds, mustTry(t, keyOf(table, fmt.Sprint(i)), exclusive))
	}
	if n := table.Len(); n != 1000 {
		t.Errorf("%d keys in use, want 1000", n)
	}
	for _, h := range holds {
		h.Release()
	}
	expectIdle(t, table)
}

func TestNoGoroutineBehindAWaiter(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		holder := mustTry(t, l, exclusive)
		before := runtime.NumGoroutine()
		var waiters []*request
		for range 100 {
			waiters = append(waiters, s.ask("r", shared, l))
		}
		// There may be fewer: some of those before may have been about to end.
		if n := runtime.NumGoroutine() - before; n > len(waiters) {
			t.Errorf("%d goroutines for %d waiters", n, len(waiters))
		}
		holder.Release()
		synctest.Wait()
		for _, r := range waiters {
			r.release()
		}
	})
}
