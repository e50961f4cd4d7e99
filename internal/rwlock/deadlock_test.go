package rwlock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// inDeadlock runs a test on a table in a bubble, and checks that it leaves nothing.
func inDeadlock(t *testing.T, test func(s *scene, table *rwlock.Table)) {
	synctest.Test(t, func(t *testing.T) {
		table := rwlock.NewTable()
		test(&scene{t: t}, table)
		expectIdle(t, table)
	})
}

// section asks for a section of an owner. It waits for itself if it must.
func (s *scene) section(owner *rwlock.Owner, name string, mode rwlock.Mode, l locker) *request {
	return s.askWithin(withSelf, name, mode, as(owner, rwlock.Section, l))
}

func (s *scene) releaseAll(requests ...*request) {
	for _, r := range requests {
		r.release()
	}
}

func TestOppositeOrderIsADeadlock(t *testing.T) {
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		a1 := s.section(a, "a1", exclusive, keyOf(table, "1"))
		b2 := s.section(b, "b2", exclusive, keyOf(table, "2"))
		a2 := s.section(a, "a2", exclusive, keyOf(table, "2"))
		time.Sleep(time.Minute)
		if a2.settled.Load() {
			s.t.Fatalf("refused while b could go on: %v", a2.err)
		}
		b1 := s.section(b, "b1", shared, keyOf(table, "1"))
		b1.expectErr(rwlock.ErrDeadlock)
		const want = `deadlock: shared lock of "1" not granted after 0s: section "a1" has held it for 1m0s (exclusive)` +
			`; its owner waits for "2": section "b2" has held it for 1m0s (exclusive)`
		if got := b1.err.Error(); got != want {
			s.t.Errorf("got  %s\nwant %s", got, want)
		}
		s.expectGranted("a1", "b2")
		b2.release()
		s.expectGranted("a2")
		s.releaseAll(a1, a2)
	})
}

func TestCycleOfAnError(t *testing.T) {
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		const n = 5
		var owners [n]rwlock.Owner
		var held, waiting []*request
		for i := range n {
			held = append(held, s.section(&owners[i], fmt.Sprint("h", i), exclusive, keyOf(table, fmt.Sprint(i))))
		}
		for i := range n {
			waiting = append(waiting, s.section(&owners[i], fmt.Sprint("w", i), exclusive, keyOf(table, fmt.Sprint((i+1)%n))))
		}
		last := waiting[n-1]
		last.expectErr(rwlock.ErrDeadlock)
		var werr *rwlock.WaitError
		errors.As(last.err, &werr)
		var got []string
		for _, i := range werr.Cycle {
			got = append(got, i.Tag)
		}
		if want := "w4 h0 w0 h1 w1 h2 w2 h3 w3 h4"; strings.Join(got, " ") != want {
			s.t.Errorf("cycle %v, want %s", got, want)
		}
		for i := n - 1; i >= 0; i-- { // each makes way for the one before
			held[i].release()
			if i > 0 && !waiting[i-1].Held() {
				s.t.Errorf("%d does not go on", i-1)
			}
			if i < n-1 {
				waiting[i].release()
			}
		}
	})
}

func TestTwoUpgradesAreADeadlock(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		ra := s.ask("ra", shared, as(a, rwlock.Rows, l))
		rb := s.ask("rb", shared, as(b, rwlock.Rows, l))
		wa := s.askWithin(withSelf, "wa", exclusive, as(a, rwlock.Leaf, l))
		wb := s.askWithin(withSelf, "wb", exclusive, as(b, rwlock.Leaf, l))
		wb.expectErr(rwlock.ErrDeadlock)
		s.expectGranted("ra", "rb")
		rb.release()
		s.expectGranted("wa")
		s.releaseAll(wa, ra)
	})
}

func TestStrangersAreNotKnownToBeStuck(t *testing.T) {
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		a := new(rwlock.Owner)
		a1 := s.section(a, "a1", exclusive, keyOf(table, "1"))
		x2 := s.section(nil, "x2", exclusive, keyOf(table, "2"))
		a2 := s.section(a, "a2", exclusive, keyOf(table, "2"))
		x1 := s.section(nil, "x1", exclusive, keyOf(table, "1"))
		s.expectGranted("a1", "x2")
		x2.release()
		a1.release()
		s.expectGranted("a2", "x1")
		s.releaseAll(a2, x1)
	})
}

