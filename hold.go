package dblocker

import (
	"context"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A userHold is what an operation holds: its user's lock, or a place in a section
// that has that lock, or both if its section is another user's; and on SQLite the
// database's gate.
type userHold struct {
	lock  rwlock.Hold // of the user
	gate  gate.Place
	user  string
	owner *owner // nil if the context had none

	all    *rwlock.Hold // a share in the lock of all users, if somebody wants that one; else nil
	inside membership   // of a section
}

// release gives up all that the operation holds, and reports whether it had the gate for
// itself. It does nothing the second time.
func (h *userHold) release() (hadGate bool) {
	defer h.inside.leave()
	return h.unlock()
}

// unlock gives up the locks, and keeps the place in a section.
func (h *userHold) unlock() (hadGate bool) {
	g, passed, alone := h.gate.Gate(), h.gate.HasPassed(), h.gate.IsAlone()
	h.gate.Leave()
	h.unlockUser()
	if passed {
		g.MakeRoom() // nobody is to wait for that
	}
	return alone
}

// unlockUser gives up the user's lock only.
func (h *userHold) unlockUser() {
	h.lock.Release()
	if h.all != nil {
		h.all.Release()
		h.all = nil
	}
}

// hasLock reports whether the operation has its user's lock, by itself or through its
// section.
func (h *userHold) hasLock() bool { return h.inside.section != nil || h.lock.Held() }

// moveTo gives all that h holds to the idle hold to, of an operation on r or on no
// connection. It reports whether that was a user's lock, or a place in a section.
func (h *userHold) moveTo(to *userHold, r *resident) (moved bool) {
	moved = h.hasLock()
	to.user = h.user
	to.all, h.all = h.all, nil
	h.lock.Move(&to.lock)
	h.gate.Move(&to.gate)
	if h.inside.section != nil {
		h.inside.move(&to.inside, r)
	}
	return moved
}

// describe says whose the holds are, for the lock table that of owner, and what for. Those of rows
// have their work already; the others have that of r.
func (h *userHold) describe(id identity, owner *rwlock.Owner, kind rwlock.Kind, tag string, r *resident) {
	h.user, h.owner = id.user, id.owner
	h.lock.Owner, h.lock.Kind, h.lock.Tag = owner, kind, tag
	if h.lock.Work == nil {
		h.lock.Work = r
	}
	h.gate.Describe(h.lock.Owner, kind, tag, h.lock.Work)
}

// enter makes the hold that of an operation on r in the section.
func (h *userHold) enter(s *lockSection, r *resident) error { return s.Enter(&h.inside, r) }

// section returns the section that the operation has a place in; nil if it has none.
func (h *userHold) section() *lockSection { return h.inside.section }

// entered is called when an operation of the user id, which is in a section, has or has not got, by err,
// what it needs besides. It returns err.
func (h *userHold) entered(id identity, err error) error {
	h.user, h.owner = id.user, id.owner
	if err != nil {
		h.release()
	}
	return err
}

// takeGate acquires what is asked of gates only.
func (h *userHold) takeGate(ctx context.Context, p gate.Passage, w rwlock.Wait) error {
	if h.owner == nil && h.user == "" {
		return p.AcquireUntagged(ctx, &h.gate, w)
	}
	return p.Acquire(ctx, &h.gate, w)
}

// linked returns the holds, linked, of a call of the owner that goes on to wait for something
// else; nil if there are none. Those that are idle do no harm.
func (h *userHold) linked(owner *rwlock.Owner) *rwlock.Hold {
	if owner == nil || h.lock.Owner != owner {
		return nil
	}
	h.gate.Hold.With = &h.lock
	return &h.gate.Hold
}
