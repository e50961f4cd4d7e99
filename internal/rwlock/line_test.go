package rwlock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// inside returns a new owner inside another one.
func inside(outer *rwlock.Owner) *rwlock.Owner {
	o := new(rwlock.Owner)
	o.Within(outer)
	return o
}

// kindred returns owners in one line, the outermost first, and one that is inside the
// outermost besides.
func kindred() (line [3]*rwlock.Owner, sibling *rwlock.Owner) {
	outer := new(rwlock.Owner)
	middle := inside(outer)
	return [3]*rwlock.Owner{outer, middle, inside(middle)}, inside(outer)
}

func TestLines(t *testing.T) {
	line, sibling := kindred()
	for i, a := range line {
		for j, b := range line {
			if !a.InLine(b) {
				t.Errorf("%d and %d of a line are strangers", i, j)
			}
		}
		if a.InLine(sibling) != (i == 0) || sibling.InLine(a) != (i == 0) {
			t.Errorf("%d and the sibling", i)
		}
		if a.InLine(new(rwlock.Owner)) || a.InLine(nil) || (*rwlock.Owner)(nil).InLine(a) {
			t.Errorf("%d is in line with strangers", i)
		}
	}
	if (*rwlock.Owner)(nil).InLine(nil) {
		t.Error("nobody is in line with nobody")
	}
}

func TestLinesAreBounded(t *testing.T) {
	last := new(rwlock.Owner)
	for n := 1; ; n++ {
		o := new(rwlock.Owner)
		if !o.Within(last) {
			if o.InLine(last) || n < 10 {
				t.Errorf("no room for %d", n+1)
			}
			return
		}
		if last = o; n > 100 {
			t.Fatal("a line without end")
		}
	}
}

// What one part of a request has keeps no other from what that would get beside its own,
// in both directions; but it keeps siblings, who come from the same context.
func TestLineDoesNotBlockItself(t *testing.T) {
	for holder := range 4 {
		for asker := range 4 {
			eachLocker(t, func(t *testing.T, s *scene, l locker) {
				line, sibling := kindred()
				owners := append(line[:], sibling)
				const other = 3 // the sibling's index
				own := holder == asker || holder+asker == other && holder*asker == 0 || holder != other && asker != other
				tx := s.ask("tx", exclusive, as(owners[holder], rwlock.Tx, l))
				stranger := s.ask("stranger", exclusive, l) // in the queue
				query := s.ask("query", shared, as(owners[asker], rwlock.Leaf, l))
				if own {
					s.expectGranted("tx", "query") // and has passed the stranger
				} else {
					s.expectGranted("tx")
				}
				tx.release()
				s.releaseAll(query, stranger, query)
			})
		}
	}
}

// A request that waits is put ahead as soon as another of its line gets the lock.
func TestWaiterIsPromotedWhenItsLineGetsTheLock(t *testing.T) {
	for _, innerWaits := range []bool{false, true} {
		eachLocker(t, func(t *testing.T, s *scene, l locker) {
			gets := new(rwlock.Owner)
			waits := inside(gets)
			if !innerWaits {
				gets, waits = waits, gets
			}
			first := s.ask("first", exclusive, l)
			tx := s.ask("tx", exclusive, as(gets, rwlock.Tx, l))
			stranger := s.ask("stranger", exclusive, l)
			query := s.ask("query", shared, as(waits, rwlock.Leaf, l))
			first.release()
			s.expectGranted("first", "tx", "query")
			s.releaseAll(tx, query)
			s.expectGranted("stranger")
			stranger.release()
			expectAwaited(t, gets, 0)
			expectAwaited(t, waits, 0)
		})
	}
}

// It is not known to be one thread of control: so it is no deadlock at once, and none
// while the other goes on.
func TestWaitInOneLineIsBoundedAsForOneself(t *testing.T) {
	for _, innerWaits := range []bool{false, true} {
		eachLocker(t, func(t *testing.T, s *scene, l locker) {
			has := new(rwlock.Owner)
			wants := inside(has)
			if !innerWaits {
				has, wants = wants, has
			}
			first := s.section(has, "first", exclusive, l)
			start := time.Now()
			second := s.section(wants, "second", exclusive, l)
			if second.settled.Load() {
				t.Fatal(second.err)
			}
			time.Sleep(selfWait)
			synctest.Wait()
			second.expectErr(rwlock.ErrDeadlock)
			var werr *rwlock.WaitError
			if !errors.As(second.err, &werr) || werr.Blocker.Owner != has || !werr.Held {
				t.Errorf("after %v: %#v, want the other named", time.Since(start), werr)
			}
			first.release()
		})
	}
}

// Requests that come from one context are many. None of them is found by a walk through the
// others.
func TestManyOwnersInsideOneCostNothing(t *testing.T) {
	lock, program := rwlock.NewLock("l", 0), new(rwlock.Owner)
	other := rwlock.NewLock("other", 0)
	held := rwlock.Hold{Owner: inside(program), Kind: rwlock.Tx}
	if err := try(lock.Acquire, exclusive, &held); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := &scene{t: t}
		const n = 100
		for i := range n {
			s.ask(fmt.Sprint(i), exclusive, as(inside(program), rwlock.Leaf, lock.Acquire))
		}
		goOn := rwlock.HoldSearches() // who looks for a deadlock now stands
		own := rwlock.Hold{Owner: inside(program), Kind: rwlock.Tx}
		if err := try(other.Acquire, exclusive, &own); err != nil {
			t.Error(err)
		}
		late := s.ask("late", exclusive, as(own.Owner, rwlock.Leaf, lock.Acquire))
		late.giveUp()
		late.expectErr(context.Canceled)
		goOn()
		own.Release()
		for _, r := range s.unseen {
			r.giveUp()
		}
	})
	held.Release()
	expectIdle(t, lock)
}