// Who wants a lock alone waits for all holders: one that is stuck is enough.
func TestOneStuckHolderIsEnoughForAnExclusiveRequest(t *testing.T) {
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		lock := rwlock.NewLock("l", 0)
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		a1 := s.section(a, "a1", exclusive, keyOf(table, "1"))
		rb := s.ask("rb", shared, as(b, rwlock.Tx, lock.Acquire))
		x := s.ask("x", shared, lock.Acquire)
		b1 := s.section(b, "b1", exclusive, keyOf(table, "1"))
		all := s.section(a, "all", exclusive, lock.Acquire)
		all.expectErr(rwlock.ErrDeadlock)
		s.expectGranted("a1", "rb", "x")
		s.releaseAll(a1, b1, rb, x)
		expectIdle(s.t, lock)
	})
}

// A statement ends by itself, unless it waits for the next lock itself.
func TestStatementIsStuckOnlyIfItsCallIs(t *testing.T) {
	for links := range 3 { // from the wait to the statement; none if it belongs to another call
		inDeadlock(t, func(s *scene, table *rwlock.Table) {
			pool := rwlock.NewLock("pool", 1)
			a, b := new(rwlock.Owner), new(rwlock.Owner)
			tx := s.ask("tx", shared, as(b, rwlock.Tx, pool.Acquire))
			exec := s.ask("exec", exclusive, as(a, rwlock.Leaf, keyOf(table, "1")))
			waits := s.ask("waits", exclusive, as(b, rwlock.Leaf, keyOf(table, "1")))
			slot := s.askWithin(withSelf, "slot", shared, func(ctx context.Context, mode rwlock.Mode, h *rwlock.Hold, w rwlock.Wait) error {
				switch links {
				case 1:
					h.With = &exec.Hold
				case 2:
					h.With = &rwlock.Hold{Owner: a, With: &exec.Hold}
				}
				return as(a, rwlock.Leaf, pool.Acquire)(ctx, mode, h, w)
			})
			s.expectGranted("tx", "exec")
			if links > 0 {
				slot.expectErr(rwlock.ErrDeadlock)
			} else if slot.settled.Load() {
				s.t.Errorf("refused while a statement runs: %v", slot.err)
			}
			exec.release()
			s.expectGranted("waits")
			s.releaseAll(waits, tx, slot)
			expectIdle(s.t, pool)
		})
	}
}

// The same, in the other order: the statement waits first.
func TestStatementThatWaitsIsFoundLater(t *testing.T) {
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		pool := rwlock.NewLock("pool", 1)
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		tx := s.ask("tx", shared, as(b, rwlock.Tx, pool.Acquire))
		exec := s.ask("exec", exclusive, as(a, rwlock.Leaf, keyOf(table, "1")))
		slot := s.askWithin(withSelf, "slot", shared, func(ctx context.Context, mode rwlock.Mode, h *rwlock.Hold, w rwlock.Wait) error {
			h.With = &exec.Hold
			return as(a, rwlock.Leaf, pool.Acquire)(ctx, mode, h, w)
		})
		waits := s.ask("waits", exclusive, as(b, rwlock.Leaf, keyOf(table, "1")))
		waits.expectErr(rwlock.ErrDeadlock)
		tx.release()
		s.expectGranted("tx", "exec", "slot")
		s.releaseAll(slot, exec)
	})
}

// All slots are held by transactions that ask for one more: there must be an error, and
// one is enough. With one that is held by somebody who goes on, there must be none.
func TestAllSlotsPinned(t *testing.T) {
	for _, othersGoOn := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			const n = 5
			s, pool := &scene{t: t}, rwlock.NewLock("pool", n)
			var owners [n]rwlock.Owner
			var txs, more []*request
			for i := range n {
				txs = append(txs, s.askWithin(withSelf, "tx", shared, as(&owners[i], rwlock.Tx, pool.Acquire)))
			}
			refused := 0
			asking := n
			if othersGoOn {
				asking--
			}
			for i := range asking {
				more = append(more, s.askWithin(withSelf, "more", shared, as(&owners[i], rwlock.Leaf, pool.Acquire)))
			}
			for _, r := range more {
				if errors.Is(r.err, rwlock.ErrDeadlock) {
					refused++
				}
			}
			if want := n - asking ^ 1; refused != want {
				t.Errorf("%d refused, want %d", refused, want)
			}
			txs[n-1].release() // the one refused rolls back, or the one that goes on ends
			for _, r := range more[:n-1] {
				if r.release(); r.err != nil {
					t.Error(r.err)
				}
			}
			s.releaseAll(txs...)
			expectIdle(t, pool)
		})
	}
}

