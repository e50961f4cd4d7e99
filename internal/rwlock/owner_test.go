package rwlock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// as makes the requests that follow those of an owner, of the given kind.
func as(owner *rwlock.Owner, kind rwlock.Kind, l locker) locker {
	return func(ctx context.Context, mode rwlock.Mode, h *rwlock.Hold, w rwlock.Wait) error {
		h.Owner, h.Kind = owner, kind
		return l(ctx, mode, h, w)
	}
}

// selfWait is the bound of a wait for oneself.
const selfWait = 5 * time.Second

var withSelf = rwlock.Wait{Timeout: long, Self: selfWait}

// The decision table for one owner. The requests of a row are granted, or not, beside the
// holds of a column, of which the first is shared and the second exclusive: "." for
// granted, "x" for a wait.
func TestBesideOwnHold(t *testing.T) {
	kinds := []rwlock.Kind{rwlock.Leaf, rwlock.Rows, rwlock.Tx, rwlock.Session, rwlock.Section}
	for request, want := range map[string]string{
		//                       leaf rows tx  session section
		"shared statement":      ".x   ..   ..  ..      ..",
		"exclusive statement":   "xx   ..   ..  ..      ..",
		"shared rows":           ".x   ..   ..  ..      ..",
		"exclusive rows":        "xx   ..   ..  ..      ..",
		"shared transaction":    ".x   ..   ..  ..      ..",
		"exclusive transaction": ".x   ..   xx  xx      xx",
		"shared session":        ".x   ..   ..  ..      ..",
		"exclusive session":     "xx   ..   xx  xx      xx",
		"shared section":        ".x   ..   ..  ..      ..",
		"exclusive section":     "xx   ..   xx  xx      xx",
	} {
		for i, columns := range strings.Fields(want) {
			for mode, verdict := range columns {
				held := rwlock.Hold{Kind: kinds[i]}
				t.Run(fmt.Sprintf("%s beside %v %v", request, rwlock.Mode(mode), held.Kind), func(t *testing.T) {
					owner := new(rwlock.Owner)
					lock := rwlock.NewLock("l", 0)
					held.Owner = owner
					if err := try(lock.Acquire, rwlock.Mode(mode), &held); err != nil {
						t.Fatal(err)
					}
					wantMode, kind := parseRequest(request, kinds)
					asked := rwlock.Hold{Owner: owner, Kind: kind}
					err := try(lock.Acquire, wantMode, &asked)
					if granted := err == nil; granted != (verdict == '.') {
						t.Errorf("error %v, want %c", err, verdict)
					}
					stranger := rwlock.Hold{Owner: new(rwlock.Owner), Kind: kind}
					err = try(lock.Acquire, wantMode, &stranger)
					if granted := err == nil; granted != (mode == 0 && wantMode == shared) {
						t.Errorf("a stranger: %v", err)
					}
				})
			}
		}
	}
}

func parseRequest(request string, kinds []rwlock.Kind) (rwlock.Mode, rwlock.Kind) {
	mode, name, _ := strings.Cut(request, " ")
	for _, kind := range kinds {
		if kind.String() == name {
			return modeOf(rune(map[string]byte{"shared": 'r', "exclusive": 'w'}[mode])), kind
		}
	}
	panic(request)
}

func TestSlotsKnowNoOwner(t *testing.T) {
	owner, pool := new(rwlock.Owner), rwlock.NewLock("pool", 1)
	held := rwlock.Hold{Owner: owner, Kind: rwlock.Tx}
	if err := try(pool.Acquire, shared, &held); err != nil {
		t.Fatal(err)
	}
	var werr *rwlock.WaitError
	err := try(as(owner, rwlock.Leaf, pool.Acquire), shared, new(rwlock.Hold))
	if !errors.As(err, &werr) || werr.Held {
		t.Errorf("a second slot of one: %v, want a refusal that is not about an upgrade", err)
	}
}

func TestReadBehindOwnReadPassesTheQueue(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		owner := new(rwlock.Owner)
		rows := s.ask("rows", shared, as(owner, rwlock.Rows, l))
		writer := s.ask("writer", exclusive, l)
		stranger := s.ask("stranger", shared, l)
		again := s.ask("again", shared, as(owner, rwlock.Leaf, l))
		s.expectGranted("rows", "again")
		again.release()
		rows.release()
		s.expectGranted("writer")
		writer.release()
		s.expectGranted("stranger")
		stranger.release()
	})
}

