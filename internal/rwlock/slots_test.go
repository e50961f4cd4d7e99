package rwlock_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// slotOf asks for a slot of the pool, in the group.
func slotOf(pool *rwlock.Lock, group string) locker {
	return func(ctx context.Context, mode rwlock.Mode, h *rwlock.Hold, w rwlock.Wait) error {
		w.Turn = group
		return pool.Acquire(ctx, mode, h, w)
	}
}

// askOften has a group ask n times for a slot.
func (s *scene) askOften(n int, pool *rwlock.Lock, group string) (requests []*request) {
	for i := range n {
		requests = append(requests, s.ask(fmt.Sprint(group, i), shared, slotOf(pool, group)))
	}
	return requests
}

// A stranger waits for one slot to be given back, however many of one group have come before.
func TestStrangerWaitsForOneSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, pool := &scene{t: t}, rwlock.NewLock("pool", 5)
		many := s.askOften(40, pool, "a")
		s.expectGranted("a0", "a1", "a2", "a3", "a4")
		stranger := s.ask("b", shared, slotOf(pool, "b"))
		many[3].release()
		s.expectGranted("b")
		stranger.release()
		s.expectGranted("a5")
		s.releaseAll(many...)
		expectIdle(t, pool)
	})
}

// Groups take turns, and within each, who came first is first. One that comes again and again
// does not keep another from its turn.
func TestGroupsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, pool := &scene{t: t}, rwlock.NewLock("pool", 1)
		has := s.askOften(1, pool, "")[0]
		s.expectGranted("0")
		a, b := s.askOften(3, pool, "a"), s.askOften(2, pool, "b")
		untagged := s.askOften(2, pool, "")
		c := s.askOften(1, pool, "c")
		for _, next := range []*request{a[0], b[0], c[0], untagged[0], a[1], b[1], untagged[1], a[2]} {
			has.release()
			s.expectGranted(next.Tag())
			has = next
		}
		// From now on one of c waits all the time.
		a, c = s.askOften(3, pool, "a"), s.askOften(1, pool, "c")
		for i := range a {
			has.release()
			s.expectGranted("c0")
			next := s.askOften(1, pool, "c")
			s.releaseAll(c...)
			s.expectGranted(a[i].Tag())
			has, c = a[i], next
		}
		has.release()
		s.expectGranted("c0")
		s.releaseAll(c...)
		expectIdle(t, pool)
	})
}

// Who gives up leaves no trace in the turns of its group.
func TestGivenUpTurnsDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, pool := &scene{t: t}, rwlock.NewLock("pool", 1)
		has := s.ask("has", shared, pool.Acquire)
		a := s.askOften(5, pool, "a")
		b := s.askOften(2, pool, "b")
		for _, r := range a[:4] {
			r.giveUp()
		}
		s.askOften(3, pool, "c")
		s.expectGranted("has")
		for _, next := range []*request{a[4], b[0]} {
			has.release()
			s.expectGranted(next.Tag())
			has = next
		}
		has.release()
		s.expectGranted("c0")
		for _, r := range s.unseen {
			r.giveUp()
		}
	})
}

// A slot is asked for alone, and shared: there is no other order than by turns.
func TestSlotsAreAskedForAloneAndShared(t *testing.T) {
	pool, table := rwlock.NewLock("pool", 1), rwlock.NewTable()
	var h, other rwlock.Hold
	if err := pool.Acquire(t.Context(), exclusive, &h, rwlock.Wait{}); err == nil {
		t.Error("an exclusive request for a slot was granted")
	}
	if err := rwlock.AcquireAll(t.Context(), rwlock.Wait{}, rwlock.Request{Lock: pool, Hold: &h}, rwlock.Request{Table: table, Key: "k", Hold: &other}); err == nil {
		t.Error("a request for a slot and another lock was granted")
	}
	expectIdle(t, pool)
	expectIdle(t, table)
}
