package rwlock_test

import (
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// TestWhoGivesWayIsRefused: of those in a cycle it is the one that gives way, whoever closes the
// cycle; and when it has given up what it held, the others go on.
func TestWhoGivesWayIsRefused(t *testing.T) {
	givesWay := withSelf
	givesWay.GivesWay = true
	for _, length := range []int{2, 3, 5} {
		for closer := range length {
			inDeadlock(t, func(s *scene, table *rwlock.Table) {
				owners := make([]rwlock.Owner, length)
				held, waiting := make([]*request, length), make([]*request, length)
				key := func(i int) locker { return keyOf(table, string(rune('a'+i%length))) }
				for i := range length {
					held[i] = s.section(&owners[i], "", exclusive, key(i))
				}
				for n := range length { // the closer comes last
					i := (closer + 1 + n) % length
					w := withSelf
					if i == 0 {
						w = givesWay
					}
					waiting[i] = s.askWithin(w, "", exclusive, as(&owners[i], rwlock.Section, key(i+1)))
				}
				waiting[0].expectErr(rwlock.ErrDeadlock)
				for i := 1; i < length; i++ {
					if waiting[i].settled.Load() {
						t.Errorf("%d of %d, closed by %d: settled with %v, want it to wait", i, length, closer, waiting[i].err)
					}
				}
				held[0].release()
				for i := length - 1; i > 0; i-- {
					if !waiting[i].settled.Load() || waiting[i].err != nil {
						t.Fatalf("%d of %d, closed by %d: settled %v, %v", i, length, closer, waiting[i].settled.Load(), waiting[i].err)
					}
					waiting[i].release()
					held[i].release()
				}
			})
		}
	}
}

// TestWhoGivesWayWaits as anybody does where there is no cycle.
func TestWhoGivesWayWaits(t *testing.T) {
	givesWay := withSelf
	givesWay.GivesWay = true
	inDeadlock(t, func(s *scene, table *rwlock.Table) {
		a, b := new(rwlock.Owner), new(rwlock.Owner)
		a1 := s.section(a, "a1", exclusive, keyOf(table, "1"))
		b2 := s.section(b, "b2", exclusive, keyOf(table, "2"))
		b1 := s.askWithin(givesWay, "b1", exclusive, as(b, rwlock.Section, keyOf(table, "1")))
		time.Sleep(time.Minute)
		a1.release()
		s.expectGranted("a1", "b1", "b2")
		s.releaseAll(b1, b2)
	})
}
