package gate

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// untagged is the readers without an owner that have a gate. Nothing tells which of them
// are one thread of control. If one that works in a loop over rows of its own, or beside a
// transaction of its own, had to wait behind a writer, which waits for those, neither would
// ever get on.
//
// Rows make way: if one without an owner has waited for Patience, the open rows of untagged
// readers that no call is running in are read into memory. So nobody passes a writer because
// of rows.
//
// Transactions last. So to the deadlock search the untagged ones are one owner, whose reads
// pass a writer in the queue. For the writer that must not go on for ever. Those that had
// their turn at the gate are the elders. Only while there are any may others pass: the writer
// has to wait for the elders in any case. Who comes when they are gone waits for its turn. If
// it is beside a transaction that has passed, it is known by waiting in vain for a
// while: then all that have passed become elders. The while doubles each time, so that a
// writer waits for a few of the transactions that come after it, and not for all.
type untagged struct {
	owner rwlock.Owner // of the transactions
	rows  Rows

	mu       sync.Mutex // guards what follows
	turns    int        // that writers had at the gate
	age      int        // how often all became elders
	elders   int        // transactions of that age, or less
	passed   int        // the others
	patience time.Duration
}

// Rows are open rows that have a gate.
type Rows interface {
	// AskIn asks them to make way when some time has passed, unless it is stopped before.
	AskIn(after time.Duration) (stop func() bool)
}

// Patience is how long one without an owner waits before rows are asked to make way.
const Patience = 50 * time.Millisecond

// ShortestPatience is how long the first after a writer's turn waits in vain.
const ShortestPatience = 2 * time.Millisecond

// lookAgain is how often an untagged reader that waits asks the deadlock search whether it is
// to pass. A search knows of those who wait, and so takes the readers for stuck only when all
// of them are: one who waited too, and has had its turn, may end after it.
const lookAgain = 50 * time.Millisecond

// An untaggedPlace says that a place is that of a transaction among untagged readers.
type untaggedPlace struct {
	among *untagged // nil if it is among none
	age   int
}

// leave does nothing the second time.
func (p *untaggedPlace) leave() {
	u := p.among
	if u == nil {
		return
	}
	p.among = nil
	u.mu.Lock()
	defer u.mu.Unlock()
	if p.age <= u.age {
		u.elders--
	} else {
		u.passed--
	}
}

// join notes that p, which is own's by itself, has the gate. One that was let in since a turn
// has passed nobody.
func (u *untagged) join(p *Place, own *rwlock.Owner, elder bool, turns int) {
	if p.Hold.Kind == rwlock.Leaf || p.Hold.Kind == rwlock.Rows {
		if p.Hold.Owner != own {
			p.changeOwner(own)
		}
		return
	}
	p.changeOwner(&u.owner)
	u.mu.Lock()
	defer u.mu.Unlock()
	at := &p.untagged
	at.among, at.age = u, u.age
	if elder || turns != u.turns {
		u.elders++
		return
	}
	at.age++
	u.passed++
}

// StepOut makes a transaction that is among untagged readers own's, until it steps in again:
// while it waits for a connection nobody works beside it.
func (p *Place) StepOut(own *rwlock.Owner) (stepIn func()) {
	u := p.untagged.among
	if u == nil {
		return func() {}
	}
	p.changeOwner(own)
	return func() { p.changeOwner(&u.owner) }
}

// noteTurn notes that a writer had its turn.
func (u *untagged) noteTurn() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.turns++
	u.patience = ShortestPatience
}

func (u *untagged) look() (turns, elders int, patience time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.turns, u.elders, max(u.patience, ShortestPatience)
}

// ripen makes elders of those that have passed, if there are no others. It reports whether
// there are elders.
func (u *untagged) ripen() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.elders == 0 && u.passed > 0 {
		u.elders, u.passed = u.passed, 0
		u.age++
		u.patience = 2 * max(u.patience, ShortestPatience)
	}
	return u.elders > 0
}

// read acquires for a reader without an owner what a asks.
func (u *untagged) read(ctx context.Context, p *Place, a Passage, w rwlock.Wait) error {
	own := p.Hold.Owner
	turns, elders, patience := u.look()
	err := a.Acquire(ctx, p, rwlock.Wait{})
	inTurn := err == nil
	if errors.Is(err, rwlock.ErrTimeout) && w.Timeout > 0 {
		defer u.rows.AskIn(Patience)()
		start := time.Now()
		if err = errOutOfPatience; elders == 0 {
			err = u.awaitTurn(ctx, p, a, w, patience)
			inTurn = err == nil
		}
		if err == errOutOfPatience {
			w.Timeout -= time.Since(start)
			w.Self = min(w.Self, lookAgain) // no hold of theirs is in the way of another
			p.setOwner(&u.owner)
			err = a.Acquire(ctx, p, w)
		}
	}
	if err == nil {
		u.join(p, own, inTurn, turns)
	}
	return err
}

var errOutOfPatience = errors.New("waited so long that it may be in its own way")

// awaitTurn waits for the gates behind all who came earlier, unless there come to be
// elders.
func (u *untagged) awaitTurn(ctx context.Context, p *Place, a Passage, w rwlock.Wait, patience time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(min(patience, w.Timeout), func() {
		if u.ripen() {
			cancel(errOutOfPatience)
		}
	})
	defer timer.Stop()
	err := a.Acquire(ctx, p, w)
	if err != nil && context.Cause(ctx) == errOutOfPatience {
		return errOutOfPatience
	}
	return err
}

// An UntaggedState is how it stands with the transactions among the untagged readers of a gate.
type UntaggedState struct {
	Elders, Passed int
	Patience       time.Duration
}

// Untagged returns how it stands.
func (g *Gate) Untagged() UntaggedState {
	u := &g.untagged
	u.mu.Lock()
	defer u.mu.Unlock()
	return UntaggedState{u.elders, u.passed, u.patience}
}

// SetPatience sets how long the next to come waits in vain before those that have passed become
// elders. It is for tests.
func (g *Gate) SetPatience(d time.Duration) {
	g.untagged.mu.Lock()
	defer g.untagged.mu.Unlock()
	g.untagged.patience = d
}
