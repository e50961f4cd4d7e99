package tenants

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// newSet returns a Set with places for so many, and what opens a database in it.
func newSet(places int) (s *Set[string, *db], open func(t *testing.T, key string) *Entry[string, *db]) {
	s = NewSet[string, *db](Limits{MaxOpen: places, Unused: time.Hour}, "a place", func(f func()) { f() })
	return s, func(t *testing.T, key string) *Entry[string, *db] {
		t.Helper()
		e, err := s.Take(t.Context(), key, Taking[*db]{Open: func(context.Context) (*db, error) { return new(db), nil }, Keep: true, Wait: rwlock.Wait{Timeout: time.Minute}})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
}

// placesTaken returns when so many have a place.
func placesTaken(t *testing.T, s *Set[string, *db], n int) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); len(s.Places()) != n; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d places are taken, want %d", len(s.Places()), n)
		}
	}
}

// TestPlaceThatAnotherTakes: one who waits has a database closed, and somebody else has the place before the one is in the queue. Then the
// next unused database goes for that one.
func TestPlaceThatAnotherTakes(t *testing.T) {
	s, open := newSet(2)
	s.Leave(open(t, "x"))
	s.Leave(open(t, "y"))
	s.want(1) // as one does before it is in the queue
	placesTaken(t, s, 1)
	open(t, "b")
	placesTaken(t, s, 1) // that of b
	if n := s.Counts().Unused; n != 0 {
		t.Errorf("%d unused databases are open while one waits for a place", n)
	}
}

// TestPlacesAhead: when somebody had to wait for a place, the next one is free before it is wanted, until a while has passed without a wait. Where places
// are few, and as long as nobody has to wait, all of them are used.
func TestPlacesAhead(t *testing.T) {
	for _, places := range []int{fewPlaces - 1, fewPlaces} {
		t.Run(fmt.Sprint(places), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, open := newSet(places)
				next := 0
				visit := func(n int, want Counts, why string) {
					t.Helper()
					for range n {
						s.Leave(open(t, fmt.Sprint(next)))
						next++
					}
					synctest.Wait() // for what is being closed
					if c := s.Counts(); c.Open != want.Open || c.Evicted != want.Evicted {
						t.Errorf("%s: %d are open and %d evicted, want %d and %d", why, c.Open, c.Evicted, want.Open, want.Evicted)
					}
				}
				free := 0
				if places >= fewPlaces {
					free = 1
				}
				visit(places, Counts{Open: places}, "nobody has waited")
				visit(1, Counts{Open: places - free, Evicted: int64(1 + free)}, "one has waited")
				visit(1, Counts{Open: places - free, Evicted: int64(2 + free)}, "one who came next")
				s.expire() // a tick
				visit(free, Counts{Open: places, Evicted: int64(2 + free)}, "nobody has waited for a while")
				s.Close()
			})
		})
	}
}
