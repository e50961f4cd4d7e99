package rwlock_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// yielder notes when it is asked, and does what it is told to.
type yielder struct {
	start time.Time
	do    func()

	mu    sync.Mutex
	asked []time.Duration
}

func (y *yielder) Yield() {
	y.mu.Lock()
	y.asked = append(y.asked, time.Since(y.start))
	y.mu.Unlock()
	if y.do != nil {
		y.do()
	}
}

// times returns how often it was asked.
func (y *yielder) times() int {
	synctest.Wait()
	y.mu.Lock()
	defer y.mu.Unlock()
	return len(y.asked)
}

func (y *yielder) expectAsked(t *testing.T, at ...time.Duration) {
	t.Helper()
	synctest.Wait()
	y.mu.Lock()
	defer y.mu.Unlock()
	if !slices.Equal(y.asked, at) {
		t.Fatalf("asked to make way at %v, want %v", y.asked, at)
	}
}

// yielding is a hold whose Yielder does what it is told to.
func yielding(do func()) (*rwlock.Hold, *yielder) {
	y := &yielder{start: time.Now(), do: do}
	return &rwlock.Hold{Kind: rwlock.Rows, Work: y}, y
}

// A hold is asked to make way once somebody has waited a second for it, and again a second
// after it has declined.
func TestHoldIsAskedToMakeWay(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		var makesWay atomic.Bool
		h, y := yielding(nil)
		y.do = func() {
			if makesWay.Load() {
				h.Release()
			}
		}
		if err := try(l, shared, h); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		y.expectAsked(t)
		w := s.ask("w", exclusive, l)
		time.Sleep(time.Second - 1)
		y.expectAsked(t)
		time.Sleep(time.Nanosecond)
		y.expectAsked(t, 11*time.Second)
		makesWay.Store(true)
		time.Sleep(2 * time.Second)
		y.expectAsked(t, 11*time.Second, 12*time.Second)
		s.expectGranted("w")
		w.release()
	})
}

// Who waits long in the queue does not thereby hurry a hold that has just begun.
func TestOnlyTheTimeInTheWayCounts(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		first := mustTry(t, l, exclusive)
		h, y := yielding(nil)
		go func() {
			if err := l(context.Background(), shared, h, rwlock.Wait{Timeout: long}); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		w := s.ask("w", exclusive, l)
		time.Sleep(10*time.Second + 300*time.Millisecond)
		first.Release()
		time.Sleep(time.Second - 1)
		y.expectAsked(t)
		time.Sleep(time.Nanosecond)
		y.expectAsked(t, 11*time.Second+300*time.Millisecond)
		h.Release()
		synctest.Wait()
		w.release()
	})
}

// While one call of a Yielder runs there is no other, and the waiter does not wait for it.
func TestYieldersAreCalledOneAtATime(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		proceed := make(chan struct{})
		h, y := yielding(func() { <-proceed })
		if err := try(l, shared, h); err != nil {
			t.Fatal(err)
		}
		r := s.askWithin(rwlock.Wait{Timeout: 30500 * time.Millisecond}, "w", exclusive, l)
		time.Sleep(29 * time.Second)
		y.expectAsked(t, time.Second)
		close(proceed)
		time.Sleep(1500 * time.Millisecond)
		y.expectAsked(t, time.Second, 30*time.Second)
		r.expectErr(rwlock.ErrTimeout)
		time.Sleep(time.Minute)
		y.expectAsked(t, time.Second, 30*time.Second)
		h.Release()
	})
}

// A Yielder may take longer than all waits. New ones begin beside its return: with -race.
func TestYielderOutlivesTheWatch(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		h, y := yielding(func() { time.Sleep(10 * time.Second) })
		if err := try(l, shared, h); err != nil {
			t.Fatal(err)
		}
		wait := rwlock.Wait{Timeout: 1500 * time.Millisecond}
		r := s.askWithin(wait, "w", exclusive, l)
		time.Sleep(10*time.Second + 500*time.Millisecond)
		r.expectErr(rwlock.ErrTimeout)
		r = s.askWithin(wait, "again", exclusive, l)
		time.Sleep(time.Second)
		y.expectAsked(t, time.Second)
		h.Release()
		synctest.Wait()
		s.expectGranted("again")
		r.release()
	})
}

