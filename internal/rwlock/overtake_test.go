package rwlock_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// both asks for two locks at once.
func (s *gateScene) both(owner *rwlock.Owner, name string, mode rwlock.Mode, first, second rwlock.Request) *group {
	g := &group{holds: []*rwlock.Hold{{Owner: owner, Tag: name}, {Owner: owner, Tag: name}}}
	first.Hold, second.Hold = g.holds[0], g.holds[1]
	first.Mode, second.Mode = mode, mode
	g.request = s.start(name, func(ctx context.Context, _ *rwlock.Hold) error {
		return rwlock.AcquireAll(ctx, withSelf, first, second)
	})
	return g
}

func (s *gateScene) user(key string) rwlock.Request { return rwlock.Request{Table: s.users, Key: key} }

// Who takes its locks in the same order as all others is not refused, whoever begins to wait
// last: here a, which waits for the section of b, which waits behind a group that waits for a.
func TestGroupInAQueueIsNoDeadlockForThoseWhoKeepTheOrder(t *testing.T) {
	atGate(t, func(s *gateScene) {
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		a1 := s.section(a, "a1", exclusive, keyOf(s.users, "1"))
		b2 := s.section(b, "b2", exclusive, keyOf(s.users, "2"))
		group := s.both(nil, "group", exclusive, s.user("1"), s.user("3"))
		b3 := s.section(b, "b3", exclusive, keyOf(s.users, "3"))
		s.expectGranted("a1", "b2")
		a2 := s.section(a, "a2", exclusive, keyOf(s.users, "2"))
		s.expectGranted("b3")
		s.releaseAll(b3, b2)
		s.expectGranted("a2")
		s.releaseAll(a2, a1)
		s.expectGranted("group")
		group.release()
	})
}

// Of two whom it would help, the one that came first is put ahead, and the other keeps its place.
func TestTheOldestIsPutAhead(t *testing.T) {
	atGate(t, func(s *gateScene) {
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		a1 := s.section(a, "a1", exclusive, keyOf(s.users, "1"))
		b2 := s.section(b, "b2", exclusive, keyOf(s.users, "2"))
		behindA := s.both(nil, "behindA", exclusive, s.user("1"), s.user("3"))
		behindB := s.both(nil, "behindB", exclusive, s.user("2"), s.user("4"))
		b3 := s.section(b, "b3", exclusive, keyOf(s.users, "3"))
		s.expectGranted("a1", "b2")
		time.Sleep(time.Nanosecond)
		a4 := s.section(a, "a4", exclusive, keyOf(s.users, "4"))
		s.expectGranted("b3")
		s.releaseAll(b3, b2)
		s.expectGranted("behindB")
		behindB.release()
		s.expectGranted("a4")
		s.releaseAll(a4, a1)
		s.expectGranted("behindA")
		behindA.release()
	})
}

// A turn at the gate behind one who waits for a turn, and so on, to a holder that waits.
func TestCycleOfTurnsAtTheGate(t *testing.T) {
	atGate(t, func(s *gateScene) {
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		tx := s.ask("tx", shared, as(a, rwlock.Tx, s.gate.Acquire))
		section := s.section(b, "section", exclusive, keyOf(s.users, "1"))
		w2, w3 := s.write("w2", "2"), s.write("w3", "3")
		inside := s.askWithin(withSelf, "inside", shared, as(b, rwlock.Leaf, s.gate.Acquire))
		s.expectGranted("tx", "section")
		joins := s.section(a, "joins", exclusive, keyOf(s.users, "1"))
		s.expectGranted("inside") // passes w2 and w3, which wait for a as well
		s.releaseAll(inside, section)
		s.expectGranted("joins")
		s.releaseAll(joins, tx)
		s.expectGranted("w2")
		w2.release()
		s.expectGranted("w3")
		w3.release()
	})
}

// A writer whose turn it is at the gate closes its user's lock, to a reader too that has begun
// to wait before: that one waits for another lock besides, and has not been in its way.
func TestCycleThatAWriterClosesWhenItIsItsTurn(t *testing.T) {
	atGate(t, func(s *gateScene) {
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		rows := s.ask("rows", shared, as(a, rwlock.Rows, keyOf(s.users, "1")))
		b5 := s.section(b, "b5", exclusive, keyOf(s.users, "5"))
		a5 := s.section(a, "a5", exclusive, keyOf(s.users, "5"))
		x7, other := s.ask("x7", exclusive, keyOf(s.users, "7")), s.direct("other")
		writer := s.write("writer", "1")
		reader := s.both(b, "reader", shared, s.user("1"), s.user("7"))
		s.expectGranted("rows", "b5", "x7", "other")
		other.release() // now the reader is behind the writer, which waits for a, which waits for b
		x7.release()
		s.expectGranted("reader")
		reader.release()
		b5.release()
		s.expectGranted("a5")
		s.releaseAll(a5, rows)
		s.expectGranted("writer")
		writer.release()
	})
}