func TestGroupsAreInTheGraph(t *testing.T) {
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		a1 := s.section(a, "a1", exclusive, keyOf(table, "1"))
		b2 := s.section(b, "b2", exclusive, keyOf(table, "2"))
		var h3, h1 rwlock.Hold
		h3.Owner, h1.Owner = b, b
		group := s.start("group", func(ctx context.Context, _ *rwlock.Hold) error {
			return rwlock.AcquireAll(ctx, withSelf,
				rwlock.Request{Table: table, Key: "3", Mode: exclusive, Hold: &h3},
				rwlock.Request{Table: table, Key: "1", Mode: exclusive, Hold: &h1})
		})
		a2 := s.section(a, "a2", exclusive, keyOf(table, "2"))
		a2.expectErr(rwlock.ErrDeadlock)
		a1.release()
		s.expectGranted("a1", "b2", "group")

		// The group waits no more, so b can be stuck again.
		a4 := s.section(a, "a4", exclusive, keyOf(table, "4"))
		b4 := s.section(b, "b4", exclusive, keyOf(table, "4"))
		again := s.section(a, "again", exclusive, keyOf(table, "2"))
		again.expectErr(rwlock.ErrDeadlock)
		a4.release()
		s.expectGranted("a4", "b4")
		b4.release()

		h1.Release()
		h3.Release()
		group.release()
		b2.release()
	})
}

// Who waits for the section of an owner must not be in that owner's way at another
// lock, which nobody has.
func TestTurnIsGivenUpToTheOwnerOneWaitsFor(t *testing.T) {
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		a := new(rwlock.Owner)
		section := s.section(a, "section", exclusive, keyOf(table, "user"))
		group := s.askAll("group", exclusive, table, "user", "gate")
		gate := s.askWithin(withSelf, "gate", exclusive, as(a, rwlock.Leaf, keyOf(table, "gate")))
		s.expectGranted("section", "gate")
		s.releaseAll(gate, section)
		s.expectGranted("group")
		group.release()
	})
}

// What becomes certain only when another goroutine has ended is found at the next look.
func TestDeadlockThatBecomesCertainLater(t *testing.T) {
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		a1 := s.section(a, "a1", exclusive, keyOf(table, "1"))
		b2 := s.section(b, "b2", exclusive, keyOf(table, "2"))
		x3 := s.ask("x3", exclusive, keyOf(table, "3"))
		other := s.askWithin(withSelf, "other", exclusive, as(a, rwlock.Leaf, keyOf(table, "3")))
		a2 := s.section(a, "a2", exclusive, keyOf(table, "2"))
		b1 := s.section(b, "b1", exclusive, keyOf(table, "1"))
		time.Sleep(selfWait * 2)
		s.expectGranted("a1", "b2", "x3")
		other.giveUp()
		time.Sleep(selfWait)
		synctest.Wait()
		if errors.Is(a2.err, rwlock.ErrDeadlock) == errors.Is(b1.err, rwlock.ErrDeadlock) {
			s.t.Errorf("a2: %v, b1: %v, want one deadlock", a2.err, b1.err)
		}
		s.releaseAll(a1, b2, x3, a2, b1)
	})
}

// Who is refused late makes way, also for those who wait for several locks.
func TestLateRefusalMakesWay(t *testing.T) {
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		a1 := s.section(a, "a1", exclusive, keyOf(table, "1"))
		b2 := s.section(b, "b2", shared, keyOf(table, "2"))
		x3 := s.ask("x3", exclusive, keyOf(table, "3"))
		other := s.ask("other", exclusive, as(a, rwlock.Leaf, keyOf(table, "3")))
		a2 := s.section(a, "a2", exclusive, keyOf(table, "2"))
		time.Sleep(time.Second) // a2 looks before b1 does
		b1 := s.section(b, "b1", exclusive, keyOf(table, "1"))
		behind := s.askAll("behind", shared, table, "2", "4")
		other.giveUp()
		time.Sleep(selfWait - time.Second)
		synctest.Wait()
		a2.expectErr(rwlock.ErrDeadlock)
		var werr *rwlock.WaitError
		if errors.As(a2.err, &werr); werr.Waited != selfWait || werr.Held {
			s.t.Errorf("error %#v, want one after %v, of no upgrade", werr, selfWait)
		}
		s.expectGranted("a1", "b2", "x3", "behind")
		behind.release()
		s.releaseAll(a1, b1, b2, x3)
	})
}

