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

// all asks for several locks at once.
func (s *gateScene) all(owner *rwlock.Owner, name string, mode rwlock.Mode, reqs ...rwlock.Request) *group {
	g := &group{}
	for i := range reqs {
		h := &rwlock.Hold{Owner: owner, Label: rwlock.Tagged(name)}
		reqs[i].Mode, reqs[i].Hold = mode, h
		g.holds = append(g.holds, h)
	}
	g.request = s.start(name, func(ctx context.Context, _ *rwlock.Hold) error {
		return rwlock.AcquireAll(ctx, withSelf, reqs...)
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
		group := s.all(nil, "group", exclusive, s.user("1"), s.user("3"))
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
		behindA := s.all(nil, "behindA", exclusive, s.user("1"), s.user("3"))
		behindB := s.all(nil, "behindB", exclusive, s.user("2"), s.user("4"))
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

// Who is put ahead gets in the way of those whom it passes: here of x1, since x has rows there
// that are in the way of v. So x1 is put ahead, too.
func TestCycleThatIsClosedByPuttingAhead(t *testing.T) {
	atGate(t, func(s *gateScene) {
		a, v, x := new(rwlock.Owner), new(rwlock.Owner), new(rwlock.Owner)
		a4 := s.section(a, "a4", exclusive, keyOf(s.users, "4"))
		v5 := s.section(v, "v5", exclusive, keyOf(s.users, "5"))
		x2 := s.ask("x2", shared, as(x, rwlock.Rows, keyOf(s.users, "2")))
		other := s.ask("other", exclusive, keyOf(s.users, "1"))
		behindA := s.all(nil, "behindA", exclusive, s.user("3"), s.user("4"))
		x1 := s.section(x, "x1", exclusive, keyOf(s.users, "1"))
		several := s.all(v, "several", exclusive, s.user("1"), s.user("2"), s.user("3"))
		a5 := s.section(a, "a5", exclusive, keyOf(s.users, "5"))
		s.expectGranted("a4", "v5", "x2", "other")
		other.release()
		s.expectGranted("x1")
		s.releaseAll(x1, x2)
		s.expectGranted("several")
		several.release()
		v5.release()
		s.expectGranted("a5")
		s.releaseAll(a5, a4)
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
		reader := s.all(b, "reader", shared, s.user("1"), s.user("7"))
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
		reader := s.all(b, "reader", shared, rwlock.Request{Lock: s.gate}, s.user("7"))
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
		errs := atOnce(table, n, n, func(i int) error {
			err := table.Acquire(t.Context(), key(i+1), exclusive, &asked[i], withSelf)
			held[i].Release()
			asked[i].Release()
			return err
		})
		if refused(errs) != 1 {
			t.Errorf("%v, want one refused", errs)
		}
		expectIdle(t, table)
	}
}

// Of two waits that begin in the same moment, one closes two cycles and the other is in one of
// them: it is enough to refuse the first, whoever looks first.
func TestNobodyIsRefusedForOneWhoIsAboutToBeRefused(t *testing.T) {
	for last := range 2 {
		table, c3, c2 := rwlock.NewTable(), new(rwlock.Owner), new(rwlock.Hold)
		var owners [2]rwlock.Owner // the first has 1 and asks for 2, the second has 2 and asks for 1 and 3
		held := []*rwlock.Hold{{Owner: &owners[0]}, {Owner: &owners[1]}, {Owner: c3}}
		for i, h := range held {
			h.Kind = rwlock.Section
			if err := try(keyOf(table, fmt.Sprint(i+1)), exclusive, h); err != nil {
				t.Fatal(err)
			}
		}
		var working sync.WaitGroup
		working.Go(func() {
			c2.Owner = c3
			if err := keyOf(table, "2")(t.Context(), exclusive, c2, withSelf); err != nil {
				t.Error(err)
			}
			c2.Release()
			held[2].Release()
		})
		working.Go(func() { // so that the first looks
			var h rwlock.Hold
			if err := keyOf(table, "1")(t.Context(), exclusive, &h, withSelf); err != nil {
				t.Error(err)
			}
			h.Release()
		})
		awaitWaiting(table, 2)
		errs := atOnce(table, 3, 2, func(i int) error {
			if i == last { // looks second
				awaitWaiting(table, 4-last)
			}
			defer held[i].Release()
			if i == 0 {
				h := rwlock.Hold{Owner: &owners[0]}
				defer h.Release()
				return table.Acquire(t.Context(), "2", exclusive, &h, withSelf)
			}
			h1, h3 := rwlock.Hold{Owner: &owners[1]}, rwlock.Hold{Owner: &owners[1]}
			defer h1.Release()
			defer h3.Release()
			return rwlock.AcquireAll(t.Context(), withSelf,
				rwlock.Request{Table: table, Key: "1", Mode: exclusive, Hold: &h1},
				rwlock.Request{Table: table, Key: "3", Mode: exclusive, Hold: &h3})
		})
		working.Wait()
		if errs[0] != nil || !errors.Is(errs[1], rwlock.ErrDeadlock) {
			t.Fatalf("%v, %v; want the second refused alone", errs[0], errs[1])
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
		errs := atOnce(s.users, 2, 2, func(i int) error { // the first asks for 2, the second for 3
			err := s.users.Acquire(t.Context(), fmt.Sprint(i+2), exclusive, &asked[i], withSelf)
			asked[i].Release()
			held[i].Release()
			return err
		})
		working.Wait()
		if refused(errs) > 0 {
			t.Fatalf("%v, want none refused", errs)
		}
		expectIdle(t, s.users)
	}
}

// atOnce has n goroutines begin to wait in the table, with so many holds, before any looks
// for a deadlock, and returns their errors.
func atOnce(table *rwlock.Table, holds, n int, acquire func(i int) error) []error {
	goOn := rwlock.HoldSearches()
	waiting := awaitWaiting(table, 0)
	errs := make([]error, n)
	var working sync.WaitGroup
	for i := range errs {
		working.Go(func() { errs[i] = acquire(i) })
	}
	awaitWaiting(table, waiting+holds)
	goOn()
	working.Wait()
	return errs
}

// refused returns how many of the errors are deadlocks.
func refused(errs []error) (n int) {
	for _, err := range errs {
		if errors.Is(err, rwlock.ErrDeadlock) {
			n++
		}
	}
	return n
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