// The first of them is granted because the own read, not the own write, is on hold.
func TestUpgradeComesBeforeQueuedStrangers(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		owner := new(rwlock.Owner)
		rows := s.ask("rows", shared, as(owner, rwlock.Rows, l))
		reader := s.ask("reader", shared, l)
		writer := s.ask("writer", exclusive, l)
		upgrade := s.ask("upgrade", exclusive, as(owner, rwlock.Leaf, l))
		s.expectGranted("rows", "reader")
		reader.release()
		s.expectGranted("upgrade")
		upgrade.release()
		rows.release()
		s.expectGranted("writer")
		writer.release()
	})
}

func TestUpgradeTellsWhetherOneselfHoldsTheLock(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		owner := new(rwlock.Owner)
		rows := s.ask("rows", shared, as(owner, rwlock.Rows, l))
		exec := as(owner, rwlock.Leaf, l)

		var h rwlock.Hold
		if err := try(exec, exclusive, &h); err != nil {
			t.Errorf("the only reader: %v, want an upgrade in place", err)
		}
		h.Release()

		reader := s.ask("reader", shared, as(nil, rwlock.Rows, l)) // nobody's is no stranger's own
		for name, mayUpgrade := range map[string]bool{"own": true, "stranger": false} {
			asked := l
			if mayUpgrade {
				asked = exec
			}
			var werr *rwlock.WaitError
			if err := try(asked, exclusive, new(rwlock.Hold)); !errors.As(err, &werr) || werr.Held != mayUpgrade {
				t.Errorf("%s: %v, want Held %v", name, err, mayUpgrade)
			} else if mayUpgrade && werr.Blocker.Tag != "reader" {
				t.Errorf("blocker %v, want the other reader", werr.Blocker)
			}
		}

		// What one does then: give up the own hold, and wait like anybody.
		rows.release()
		late := s.ask("late", exclusive, exec)
		reader.release()
		s.expectGranted("rows", "reader", "late")
		late.release()
	})
}

// A goroutine that waits may pass the queue as soon as another one of its owner has the lock.
func TestWaiterIsPromotedWhenItsOwnerGetsTheLock(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		owner := new(rwlock.Owner)
		first := s.ask("first", exclusive, l)
		tx := s.askWithin(withSelf, "tx", exclusive, as(owner, rwlock.Tx, l))
		stranger := s.ask("stranger", exclusive, l)
		query := s.askWithin(withSelf, "query", shared, as(owner, rwlock.Leaf, l))
		first.release()
		s.expectGranted("first", "tx", "query")
		tx.release()
		query.release()
		s.expectGranted("stranger")
		stranger.release()
	})
}

// The one in front is promoted, and the other with it, who may outlive it.
func TestAllWaitersArePromotedWhenTheirOwnerGetsTheLock(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		owner := new(rwlock.Owner)
		first := s.ask("first", exclusive, l)
		reader := s.ask("reader", shared, l)
		rows := s.ask("rows", shared, as(owner, rwlock.Rows, l))
		stranger := s.ask("stranger", exclusive, l)
		w1 := s.ask("w1", exclusive, as(owner, rwlock.Leaf, l))
		w2 := s.ask("w2", exclusive, as(owner, rwlock.Leaf, l))
		first.release()
		s.expectGranted("first", "reader", "rows")
		w1.giveUp()
		reader.release()
		s.expectGranted("w2")
		s.releaseAll(w2, rows)
		s.expectGranted("stranger")
		stranger.release()
	})
}

