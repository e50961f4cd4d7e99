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

// group is a request for several keys of one table, with a hold for each.
type group struct {
	*request
	holds []*rwlock.Hold
}

func (g *group) release() {
	for _, h := range g.holds {
		h.Release()
	}
	synctest.Wait()
}

// askAll starts a request for several keys, all in one mode.
func (s *scene) askAll(name string, mode rwlock.Mode, table *rwlock.Table, keys ...string) *group {
	g := &group{}
	var reqs []rwlock.Request
	for _, key := range keys {
		h := &rwlock.Hold{Label: rwlock.Tagged(name)}
		g.holds = append(g.holds, h)
		reqs = append(reqs, rwlock.Request{Table: table, Key: key, Mode: mode, Hold: h})
	}
	g.request = s.start(name, func(ctx context.Context, _ *rwlock.Hold) error {
		return rwlock.AcquireAll(ctx, rwlock.Wait{Timeout: long}, reqs...)
	})
	return g
}

// eachPair runs the test for many pairs of keys, of which some share a shard.
func eachPair(t *testing.T, test func(t *testing.T, s *scene, table *rwlock.Table, a, b string)) {
	synctest.Test(t, func(t *testing.T) {
		table := rwlock.NewTable()
		for i := range 300 {
			test(t, &scene{t: t}, table, "a", fmt.Sprint("b", i))
			expectIdle(t, table)
		}
	})
}

func TestAllIsGrantedWhenTheLastConditionHolds(t *testing.T) {
	for _, firstToLeave := range []int{0, 1} {
		eachPair(t, func(t *testing.T, s *scene, table *rwlock.Table, a, b string) {
			holders := []*request{s.ask("x", exclusive, keyOf(table, a)), s.ask("y", exclusive, keyOf(table, b))}
			both := s.askAll("both", exclusive, table, a, b)
			s.expectGranted("x", "y")
			holders[firstToLeave].release()
			s.expectGranted()
			holders[1-firstToLeave].release()
			s.expectGranted("both")
			both.release()
		})
	}
}

func TestAllHoldsNothingWhileItWaits(t *testing.T) {
	eachPair(t, func(t *testing.T, s *scene, table *rwlock.Table, a, b string) {
		reader := s.ask("reader", shared, keyOf(table, a))
		writers := s.ask("writer", exclusive, keyOf(table, b))
		both := s.askAll("both", shared, table, a, b)
		other := s.ask("other", shared, keyOf(table, a)) // not in conflict with anybody at a
		s.expectGranted("reader", "writer", "other")
		for _, h := range both.holds {
			if h.Held() {
				t.Fatal("a part is held while the request waits")
			}
		}
		writers.release()
		s.expectGranted("both")
		reader.release()
		other.release()
		both.release()
	})
}

func TestAllKeepsItsPlaceInEveryQueue(t *testing.T) {
	eachPair(t, func(t *testing.T, s *scene, table *rwlock.Table, a, b string) {
		writer := s.ask("writer", exclusive, keyOf(table, b))
		both := s.askAll("both", exclusive, table, a, b)
		late := s.ask("late", shared, keyOf(table, a)) // a is free, but spoken for
		s.expectGranted("writer")
		writer.release()
		s.expectGranted("both")
		both.release()
		s.expectGranted("late")
		late.release()
	})
}

func TestAllThatGivesUpMakesWayInEveryQueue(t *testing.T) {
	eachPair(t, func(t *testing.T, s *scene, table *rwlock.Table, a, b string) {
		writer := s.ask("writer", exclusive, keyOf(table, b))
		both := s.askAll("both", exclusive, table, a, b)
		atA := s.ask("at a", exclusive, keyOf(table, a))
		atB := s.ask("at b", exclusive, keyOf(table, b))
		s.expectGranted("writer")
		both.giveUp()
		both.expectErr(context.Canceled)
		s.expectGranted("at a")
		writer.release()
		s.expectGranted("at b")
		atA.release()
		atB.release()
	})
}