// An own statement that has a slot ends, whatever the other slots wait for.
func TestOwnSlotOfAStatementWillBeFree(t *testing.T) {
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		pool := rwlock.NewLock("pool", 2)
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		a1 := s.section(a, "a1", exclusive, keyOf(table, "1"))
		query := s.ask("query", shared, as(a, rwlock.Leaf, pool.Acquire))
		tx := s.ask("tx", shared, as(b, rwlock.Tx, pool.Acquire))
		b1 := s.ask("b1", shared, as(b, rwlock.Leaf, keyOf(table, "1")))
		next := s.askWithin(withSelf, "next", shared, as(a, rwlock.Leaf, pool.Acquire))
		s.expectGranted("a1", "query", "tx")
		query.release()
		s.expectGranted("next")
		s.releaseAll(next, a1, b1, tx)
		expectIdle(s.t, pool)
	})
}

// Besides an own statement, which ends, a hold is in the way that does not.
func TestOwnStatementIsNotAllThatIsInTheWay(t *testing.T) {
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		a, b, c := new(rwlock.Owner), new(rwlock.Owner), new(rwlock.Owner)
		query := s.ask("query", shared, as(a, rwlock.Leaf, keyOf(table, "1")))
		b1 := s.section(b, "b1", shared, keyOf(table, "1"))
		c2 := s.section(c, "c2", exclusive, keyOf(table, "2"))
		exec := s.askWithin(withSelf, "exec", exclusive, as(a, rwlock.Leaf, keyOf(table, "1")))
		b2 := s.section(b, "b2", exclusive, keyOf(table, "2"))
		c1 := s.section(c, "c1", shared, keyOf(table, "1")) // b waits for c, so it may pass exec
		s.expectGranted("query", "b1", "c2", "c1")
		s.releaseAll(c1, c2)
		s.expectGranted("b2")
		s.releaseAll(b2, b1, query)
		s.expectGranted("exec")
		exec.release()
	})
}

// The owner's wait for its own slot does not show that it can go on.
func TestWaitForTheOwnSlotsHidesNoDeadlock(t *testing.T) {
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		pool := rwlock.NewLock("pool", 1)
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		tx := s.ask("tx", shared, as(a, rwlock.Tx, pool.Acquire))
		more := s.askWithin(withSelf, "more", shared, as(a, rwlock.Tx, pool.Acquire))
		a1 := s.section(a, "a1", exclusive, keyOf(table, "1"))
		b2 := s.section(b, "b2", exclusive, keyOf(table, "2"))
		a2 := s.section(a, "a2", exclusive, keyOf(table, "2"))
		b1 := s.section(b, "b1", exclusive, keyOf(table, "1"))
		b1.expectErr(rwlock.ErrDeadlock)
		b2.release()
		s.releaseAll(a2, a1, tx, more)
		expectIdle(s.t, pool)
	})
}

// Those ahead do not wait for each other: that the nearest goes on does not show that all do.
func TestEachWaiterAheadIsInTheWay(t *testing.T) {
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		a, b, c := new(rwlock.Owner), new(rwlock.Owner), new(rwlock.Owner)
		ra := s.ask("ra", shared, as(a, rwlock.Rows, keyOf(table, "1")))
		rb := s.ask("rb", shared, as(b, rwlock.Rows, keyOf(table, "1")))
		x3 := s.ask("x3", exclusive, keyOf(table, "3"))
		a3 := s.ask("a3", shared, as(a, rwlock.Leaf, keyOf(table, "3"))) // these two go on
		b3 := s.ask("b3", shared, as(b, rwlock.Leaf, keyOf(table, "3")))
		c2 := s.section(c, "c2", exclusive, keyOf(table, "2"))
		var a1, a2 rwlock.Hold
		a1.Owner, a2.Owner = a, a
		group := s.start("group", func(ctx context.Context, _ *rwlock.Hold) error {
			return rwlock.AcquireAll(ctx, withSelf,
				rwlock.Request{Table: table, Key: "1", Mode: exclusive, Hold: &a1},
				rwlock.Request{Table: table, Key: "2", Mode: exclusive, Hold: &a2})
		})
		b1 := s.askWithin(withSelf, "b1", exclusive, as(b, rwlock.Leaf, keyOf(table, "1")))
		c1 := s.section(c, "c1", shared, keyOf(table, "1")) // the group waits for c, so c may pass it
		s.expectGranted("ra", "rb", "x3", "c2", "c1")
		s.releaseAll(x3, a3, b3, c1, c2)
		rb.release()
		s.expectGranted("a3", "b3", "group")
		a1.Release()
		a2.Release()
		s.releaseAll(group, ra)
		s.expectGranted("b1")
		b1.release()
	})
}

