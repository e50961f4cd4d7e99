package tenants

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// takePlace waits for a place.
func (s *Set[K, D]) takePlace(ctx context.Context, e *Entry[K, D], t Taking[D]) error {
	if s.places == nil {
		return ctx.Err()
	}
	e.place.Kind, e.place.Label, e.place.Work = rwlock.Session, rwlock.Tagged(fmt.Sprint(e.Key)), e
	err := s.places.Acquire(ctx, rwlock.Shared, &e.place, rwlock.Wait{})
	if err != nil && ctx.Err() == nil {
		err = s.awaitPlace(ctx, e, t)
	}
	if err == nil {
		s.tookPlace()
	}
	return err
}

func (s *Set[K, D]) awaitPlace(ctx context.Context, e *Entry[K, D], t Taking[D]) error {
	s.Awaits(t.Owner, 1)
	defer s.Awaits(t.Owner, -1)
	s.want(1)
	defer s.want(-1)
	return s.places.Acquire(ctx, rwlock.Shared, &e.place, t.Wait)
}

// fewPlaces are so few that none of them is made free ahead of its use.
const fewPlaces = 16

// tookPlace makes the next place free, if somebody had to wait for one lately: who comes next opens his database while another one is closed.
// While nobody has to wait, all places are used.
func (s *Set[K, D]) tookPlace() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.placed++
	s.makeRoom() // the place may have been made for one who is not in the queue yet
	if s.hurried && s.cfg.MaxOpen >= fewPlaces && s.placed-s.leaving >= s.cfg.MaxOpen && s.unused.first != nil {
		s.evict(s.unused.first)
	}
}

// want counts who wait for a place, and makes room for them.
func (s *Set[K, D]) want(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanting += n
	s.hurried = s.hurried || n > 0
	s.makeRoom()
}

// Awaits counts an owner who waits for a place, or for somebody else who opens a database and may wait for one.
func (s *Set[K, D]) Awaits(owner *rwlock.Owner, n int) {
	if owner == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiters[owner] += n; s.waiters[owner] == 0 {
		delete(s.waiters, owner)
	}
}

// Waiters returns the owners of those who wait for a place, or for somebody else who may.
func (s *Set[K, D]) Waiters() []*rwlock.Owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.waiters))
}

// makeRoom closes unused databases for those who wait for a place. mu is locked.
func (s *Set[K, D]) makeRoom() {
	for s.unused.first != nil && s.wanting > s.leaving {
		s.evict(s.unused.first)
	}
}

// Places returns who has a place, and who waits for one. Their tags are their keys.
func (s *Set[K, D]) Places() []rwlock.Info {
	if s.places == nil {
		return nil
	}
	return s.places.Snapshot()
}
