package locks

import (
	"context"
	"slices"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A Barrier keeps back what a section does next under its exclusive lock, as a stranger would be kept
// back: by a lock of its own, which it has exclusively. The zero barrier is in nobody's way.
type Barrier struct {
	section *Section // nil if it is down
	lock    *rwlock.Lock
	hold    rwlock.Hold // of lock
}

// Raise raises the barrier for h, if that is a place in a section whose lock, in the table, covers the
// user of h and is exclusive. A shared one was nobody's to wait for.
func (b *Barrier) Raise(t *Table, h *Hold) {
	s := h.inside.section.lender(t, h.User)
	if s == nil || s.mode == rwlock.Shared {
		return
	}
	b.section, b.lock = s, rwlock.NewLock(h.User, 0)
	b.hold.Kind, b.hold.Label = h.Lock.Kind, h.Lock.Label
	b.lock.Acquire(context.Background(), rwlock.Exclusive, &b.hold, rwlock.Wait{}) // nobody else knows of it yet
	s.mu.Lock()
	defer s.mu.Unlock()
	s.barriers = append(s.barriers, b)
}

// IsRaised tells whether it is in somebody's way.
func (b *Barrier) IsRaised() bool { return b.section != nil }

// Lower lets on who waits.
func (b *Barrier) Lower() {
	s := b.section
	if s == nil {
		return
	}
	s.mu.Lock()
	s.barriers = slices.DeleteFunc(s.barriers, func(o *Barrier) bool { return o == b })
	s.mu.Unlock()
	b.hold.Release()
}

// Await waits, as the owner of h, until the barrier is down for the mode.
func (b *Barrier) Await(ctx context.Context, mode rwlock.Mode, h *rwlock.Hold, w rwlock.Wait) error {
	err := b.lock.Acquire(ctx, mode, h, w)
	h.Release()
	return err
}

// Barriers returns those in the way of an operation of the user in the section.
func (s *Section) Barriers(in *Table, user string) []*Barrier {
	s = s.lender(in, user)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.barriers)
}
