package dblocker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A crowd is the readers without an owner that have a gate. Nothing tells which of them
// are one thread of control. If one that works in a loop over rows of its own, or beside a
// transaction of its own, had to wait behind a writer, which waits for those, neither would
// ever get on.
//
// Rows make way: if one without an owner has waited for crowdPatience, the rows of the
// crowd that no call is running in are read into memory. So nobody passes a writer because
// of rows.
//
// Transactions last. So to the deadlock search those of the crowd are one owner, whose reads
// pass a writer in the queue. For the writer that must not go on for ever. Those that had
// their turn at the gate are the elders. Only while there are any may others pass: the writer
// has to wait for the elders in any case. Who comes when they are gone waits for its turn. If
// it is beside a transaction that has passed, it is known by waiting in vain for a
// while: then all that have passed become elders. The while doubles each time, so that a
// writer waits for a few of the transactions that come after it, and not for all.
type crowd struct {
	owner rwlock.Owner // of the transactions
	rows  rowsList     // the open ones

	mu       sync.Mutex // guards what follows
	turns    int        // that writers had at the gate
	age      int        // how often all became elders
	elders   int        // transactions of that age, or less
	passed   int        // the others
	patience time.Duration
}

const (
	crowdPatience    = 50 * time.Millisecond
	shortestPatience = 2 * time.Millisecond
)

// lookAgain is how often one of the crowd that waits asks the deadlock search whether it is
// to pass. A search knows of those who wait, and so takes the crowd for stuck only when all
// of them are: one who waited too, and has had its turn, may end after it.
const lookAgain = 50 * time.Millisecond

// A crowdPlace says that a hold is a transaction's in a crowd.
type crowdPlace struct {
	crowd *crowd // nil if it is in none
	age   int
}

// leave does nothing the second time.
func (p *crowdPlace) leave() {
	cr := p.crowd
	if cr == nil {
		return
	}
	p.crowd = nil
	cr.mu.Lock()
	defer cr.mu.Unlock()
	if p.age <= cr.age {
		cr.elders--
	} else {
		cr.passed--
	}
}

// join notes that h has the gate. One that was let in since a turn has passed nobody.
func (cr *crowd) join(h *userHold, elder bool, turns int) {
	if h.gate.hold.Kind == rwlock.Leaf || h.gate.hold.Kind == rwlock.Rows {
		if h.gate.hold.Owner != h.lock.Owner {
			h.changeGateOwner(h.lock.Owner)
		}
		return
	}
	h.changeGateOwner(&cr.owner)
	cr.mu.Lock()
	defer cr.mu.Unlock()
	p := &h.gate.crowd
	p.crowd, p.age = cr, cr.age
	if elder || turns != cr.turns {
		cr.elders++
		return
	}
	p.age++
	cr.passed++
}

// stepOut makes a transaction on c that is in a crowd its own owner, until it steps in again:
// while it waits for a connection nobody works beside it.
func (h *userHold) stepOut(c *conn) (stepIn func()) {
	cr := h.gate.crowd.crowd
	if cr == nil {
		return func() {}
	}
	h.changeGateOwner(c.selfOwner())
	return func() { h.changeGateOwner(&cr.owner) }
}

// noteTurn notes that a writer had its turn.
func (cr *crowd) noteTurn() {
	cr.mu.Lock()
	defer cr.mu.Unlock()
	cr.turns++
	cr.patience = shortestPatience
}

func (cr *crowd) look() (turns, elders int, patience time.Duration) {
	cr.mu.Lock()
	defer cr.mu.Unlock()
	return cr.turns, cr.elders, max(cr.patience, shortestPatience)
}

// ripen makes elders of those that have passed, if there are no others. It reports whether
// there are elders.
func (cr *crowd) ripen() bool {
	cr.mu.Lock()
	defer cr.mu.Unlock()
	if cr.elders == 0 && cr.passed > 0 {
		cr.elders, cr.passed = cr.passed, 0
		cr.age++
		cr.patience = 2 * max(cr.patience, shortestPatience)
	}
	return cr.elders > 0
}

// askIn asks the rows of the crowd to make way after some time, for one without an owner
// that waits for the gate. It is to be stopped then.
func (cr *crowd) askIn(h *userHold, d time.Duration) (stop func() bool) {
	if h.owner != nil || cr.rows.empty() {
		return func() bool { return false }
	}
	return time.AfterFunc(d, func() {
		for _, r := range cr.rows.which(func(*rows) bool { return true }) {
			go r.Yield()
		}
	}).Stop
}

// readUntagged acquires for a reader without an owner what req asks of its gate, and of those
// of attached files.
func (cr *crowd) readUntagged(ctx context.Context, h *userHold, req request, w rwlock.Wait) error {
	turns, elders, patience := cr.look()
	err := h.takeShared(ctx, req, rwlock.Wait{})
	inTurn := err == nil
	if errors.Is(err, rwlock.ErrTimeout) && w.Timeout > 0 {
		defer cr.askIn(h, crowdPatience)()
		start := time.Now()
		if err = errOutOfPatience; elders == 0 {
			err = cr.awaitTurn(ctx, h, req, w, patience)
			inTurn = err == nil
		}
		if err == errOutOfPatience {
			w.Timeout -= time.Since(start)
			w.Self = min(w.Self, lookAgain) // no hold of the crowd is in the way of another
			h.setGateOwner(&cr.owner)
			err = h.takeShared(ctx, req, w)
		}
	}
	if err == nil {
		cr.join(h, inTurn, turns)
	}
	return err
}

// takeShared acquires the gates.
func (h *userHold) takeShared(ctx context.Context, req request, w rwlock.Wait) error {
	if req.more == nil {
		return req.gate.lock.Acquire(ctx, rwlock.Shared, &h.gate.hold, w)
	}
	return rwlock.AcquireAll(ctx, w, h.gateRequests(req)...)
}

// setGateOwner sets the owner of the idle holds of gates.
func (h *userHold) setGateOwner(o *rwlock.Owner) {
	h.gate.hold.Owner = o
	if a := h.gate.attached; a != nil {
		for i := range a.holds {
			a.holds[i].Owner = o
		}
	}
}

// changeGateOwner changes it of those that have been granted.
func (h *userHold) changeGateOwner(o *rwlock.Owner) {
	h.gate.hold.SetOwner(o)
	if a := h.gate.attached; a != nil {
		for i := range a.holds {
			a.holds[i].SetOwner(o)
		}
	}
}

var errOutOfPatience = errors.New("waited so long that it may be in its own way")

// awaitTurn waits for the gates behind all who came earlier, unless there come to be
// elders.
func (cr *crowd) awaitTurn(ctx context.Context, h *userHold, req request, w rwlock.Wait, patience time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(min(patience, w.Timeout), func() {
		if cr.ripen() {
			cancel(errOutOfPatience)
		}
	})
	defer timer.Stop()
	err := h.takeShared(ctx, req, w)
	if err != nil && context.Cause(ctx) == errOutOfPatience {
		return errOutOfPatience
	}
	return err
}