// The same at the gate: a writer that has let others pass there no longer does when its user's
// lock is free.
func TestCycleThatAWriterClosesWhenItComesNext(t *testing.T) {
	atGate(t, func(s *gateScene) {
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		older := s.reader("older", "1")
		writer := s.write("writer", "1")
		tx := s.ask("tx", shared, as(a, rwlock.Tx, s.gate.Acquire)) // passes the writer
		b5 := s.section(b, "b5", exclusive, keyOf(s.users, "5"))
		a5 := s.section(a, "a5", exclusive, keyOf(s.users, "5"))
		x7 := s.ask("x7", exclusive, keyOf(s.users, "7"))
		reader := s.both(b, "reader", shared, rwlock.Request{Lock: s.gate}, s.user("7"))
		s.expectGranted("older", "tx", "b5", "x7")
		older.release() // now the reader is behind the writer, which waits for a, which waits for b
		x7.release()
		s.expectGranted("reader")
		reader.release()
		b5.release()
		s.expectGranted("a5")
		s.releaseAll(a5, tx)
		s.expectGranted("writer")
		writer.release()
	})
}

// Of waits that begin in the same moment and close one cycle, one is refused and not two.
func TestOneOfThoseWhoCloseACycleAtOnceIsRefused(t *testing.T) {
	for n := 2; n <= 5; n++ {
		table, owners := rwlock.NewTable(), make([]rwlock.Owner, n)
		held, asked := make([]rwlock.Hold, n), make([]rwlock.Hold, n)
		key := func(i int) string { return fmt.Sprint(i % n) }
		for i := range owners {
			held[i].Owner, held[i].Kind, asked[i].Owner = &owners[i], rwlock.Section, &owners[i]
			if err := try(keyOf(table, key(i)), exclusive, &held[i]); err != nil {
				t.Fatal(err)
			}
		}
		refused := atOnce(table, n, func(i int) error {
			err := table.Acquire(t.Context(), key(i+1), exclusive, &asked[i], withSelf)
			held[i].Release()
			asked[i].Release()
			return err
		})
		if refused != 1 {
			t.Errorf("%d of %d refused, want 1", refused, n)
		}
		expectIdle(t, table)
	}
}

// Nor is one refused of two who close a cycle at once that is one by turns alone.
func TestNoneOfThoseWhoCloseACycleOfTurnsAtOnceIsRefused(t *testing.T) {
	for range 20 { // either looks first
		s := &gateScene{scene{t: t}, rwlock.NewTable(), rwlock.NewGate("gate")}
		var owners [2]rwlock.Owner
		var held, asked [2]rwlock.Hold
		for i := range owners {
			held[i].Owner, held[i].Kind, asked[i].Owner = &owners[i], rwlock.Section, &owners[i]
			if err := try(keyOf(s.users, fmt.Sprint(i+1)), exclusive, &held[i]); err != nil {
				t.Fatal(err)
			}
		}
		var group [2]rwlock.Hold
		var working sync.WaitGroup
		working.Go(func() {
			first, third := s.user("1"), s.user("3")
			first.Mode, first.Hold, third.Mode, third.Hold = exclusive, &group[0], exclusive, &group[1]
			if err := rwlock.AcquireAll(t.Context(), withSelf, first, third); err != nil {
				t.Error(err)
			}
			group[0].Release()
			group[1].Release()
		})
		awaitWaiting(s.users, 2)
		refused := atOnce(s.users, 2, func(i int) error { // the first asks for 2, the second for 3
			err := s.users.Acquire(t.Context(), fmt.Sprint(i+2), exclusive, &asked[i], withSelf)
			asked[i].Release()
			held[i].Release()
			return err
		})
		working.Wait()
		if refused > 0 {
			t.Fatalf("%d refused, want none", refused)
		}
		expectIdle(t, s.users)
	}
}

// atOnce has n goroutines begin to wait in the table before any looks for a deadlock, and
// returns how many are refused.
func atOnce(table *rwlock.Table, n int, acquire func(i int) error) (refused int) {
	goOn := rwlock.HoldSearches()
	waiting := awaitWaiting(table, 0)
	errs := make([]error, n)
	var working sync.WaitGroup
	for i := range errs {
		working.Go(func() { errs[i] = acquire(i) })
	}
	awaitWaiting(table, waiting+n)
	goOn()
	working.Wait()
	for _, err := range errs {
		if errors.Is(err, rwlock.ErrDeadlock) {
			refused++
		}
	}
	return refused
}

// awaitWaiting returns when at least n holds wait in the table, and how many do.
func awaitWaiting(table *rwlock.Table, n int) (waiting int) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); runtime.Gosched() {
		waiting = 0
		for _, i := range table.Snapshot() {
			if i.Waiting {
				waiting++
			}
		}
		if waiting >= n {
			break
		}
	}
	return waiting
}