// One who gives up may be all that another request for several locks waits for.
func TestAllIsRetriedWhenAnotherGivesUp(t *testing.T) {
	eachPair(t, func(t *testing.T, s *scene, table *rwlock.Table, a, b string) {
		reader := s.ask("reader", shared, keyOf(table, a))
		first := s.askAll("first", exclusive, table, b, a)
		second := s.askAll("second", shared, table, a, b)
		s.expectGranted("reader")
		first.giveUp()
		s.expectGranted("second")
		reader.release()
		second.release()
	})
}

func TestAllInOppositeOrderDoNotWaitForEachOther(t *testing.T) {
	eachPair(t, func(t *testing.T, s *scene, table *rwlock.Table, a, b string) {
		holder := s.ask("holder", exclusive, keyOf(table, a))
		ab := s.askAll("ab", exclusive, table, a, b)
		ba := s.askAll("ba", exclusive, table, b, a)
		s.expectGranted("holder")
		holder.release()
		s.expectGranted("ab")
		ab.release()
		s.expectGranted("ba")
		ba.release()
	})
}

func TestAllInARingEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, table := &scene{t: t}, rwlock.NewTable()
		ab := s.askAll("ab", exclusive, table, "a", "b")
		bc := s.askAll("bc", exclusive, table, "b", "c")
		ca := s.askAll("ca", exclusive, table, "c", "a")
		s.expectGranted("ab")
		ab.release()
		s.expectGranted("bc")
		bc.release()
		s.expectGranted("ca")
		ca.release()
		expectIdle(t, table)
	})
}

// Two obstacles that go in the same moment, each seen by its own goroutine.
func TestAllMissesNoWakeUpFromTwoShards(t *testing.T) {
	table := rwlock.NewTable()
	for i := range 2000 {
		a, b := fmt.Sprint("a", i), fmt.Sprint("b", i)
		ha, hb := mustTry(t, keyOf(table, a), exclusive), mustTry(t, keyOf(table, b), shared)
		var wg sync.WaitGroup
		wg.Go(func() {
			var ga, gb rwlock.Hold
			err := rwlock.AcquireAll(t.Context(), rwlock.Wait{Timeout: time.Minute},
				rwlock.Request{Table: table, Key: a, Mode: shared, Hold: &ga},
				rwlock.Request{Table: table, Key: b, Mode: exclusive, Hold: &gb})
			if err != nil {
				t.Error(err)
			}
			gb.Release()
			ga.Release()
		})
		wg.Go(ha.Release)
		wg.Go(hb.Release)
		wg.Wait()
	}
	expectIdle(t, table)
}

func TestAllRefusesWhatCannotBeMeant(t *testing.T) {
	table, lock := rwlock.NewTable(), rwlock.NewLock("gate", 0)
	var h1, h2 rwlock.Hold
	inUse := mustTry(t, keyOf(table, "in use"), shared)
	defer inUse.Release()

	tests := map[string]struct {
		reqs []rwlock.Request
		want string
	}{
		"same key twice": {
			[]rwlock.Request{{Table: table, Key: "k", Hold: &h1}, {Table: table, Key: "k", Mode: exclusive, Hold: &h2}},
			`rwlock: the same lock is requested twice: "k"`,
		},
		"same lock twice": {
			[]rwlock.Request{{Lock: lock, Hold: &h1}, {Lock: lock, Hold: &h2}},
			`rwlock: the same lock is requested twice: "gate"`,
		},
		"same hold twice": {
			[]rwlock.Request{{Table: table, Key: "k", Hold: &h1}, {Lock: lock, Hold: &h1}},
			"rwlock: hold is already in use",
		},
		"hold in use": {
			[]rwlock.Request{{Table: table, Key: "k", Hold: &h1}, {Lock: lock, Hold: inUse}, {Table: table, Key: "l", Hold: &h2}},
			"rwlock: hold is already in use",
		},
		"no hold": {
			[]rwlock.Request{{Table: table, Key: "k", Hold: &h1}, {Lock: lock}},
			"rwlock: request 1 has no hold",
		},
		"neither table nor lock": {
			[]rwlock.Request{{Key: "k", Hold: &h1}},
			"rwlock: request 0 must name a table or a lock",
		},
		"both table and lock": {
			[]rwlock.Request{{Table: table, Lock: lock, Hold: &h1}},
			"rwlock: request 0 must name a table or a lock",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := rwlock.AcquireAll(t.Context(), rwlock.Wait{}, tt.reqs...)
			if err == nil || err.Error() != tt.want {
				t.Errorf("error %v, want %s", err, tt.want)
			}
			if h1.Held() || h2.Held() || table.Len() != 1 {
				t.Errorf("a refused request left something: %v", table.Snapshot())
			}
			expectIdle(t, lock)
		})
	}
}

