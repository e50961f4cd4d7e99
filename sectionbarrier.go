package dblocker

import (
	"context"
	"slices"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A barrier keeps back what a section does next under its exclusive lock, as a stranger would be kept
// back: by a lock of its own, which it has exclusively. The zero barrier is in nobody's way.
type barrier struct {
	section *lockSection // nil if it is down
	lock    *rwlock.Lock
	hold    rwlock.Hold // of lock
}

// Raise raises the barrier for h, if that is a place in a section whose lock, in the table, covers the
// user of h and is exclusive. A shared one was nobody's to wait for.
func (b *barrier) Raise(t *lockTable, h *userHold) {
	s := h.inside.section.lender(t, h.user)
	if s == nil || s.mode == rwlock.Shared {
		return
	}
	b.section, b.lock = s, rwlock.NewLock(h.user, 0)
	b.hold.Kind, b.hold.Tag = h.lock.Kind, h.lock.Tag
	b.lock.Acquire(context.Background(), rwlock.Exclusive, &b.hold, rwlock.Wait{}) // nobody else knows of it yet
	s.mu.Lock()
	defer s.mu.Unlock()
	s.barriers = append(s.barriers, b)
}

// IsRaised tells whether it is in somebody's way.
func (b *barrier) IsRaised() bool { return b.section != nil }

// Lower lets on who waits.
func (b *barrier) Lower() {
	s := b.section
	if s == nil {
		return
	}
	s.mu.Lock()
	s.barriers = slices.DeleteFunc(s.barriers, func(o *barrier) bool { return o == b })
	s.mu.Unlock()
	b.hold.Release()
}

// Await waits, as the owner of h, until the barrier is down for the mode.
func (b *barrier) Await(ctx context.Context, mode rwlock.Mode, h *rwlock.Hold, w rwlock.Wait) error {
	err := b.lock.Acquire(ctx, mode, h, w)
	h.Release()
	return err
}

// Barriers returns those in the way of an operation of the user in the section.
func (s *lockSection) Barriers(in *lockTable, user string) []*barrier {
	s = s.lender(in, user)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.barriers)
}
