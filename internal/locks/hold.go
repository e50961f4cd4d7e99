package locks

import (
	"context"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A Hold is what an operation holds: its user's lock, or a place in a section
// that has that lock, or both if its section is another user's; and on SQLite the
// database's gate.
type Hold struct {
	Lock  rwlock.Hold // of the user
	Gate  gate.Place
	User  string
	Owner *Owner // nil if the context had none

	// Reach is what it has beyond the process; nil if nothing. It is released with the user's lock, just before it.
	Reach Reach

	all    *rwlock.Hold // a share in the lock of all users, if somebody wants that one; else nil
	inside Member       // of a section
}

// A Reach is a lock that reaches beyond the process.
type Reach interface {
	Release()
	Forget() // where the end of a lost connection releases it
}

// Release gives up all that the operation holds, and reports whether it had the gate for
// itself. It does nothing the second time.
func (h *Hold) Release() (hadGate bool) {
	defer h.inside.Leave()
	return h.ReleaseLocks()
}

// ReleaseLocks gives up the locks, and keeps the place in a section.
func (h *Hold) ReleaseLocks() (hadGate bool) {
	g, passed, alone := h.Gate.Gate(), h.Gate.HasPassed(), h.Gate.IsAlone()
	h.Gate.Leave()
	h.ReleaseUser()
	if passed {
		g.MakeRoom() // nobody is to wait for that
	}
	return alone
}

// ReleaseUser gives up the user's lock only.
func (h *Hold) ReleaseUser() {
	if r := h.Reach; r != nil {
		h.Reach = nil
		r.Release()
	}
	h.Lock.Release()
	if h.all != nil {
		h.all.Release()
		h.all = nil
	}
}

// HasLock reports whether the operation has its user's lock, by itself or through its
// section.
func (h *Hold) HasLock() bool { return h.inside.section != nil || h.Lock.Held() }

// MoveTo gives all that h holds to the idle hold to, of an operation on r or on no
// connection. It reports whether that was a user's lock, or a place in a section.
func (h *Hold) MoveTo(to *Hold, r *Resident) (moved bool) {
	moved = h.HasLock()
	to.User = h.User
	to.all, h.all = h.all, nil
	to.Reach, h.Reach = h.Reach, nil
	h.Lock.Move(&to.Lock)
	h.Gate.Move(&to.Gate)
	if h.inside.section != nil {
		h.inside.Move(&to.inside, r)
	}
	return moved
}

// Describe says whose the holds are, for the lock table that of owner, and what for. Those of rows
// have their work already; the others have that of r.
func (h *Hold) Describe(id Identity, owner *rwlock.Owner, kind rwlock.Kind, label *rwlock.Label, r *Resident) {
	h.User, h.Owner = id.User, id.Owner
	h.Lock.Owner, h.Lock.Kind, h.Lock.Label = owner, kind, label
	if h.Lock.Work == nil {
		h.Lock.Work = r
	}
	h.Gate.Describe(h.Lock.Owner, kind, label, h.Lock.Work)
}

// ForgetReach is for a hold whose connection is lost.
func (h *Hold) ForgetReach() {
	if r := h.Reach; r != nil {
		h.Reach = nil
		r.Forget()
	}
}

// Enter makes the hold that of an operation on r in the section.
func (h *Hold) Enter(s *Section, r *Resident) error { return s.Enter(&h.inside, r) }

// Section returns the section that the operation has a place in; nil if it has none.
func (h *Hold) Section() *Section { return h.inside.section }

// Entered is called when an operation of the user id, which is in a section, has or has not got, by err,
// what it needs besides. It returns err.
func (h *Hold) Entered(id Identity, err error) error {
	h.User, h.Owner = id.User, id.Owner
	if err != nil {
		h.Release()
	}
	return err
}

// TakeGate acquires what is asked of gates only.
func (h *Hold) TakeGate(ctx context.Context, p gate.Passage, w rwlock.Wait) error {
	var err error
	if h.Owner == nil && h.User == "" {
		err = p.AcquireUntagged(ctx, &h.Gate, w)
	} else {
		err = p.Acquire(ctx, &h.Gate, w)
	}
	if err == nil && p.Reaches {
		err = p.Reach(ctx, &h.Gate, w)
	}
	return err
}

// Linked returns the holds, linked, of a call of the owner that goes on to wait for something
// else; nil if there are none. Those that are idle do no harm.
func (h *Hold) Linked(owner *rwlock.Owner) *rwlock.Hold {
	if owner == nil || h.Lock.Owner != owner {
		return nil
	}
	h.Gate.Hold.With = &h.Lock
	return &h.Gate.Hold
}