// Once the own statement has ended, only the queue is in the way, which waits for the rows.
func TestWaiterIsPromotedWhenTheOwnHoldInItsWayEnds(t *testing.T) {
	for _, moved := range []bool{false, true} {
		eachLocker(t, func(t *testing.T, s *scene, l locker) {
			owner := new(rwlock.Owner)
			rows := s.ask("rows", shared, as(owner, rwlock.Rows, l))
			exec := s.ask("exec", exclusive, as(owner, rwlock.Leaf, l))
			stranger := s.ask("stranger", exclusive, l)
			query := s.askWithin(withSelf, "query", shared, as(owner, rwlock.Leaf, l))
			s.expectGranted("rows", "exec")
			if moved { // to nobody, who is in the way then
				var nobody rwlock.Hold
				exec.Move(&nobody)
				synctest.Wait()
				s.expectGranted()
				nobody.Release()
				synctest.Wait()
			}
			exec.release()
			s.expectGranted("query")
			s.releaseAll(query, rows)
			s.expectGranted("stranger")
			stranger.release()
		})
	}
}

func TestOwnRequestsAheadAreServedInTurn(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		owner := new(rwlock.Owner)
		rows := s.ask("rows", shared, as(owner, rwlock.Rows, l))
		reader := s.ask("reader", shared, l)
		exec := s.ask("exec", exclusive, as(owner, rwlock.Leaf, l))
		query := s.ask("query", shared, as(owner, rwlock.Leaf, l))
		s.expectGranted("rows", "reader")
		reader.release()
		s.expectGranted("exec")
		exec.release()
		s.expectGranted("query")
		s.releaseAll(query, rows)
	})
}

func TestStatementPassesAnOwnTransactionThatWaits(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		owner := new(rwlock.Owner)
		t1 := s.askWithin(withSelf, "t1", exclusive, as(owner, rwlock.Tx, l))
		t2 := s.askWithin(withSelf, "t2", exclusive, as(owner, rwlock.Tx, l))
		exec := s.ask("exec", exclusive, as(owner, rwlock.Leaf, l))
		s.expectGranted("t1", "exec")
		s.releaseAll(exec, t1)
		s.expectGranted("t2")
		t2.release()
	})
}

// An owner whose count is zero is not searched for, so none may be forgotten; and one that
// is not taken back costs a search for ever.
func TestOwnerCountsItsAwaitedHolds(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		ra := s.ask("ra", shared, as(a, rwlock.Rows, l))
		leaf := s.ask("leaf", shared, as(a, rwlock.Leaf, l))
		expectAwaited(t, a, 0)
		for range 2 { // the count stays for as long as the hold
			writer := s.ask("writer", exclusive, l)
			expectAwaited(t, a, 1)
			writer.giveUp()
		}
		writer := s.ask("writer", exclusive, l)
		again := s.ask("again", shared, as(a, rwlock.Rows, l)) // granted while one waits
		expectAwaited(t, a, 2)
		leaf.release()
		ra.release()
		expectAwaited(t, a, 1)
		var moved rwlock.Hold
		moved.Owner, moved.Kind = b, rwlock.Tx
		again.Move(&moved)
		expectAwaited(t, a, 0)
		expectAwaited(t, b, 1)
		moved.Release()
		synctest.Wait()
		expectAwaited(t, b, 0)
		writer.release()

		tx := s.ask("tx", shared, as(a, rwlock.Tx, l))
		tx.Move(&moved) // nobody waits
		expectAwaited(t, b, 0)
		moved.Release()
	})
}

func expectAwaited(t *testing.T, owner *rwlock.Owner, want int) {
	t.Helper()
	if got := owner.Awaited(); got != want {
		t.Errorf("%d awaited holds, want %d", got, want)
	}
}

// An owner with parallel transactions must not keep strangers waiting for ever.
func TestOwnTransactionsDoNotPassTheQueue(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		owner := new(rwlock.Owner)
		tx := as(owner, rwlock.Tx, l)
		t1 := s.askWithin(withSelf, "t1", exclusive, tx)
		t2 := s.askWithin(withSelf, "t2", exclusive, tx)
		stranger := s.ask("stranger", exclusive, l)
		t3 := s.askWithin(withSelf, "t3", exclusive, tx)
		s.expectGranted("t1")
		t1.release()
		s.expectGranted("t2")
		t2.release()
		s.expectGranted("stranger")
		stranger.release()
		s.expectGranted("t3")
		t3.release()
	})
}