func TestAllOfNothingIsGranted(t *testing.T) {
	if err := rwlock.AcquireAll(t.Context(), rwlock.Wait{}); err != nil {
		t.Error(err)
	}
}

func TestAllWithDoneContextAcquiresNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	lock := rwlock.NewLock("l", 0)
	err := rwlock.AcquireAll(ctx, rwlock.Wait{}, rwlock.Request{Lock: lock, Hold: new(rwlock.Hold)})
	if err != context.Canceled {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	expectIdle(t, lock)
}

func TestAllWithoutWaitingIsAllOrNothing(t *testing.T) {
	table := rwlock.NewTable()
	holder := mustTry(t, keyOf(table, "b"), shared)
	var a, b rwlock.Hold
	reqs := []rwlock.Request{
		{Table: table, Key: "a", Mode: exclusive, Hold: &a},
		{Table: table, Key: "b", Mode: exclusive, Hold: &b},
	}
	err := rwlock.AcquireAll(t.Context(), rwlock.Wait{}, reqs...)
	var werr *rwlock.WaitError
	if !errors.As(err, &werr) || !errors.Is(err, rwlock.ErrTimeout) || werr.Key != "b" {
		t.Errorf("error %v, want a timeout at b", err)
	}
	if a.Held() || b.Held() || table.Len() != 1 {
		t.Error("a refused request got something")
	}
	holder.Release()
	if err := rwlock.AcquireAll(t.Context(), rwlock.Wait{}, reqs...); err != nil {
		t.Error(err)
	}
	a.Release()
	b.Release()
	expectIdle(t, table)
}

// Who gives back a lock for which thousands wait does not work for them: it returns though
// none of them can be granted anything yet.
func TestReleaseDoesNotWorkForAllWhoWait(t *testing.T) {
	table, all := rwlock.NewTable(), rwlock.NewLock("all", 0)
	h := mustTry(t, all.Acquire, exclusive)
	var working sync.WaitGroup
	for i := range 1000 {
		working.Go(func() {
			var user, share rwlock.Hold
			if err := rwlock.AcquireAll(t.Context(), rwlock.Wait{Timeout: long},
				rwlock.Request{Table: table, Key: fmt.Sprint(i), Mode: exclusive, Hold: &user},
				rwlock.Request{Lock: all, Mode: shared, Hold: &share}); err != nil {
				t.Error(err)
			}
			user.Release()
			share.Release()
		})
	}
	for all.Len() < 1001 {
		runtime.Gosched()
	}
	goOn := rwlock.HoldTable(table)
	released := make(chan struct{})
	go func() { h.Release(); close(released) }()
	select {
	case <-released:
	case <-time.After(10 * time.Second):
		t.Error("Release has not returned: it hands on the lock itself")
	}
	goOn()
	working.Wait()
	expectIdle(t, table)
	expectIdle(t, all)
}
