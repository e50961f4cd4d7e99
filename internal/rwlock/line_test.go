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
	if !line[2].Related(sibling) || line[0].Related(new(rwlock.Owner)) || sibling.Related(nil) || (*rwlock.Owner)(nil).Related(nil) {
		t.Error("who is related")
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

// Of several that are put ahead at once, of whichever owners of the line, the first to come is
// first.
func TestPromotedOfLineKeepTheirOrder(t *testing.T) {
	for gets := range 3 {
		for first := range 3 {
			eachLocker(t, func(t *testing.T, s *scene, l locker) {
				line, _ := kindred()
				stranger := s.ask("stranger", exclusive, l)
				tx := s.ask("tx", exclusive, as(line[gets], rwlock.Tx, l))
				other := s.ask("other", exclusive, l)
				var queries []*request
				for i := range line { // they exclude each other
					time.Sleep(time.Millisecond) // or they came at once
					owner := (first + i) % len(line)
					queries = append(queries, s.ask(fmt.Sprint(i), exclusive, as(line[owner], rwlock.Leaf, l)))
				}
				stranger.release()
				s.expectGranted("stranger", "tx", "0")
				queries[0].release()
				s.expectGranted("1")
				queries[1].release()
				s.expectGranted("2")
				s.releaseAll(queries[2], tx, other)
			})
		}
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

// quietWork says for how long the work under a hold has been quiet, in the tests.
type quietWork func() time.Duration

func withQuiet(w rwlock.Wait) rwlock.Wait {
	w.Quiet = func(work any) time.Duration {
		if f, ok := work.(quietWork); ok {
			return f()
		}
		return long
	}
	return w
}

// quietSince begins to count when it is asked first, as it has to.
func quietSince() quietWork {
	var asked time.Time
	return func() time.Duration {
		if asked.IsZero() {
			asked = time.Now()
		}
		return time.Since(asked)
	}
}

func busy() time.Duration { return 0 }

// Two requests lock two users in opposite order, the second of them with a context that was
// tagged again, or with that from outside. They may be threads of control that go on, and then
// it would be wrong to refuse one; so that is not done at once, and not while one works.
func TestCircleThroughLines(t *testing.T) {
	for _, row := range []struct {
		name   string
		inner  bool // whether the inner owner waits, or the outer one
		work   [2]quietWork
		refuse bool
	}{
		{"inner waits", true, [2]quietWork{quietSince(), quietSince()}, true},
		{"outer waits", false, [2]quietWork{quietSince(), quietSince()}, true},
		{"one works", true, [2]quietWork{quietSince(), busy}, false},
	} {
		inDeadlock(t, func(s *scene, table *rwlock.Table) {
			var held, waits [2]*request
			start := time.Now()
			var owners [2][2]*rwlock.Owner
			for i := range owners {
				outer := new(rwlock.Owner)
				owners[i] = [2]*rwlock.Owner{outer, inside(outer)}
				if !row.inner {
					owners[i][0], owners[i][1] = owners[i][1], outer
				}
				l := as(owners[i][0], rwlock.Tx, keyOf(table, fmt.Sprint(i)))
				held[i] = s.ask("held", exclusive, func(ctx context.Context, mode rwlock.Mode, h *rwlock.Hold, w rwlock.Wait) error {
					h.Work = row.work[i]
					return l(ctx, mode, h, w)
				})
			}
			for i := range owners {
				time.Sleep(time.Second)
				waits[i] = s.askWithin(withQuiet(withSelf), "waits", exclusive, as(owners[i][1], rwlock.Leaf, keyOf(table, fmt.Sprint(1-i))))
			}
			time.Sleep(selfWait - 1)
			for _, r := range waits {
				if r.settled.Load() {
					s.t.Errorf("%s: refused after %v: %v", row.name, time.Since(start), r.err)
				}
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			var werr *rwlock.WaitError
			refused := 0
			for _, r := range waits {
				if errors.Is(r.err, rwlock.ErrDeadlock) {
					errors.As(r.err, &werr)
					refused++
				}
			}
			switch {
			case (refused == 1) != row.refuse:
				s.t.Errorf("%s: %d refused", row.name, refused)
			case row.refuse && (werr.Waited > 2*selfWait || len(werr.Cycle) != 4):
				s.t.Errorf("%s: %v after %v", row.name, werr, werr.Waited)
			}
			for i := range owners {
				waits[i].giveUp()
				s.releaseAll(held[i], waits[i])
			}
		})
	}
}

// Who is in one line with the holder of a lock is not refused while something goes on there.
func TestWaitInOneLineEndsNotWhileTheOtherWorks(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		outer := new(rwlock.Owner)
		stops := time.Now().Add(time.Minute)
		first := &request{s: s}
		first.Owner, first.Kind, first.Work = outer, rwlock.Section, quietWork(func() time.Duration {
			return max(time.Since(stops), 0)
		})
		if err := try(l, exclusive, &first.Hold); err != nil {
			t.Fatal(err)
		}
		second := s.askWithin(withQuiet(withSelf), "second", exclusive, as(inside(outer), rwlock.Section, l))
		time.Sleep(time.Minute + selfWait - 1)
		if second.settled.Load() {
			t.Fatal(second.err)
		}
		time.Sleep(selfWait + 1)
		synctest.Wait()
		second.expectErr(rwlock.ErrDeadlock)
		first.release()
	})
}