func TestWaitForOneselfIsBounded(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		owner := new(rwlock.Owner)
		tx := s.ask("tx", exclusive, as(owner, rwlock.Tx, l))
		time.Sleep(time.Minute) // before it is in anybody's way
		start := time.Now()
		second := s.askWithin(withSelf, "second", exclusive, as(owner, rwlock.Tx, l))
		time.Sleep(selfWait - 1)
		synctest.Wait()
		if second.settled.Load() {
			t.Fatalf("ended after %v: %v", time.Since(start), second.err)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		second.expectErr(rwlock.ErrDeadlock)
		var werr *rwlock.WaitError
		if errors.As(second.err, &werr); werr.Blocker.Tag != "tx" || werr.Blocker.Owner != owner || !werr.Held || werr.Waited != selfWait || len(werr.Cycle) != 2 {
			t.Errorf("error %#v, want that tx is named", werr)
		}
		third := s.ask("third", exclusive, as(owner, rwlock.Tx, l)) // without Self
		third.expectErr(rwlock.ErrDeadlock)
		tx.release()
	})
}

// It is the hold in the way that must not last, not the wait.
func TestManyShortOwnHoldsAreNoDeadlock(t *testing.T) {
	for _, row := range []struct {
		length int
		kind   rwlock.Kind
		lasts  time.Duration
	}{
		{1000, rwlock.Leaf, time.Millisecond},
		{1000, rwlock.Tx, time.Millisecond},
		{50, rwlock.Leaf, selfWait - time.Second},
		{50, rwlock.Tx, selfWait - time.Second},
	} {
		eachLocker(t, func(t *testing.T, s *scene, l locker) {
			owner := new(rwlock.Owner)
			var working sync.WaitGroup
			for range row.length {
				working.Go(func() {
					var h rwlock.Hold
					if err := as(owner, row.kind, l)(t.Context(), exclusive, &h, withSelf); err != nil {
						t.Error(err)
					}
					time.Sleep(row.lasts)
					h.Release()
				})
			}
			working.Wait()
		})
	}
}

// One that takes its place late has its own time.
func TestOwnHoldThatComesLaterIsBoundedFromThen(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		owner := new(rwlock.Owner)
		stranger := s.ask("stranger", exclusive, l)
		tx := s.askWithin(withSelf, "tx", exclusive, as(owner, rwlock.Tx, l))
		second := s.askWithin(withSelf, "second", exclusive, as(owner, rwlock.Tx, l))
		time.Sleep(selfWait*2 + time.Second)
		stranger.release()
		time.Sleep(selfWait - 1)
		synctest.Wait()
		if second.settled.Load() {
			t.Fatalf("too early: %v", second.err)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		second.expectErr(rwlock.ErrDeadlock)
		var werr *rwlock.WaitError
		if errors.As(second.err, &werr); werr.Waited != selfWait*3+time.Second {
			t.Errorf("waited %v, want the whole wait", werr.Waited)
		}
		tx.release()
	})
}

func TestOldestOwnHoldIsNamed(t *testing.T) {
	lock, owner := rwlock.NewLock("l", 0), new(rwlock.Owner)
	for _, name := range []string{"leaf", "first", "second"} {
		h := rwlock.Hold{Owner: owner, Kind: rwlock.Tx, Label: rwlock.Tagged(name)}
		if name == "leaf" { // is in nobody's way
			h.Kind = rwlock.Leaf
		}
		if err := try(lock.Acquire, shared, &h); err != nil {
			t.Fatal(err)
		}
	}
	var werr *rwlock.WaitError
	err := as(owner, rwlock.Tx, lock.Acquire)(t.Context(), exclusive, new(rwlock.Hold), rwlock.Wait{Timeout: long})
	if !errors.As(err, &werr) || werr.Blocker.Tag != "first" {
		t.Errorf("%v, want the first transaction named", err)
	}
}

