package tenants

import (
	"context"
	"testing"
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