// Only what is in the way of the head of the queue is asked: readers beside a waiting
// reader are not.
func TestWhatIsInNobodysWayIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, table, gate := &scene{t: t}, rwlock.NewTable(), rwlock.NewGate("gate")
		writer := mustTry(t, gate.Acquire, exclusive)
		reads, y := yielding(nil)
		if err := table.Acquire(t.Context(), "k", shared, reads, rwlock.Wait{}); err != nil {
			t.Fatal(err)
		}
		var atGate rwlock.Hold
		w := s.start("w", func(ctx context.Context, h *rwlock.Hold) error {
			return rwlock.AcquireGated(ctx, rwlock.Wait{Timeout: long},
				rwlock.Request{Lock: gate, Mode: exclusive, Hold: &atGate}, rwlock.Request{Table: table, Key: "k", Mode: exclusive, Hold: h})
		})
		time.Sleep(time.Minute)
		y.expectAsked(t) // it is not the writer's turn
		writer.Release()
		time.Sleep(5 * time.Second)
		if y.times() == 0 {
			t.Fatal("a reader was not asked to make way for a writer at the head of the gate")
		}
		reads.Release()
		synctest.Wait()
		atGate.Release()
		w.release()
	})
}

// Of those who share the places of a limited lock, as many are asked as there are requests
// that wait, and others when these decline.
func TestAsManyAreAskedAsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, pool := &scene{t: t}, rwlock.NewLock("pool", 3)
		var holds []*rwlock.Hold
		var ys []*yielder
		for range 3 {
			h, y := yielding(nil)
			h.Kind = rwlock.Session
			if err := pool.Acquire(t.Context(), shared, h, rwlock.Wait{}); err != nil {
				t.Fatal(err)
			}
			holds, ys = append(holds, h), append(ys, y)
		}
		w := s.ask("w", shared, pool.Acquire)
		for i := range ys {
			time.Sleep(time.Second)
			for j, y := range ys {
				if got, want := y.times(), min(max(i-j+1, 0), 1); got != want {
					t.Errorf("after %d s, holder %d was asked %d times, want %d", i+1, j, got, want)
				}
			}
		}
		for _, h := range holds {
			h.Release()
		}
		synctest.Wait()
		w.release()
	})
}

// slowWaits collects what is told of slow waits.
type slowWaits struct {
	start time.Time

	mu    sync.Mutex
	lines []string
}

func (s *slowWaits) wait() rwlock.Wait {
	return rwlock.Wait{Timeout: long, Slow: func(w rwlock.SlowWait) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lines = append(s.lines, fmt.Sprintf("%v: %v %v waited %v for %v with %d", time.Since(s.start), w.Key, w.Mode, w.Waited, w.Blocker.Tag, w.Waiting))
	}}
}

func (s *slowWaits) told() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

func (s *slowWaits) expect(t *testing.T, lines ...string) {
	t.Helper()
	if got := s.told(); !slices.Equal(got, lines) {
		t.Fatalf("told of\n%q, want\n%q", got, lines)
	}
}

// One wait for a lock is told of in five seconds, with how many wait.
func TestSlowWaitsAreToldOf(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		slow := &slowWaits{start: time.Now()}
		h := &rwlock.Hold{Label: rwlock.Tagged("holder")}
		if err := try(l, exclusive, h); err != nil {
			t.Fatal(err)
		}
		var requests []*request
		for i := range 5 {
			requests = append(requests, s.askWithin(slow.wait(), fmt.Sprint(i), shared, l))
			if i > 0 {
				time.Sleep(time.Second)
			}
		}
		requests[0].giveUp()
		slow.expect(t)
		time.Sleep(time.Second)
		first := "5s: k shared waited 5s for holder with 4"
		slow.expect(t, first)
		time.Sleep(time.Minute)
		slow.expect(t, first, "10s: k shared waited 9s for holder with 4")
		h.Release()
		synctest.Wait()
		for _, r := range requests {
			r.release()
		}
		slow.expect(t, first, "10s: k shared waited 9s for holder with 4")
	})
}

// A wait for several locks is told of once, where something is in its way.
func TestSlowWaitForSeveralIsToldOfOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, s, table := &slowWaits{start: time.Now()}, &scene{t: t}, rwlock.NewTable()
		var inTheWay [2]rwlock.Hold
		for i := range inTheWay {
			inTheWay[i].Label = rwlock.Tagged("holder")
			if err := table.Acquire(t.Context(), fmt.Sprint(i+1), exclusive, &inTheWay[i], rwlock.Wait{}); err != nil {
				t.Fatal(err)
			}
		}
		var more [3]rwlock.Hold
		w := s.start("w", func(ctx context.Context, h *rwlock.Hold) error {
			reqs := []rwlock.Request{{Table: table, Key: "0", Mode: exclusive, Hold: h}}
			for i := range 2 {
				reqs = append(reqs, rwlock.Request{Table: table, Key: fmt.Sprint(i + 1), Mode: exclusive, Hold: &more[i]})
			}
			return rwlock.AcquireAll(ctx, slow.wait(), reqs...)
		})
		time.Sleep(time.Minute)
		if got := slow.told(); len(got) != 1 {
			t.Fatalf("told of %q, want one wait", got)
		}
		for i := range inTheWay {
			inTheWay[i].Release()
		}
		synctest.Wait()
		for i := range more {
			more[i].Release()
		}
		w.release()
	})
}