func TestOldestOwnHoldOfSeveralIsNamed(t *testing.T) {
	locks := []*rwlock.Lock{rwlock.NewLock("a", 0), rwlock.NewLock("b", 0)}
	for oldest := range locks {
		owner := new(rwlock.Owner)
		var held, asked [2]rwlock.Hold
		for i := range locks {
			l := locks[(oldest+i)%2]
			held[i].Owner, held[i].Kind = owner, rwlock.Tx
			if err := try(l.Acquire, exclusive, &held[i]); err != nil {
				t.Fatal(err)
			}
			asked[i].Owner, asked[i].Kind = owner, rwlock.Tx
			time.Sleep(time.Microsecond)
		}
		err := rwlock.AcquireAll(t.Context(), rwlock.Wait{Timeout: long},
			rwlock.Request{Lock: locks[0], Mode: exclusive, Hold: &asked[0]},
			rwlock.Request{Lock: locks[1], Mode: exclusive, Hold: &asked[1]})
		var werr *rwlock.WaitError
		if want := locks[oldest].Snapshot()[0].Key; !errors.As(err, &werr) || werr.Key != want || werr.Blocker.Key != want {
			t.Errorf("%v, want the hold of %q named", err, want)
		}
		held[0].Release()
		held[1].Release()
	}
}

// It is the youngest of them that must not last.
func TestOwnSlotThatIsTakenLateIsBoundedFromThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, pool, owner := &scene{t: t}, rwlock.NewLock("pool", 2), new(rwlock.Owner)
		tx := as(owner, rwlock.Tx, pool.Acquire)
		first := s.ask("first", shared, tx)
		stranger := s.ask("stranger", shared, pool.Acquire)
		second := s.askWithin(withSelf, "second", shared, tx)
		third := s.askWithin(withSelf, "third", shared, tx)
		time.Sleep(selfWait * 2)
		s.expectGranted("first", "stranger")
		stranger.release()
		time.Sleep(selfWait - 1)
		s.expectGranted("second")
		if third.settled.Load() {
			t.Fatalf("too early: %v", third.err)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		third.expectErr(rwlock.ErrDeadlock)
		s.releaseAll(first, second)
		expectIdle(t, pool)
	})
}

func TestAllOwnSlotsAreAWaitForOneself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, pool, owner := &scene{t: t}, rwlock.NewLock("pool", 2), new(rwlock.Owner)
		tx := as(owner, rwlock.Tx, pool.Acquire)
		first := s.ask("first", shared, tx)
		second := s.ask("second", shared, tx)
		third := s.askWithin(withSelf, "third", shared, tx)
		time.Sleep(selfWait / 2)
		first.release()
		s.expectGranted("first", "second", "third")
		fourth := s.askWithin(withSelf, "fourth", shared, tx)
		time.Sleep(selfWait)
		synctest.Wait()
		fourth.expectErr(rwlock.ErrDeadlock)
		second.release()
		third.release()
		expectIdle(t, pool)
	})
}

// A slot that was nobody's counts as its new owner's, for those who wait already and for
// the deadlock search, until it is given back.
func TestSetOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, pool := &scene{t: t}, rwlock.NewLock("pool", 1)
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		slot := s.ask("slot", shared, as(nil, rwlock.Session, pool.Acquire))
		table := rwlock.NewTable()
		user := s.section(b, "user", exclusive, keyOf(table, "1"))
		waits := s.askWithin(withSelf, "waits", shared, as(b, rwlock.Session, pool.Acquire))
		slot.SetOwner(a)
		expectAwaited(t, a, 1)
		joins := s.section(a, "joins", exclusive, keyOf(table, "1"))
		joins.expectErr(rwlock.ErrDeadlock)
		slot.SetOwner(nil)
		expectAwaited(t, a, 0)
		slot.SetOwner(a)
		slot.release()
		expectAwaited(t, a, 0)
		s.expectGranted("slot", "user", "waits")
		waits.release()
		user.release()
		new(rwlock.Hold).SetOwner(a) // nothing to own
		expectIdle(t, pool)
		expectIdle(t, table)
	})
}

// What waits behind a stranger's hold goes on when that becomes its own.
func TestSetOwnerMakesWay(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		owner := new(rwlock.Owner)
		tx := s.ask("tx", exclusive, as(nil, rwlock.Tx, l))
		stranger := s.ask("stranger", exclusive, l)
		query := s.ask("query", shared, as(owner, rwlock.Leaf, l))
		s.expectGranted("tx")
		tx.SetOwner(owner)
		synctest.Wait()
		s.expectGranted("query")
		s.releaseAll(query, tx)
		s.expectGranted("stranger")
		stranger.release()
	})
}