// Two searches meet the same owners in opposite orders.
func TestSearchesDoNotWaitForEachOther(t *testing.T) {
	const n = 16
	var owners [n]rwlock.Owner
	var locks [2]*rwlock.Lock
	var holds [2 * n]rwlock.Hold
	for i := range locks {
		locks[i] = rwlock.NewLock(fmt.Sprint(i), 0)
		for j := range n {
			h := &holds[i*n+j]
			h.Owner, h.Kind = &owners[(j+i*(n-1-2*j))], rwlock.Rows
			if err := try(locks[i].Acquire, shared, h); err != nil {
				t.Fatal(err)
			}
		}
	}
	var working sync.WaitGroup
	for _, l := range locks {
		working.Go(func() {
			own := rwlock.NewLock("own", 0)
			owner := new(rwlock.Owner)
			held := rwlock.Hold{Owner: owner, Kind: rwlock.Section}
			if err := try(own.Acquire, exclusive, &held); err != nil {
				t.Error(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			working.Go(func() { own.Acquire(ctx, exclusive, new(rwlock.Hold), rwlock.Wait{Timeout: long}) })
			for owner.Awaited() == 0 {
				runtime.Gosched()
			}
			for range 500 {
				h := rwlock.Hold{Owner: owner}
				l.Acquire(t.Context(), exclusive, &h, rwlock.Wait{Timeout: time.Microsecond})
			}
			cancel()
			held.Release()
		})
	}
	working.Wait()
	for i := range holds {
		holds[i].Release()
	}
}

// Random order, one thread for each owner: every wait ends soon. Ordered: nobody is refused.
func TestStressOfOwners(t *testing.T) {
	for name, ordered := range map[string]bool{"any order": false, "ordered": true} {
		t.Run(name, func(t *testing.T) {
			s := newStress(t)
			var deadlocks atomic.Int64
			var working sync.WaitGroup
			for range 16 {
				working.Go(func() {
					rnd := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
					for range 300 {
						deadlocks.Add(int64(s.request(rnd, ordered)))
					}
				})
			}
			working.Wait()
			if n := deadlocks.Load(); ordered && n > 0 {
				t.Errorf("%d deadlocks where there can be none", n)
			}
			expectIdle(t, s.table)
		})
	}
}

// request is one owner that takes a few locks one after the other, sometimes two at once. It
// returns how often it was refused for a deadlock.
func (s *stress) request(rnd *rand.Rand, ordered bool) (deadlocks int) {
	owner := new(rwlock.Owner)
	var holds [7]rwlock.Hold
	picked := rnd.Perm(len(s.wards))[:1+rnd.IntN(4)]
	if ordered {
		slices.Sort(picked)
	}
	for len(picked) > 0 {
		n := min(1+rnd.IntN(4)/3, len(picked))
		var reqs []rwlock.Request
		for _, i := range picked[:n] {
			holds[i].Owner, holds[i].Kind = owner, rwlock.Kind(1+rnd.IntN(4))
			reqs = append(reqs, s.requestOf(s.wards[i], rwlock.Mode(rnd.IntN(2)), &holds[i]))
		}
		picked = picked[n:]
		err := s.ask(context.Background(), rwlock.Wait{Timeout: patience, Self: patience}, reqs)
		switch {
		case errors.Is(err, rwlock.ErrDeadlock):
			deadlocks++
		case err != nil:
			s.t.Errorf("a deadlock was missed, or a wake-up lost: %v", err)
		}
	}
	for i := range holds {
		holds[i].Release()
	}
	return deadlocks
}
