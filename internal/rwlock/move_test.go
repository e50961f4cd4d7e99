package rwlock_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A grant that is moved stays where it is among the holders, in its mode, and ends
// with the hold that it was moved to.
func TestMove(t *testing.T) {
	for moved := range 3 {
		table := rwlock.NewTable()
		var holds [3]rwlock.Hold
		for i := range holds {
			holds[i].Label = rwlock.Tagged(string(rune('a' + i)))
			if err := table.Acquire(context.Background(), "k", shared, &holds[i], rwlock.Wait{}); err != nil {
				t.Fatal(err)
			}
		}
		to := rwlock.Hold{Label: rwlock.Tagged("to"), Kind: rwlock.Tx}
		if key, ok := holds[moved].Move(&to); key != "k" || !ok {
			t.Fatalf("Move returned %q, %v", key, ok)
		}
		if holds[moved].Held() || !to.Held() {
			t.Errorf("held before %v, now %v; want the other way round", holds[moved].Held(), to.Held())
		}
		for i, info := range table.Snapshot() {
			want := holds[i].Tag()
			if i == moved {
				want = "to"
			}
			if info.Tag != want || info.Mode != shared {
				t.Errorf("holder %d is %v, want %s", i, info, want)
			}
		}
		for i := range holds {
			holds[i].Release()
		}
		if n := len(table.Snapshot()); n != 1 {
			t.Errorf("%d holds are left, want the one that was moved to", n)
		}
		to.Release()
		if n := len(table.Snapshot()); n != 0 {
			t.Errorf("%d holds are left", n)
		}
	}
}

// There is nothing to move from an idle hold, and no room in one that is in use.
func TestMoveOfNothing(t *testing.T) {
	var idle, to, held rwlock.Hold
	lock := rwlock.NewLock("l", 0)
	if _, ok := idle.Move(&to); ok || to.Held() {
		t.Error("an idle hold was moved")
	}
	for _, h := range []*rwlock.Hold{&to, &held} {
		if err := lock.Acquire(context.Background(), shared, h, rwlock.Wait{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := held.Move(&to); ok || !held.Held() {
		t.Error("a grant was moved to a hold that has one")
	}
}

func TestMoveOfAWaitMovesNothing(t *testing.T) {
	eachLocker(t, func(t *testing.T, s *scene, l locker) {
		holder := s.ask("holder", exclusive, l)
		waiter := s.ask("waiter", exclusive, l)
		var to rwlock.Hold
		if _, ok := waiter.Move(&to); ok || to.Held() {
			t.Error("a wait was moved")
		}
		holder.release()
		s.expectGranted("holder", "waiter")
		waiter.release()
	})
}

func TestMoveKeepsTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := rwlock.NewLock("l", 0)
		tx, to := rwlock.Hold{Kind: rwlock.Tx}, rwlock.Hold{Kind: rwlock.Tx}
		if err := try(lock.Acquire, exclusive, &tx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		tx.Move(&to)
		time.Sleep(time.Minute)
		if got := lock.Snapshot()[0].For; got != 2*time.Minute {
			t.Errorf("held for %v, want both minutes", got)
		}
		to.Release()
	})
}

// A statement that has become rows is in its owner's way no more.
func TestMoveMakesWayForTheOwner(t *testing.T) {
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		owner := new(rwlock.Owner)
		exec := s.ask("exec", exclusive, as(owner, rwlock.Leaf, keyOf(table, "1")))
		stranger := s.ask("stranger", exclusive, keyOf(table, "1"))
		query := s.askWithin(withSelf, "query", shared, as(owner, rwlock.Leaf, keyOf(table, "1")))
		var h1, h2 rwlock.Hold
		h1.Owner, h2.Owner = owner, owner
		group := s.start("group", func(ctx context.Context, _ *rwlock.Hold) error {
			return rwlock.AcquireAll(ctx, withSelf,
				rwlock.Request{Table: table, Key: "1", Mode: shared, Hold: &h1},
				rwlock.Request{Table: table, Key: "2", Mode: shared, Hold: &h2})
		})
		s.expectGranted("exec")
		rows := rwlock.Hold{Owner: owner, Kind: rwlock.Rows}
		exec.Move(&rows)
		synctest.Wait()
		s.expectGranted("query", "group")
		h1.Release()
		h2.Release()
		s.releaseAll(query, group)
		rows.Release()
		synctest.Wait()
		s.expectGranted("stranger")
		stranger.release()
	})
}
