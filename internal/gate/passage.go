package gate

import (
	"context"
	"slices"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A Passage is what an operation, which does not pass by, asks of gates.
type Passage struct {
	Gate *Gate // of its database; nil if nothing
	Mode rwlock.Mode
	More *Attached // of the gates of attached files; nil if nothing

	Reaches bool // it is to keep out other processes too: see Reach
}

// IsFree tells whether it asks nothing.
func (a Passage) IsFree() bool { return a.Gate == nil && a.More == nil }

// IsAlone tells whether it asks to have the gate of the database alone.
func (a Passage) IsAlone() bool { return a.Gate != nil && a.Mode == rwlock.Exclusive }

// Writes tells whether it asks to have any of the gates alone.
func (a Passage) Writes() bool {
	return a.IsAlone() || a.More != nil && a.More.mode == rwlock.Exclusive
}

// Request is what is asked of the gate of the database.
func (a Passage) Request(p *Place) rwlock.Request {
	return rwlock.Request{Lock: a.Gate.lock, Mode: a.Mode, Hold: &p.Hold}
}

// Requests are what is asked of all gates, where it is more than one.
func (a Passage) Requests(p *Place) []rwlock.Request {
	reqs := a.More.requests()
	if a.Gate != nil {
		reqs = append(reqs, a.Request(p))
	}
	return reqs
}

// Await notes, if the operation is to have the gate alone, that it waits for that. End must
// follow.
func (a Passage) Await() {
	if a.IsAlone() {
		a.Gate.writers.Add(1)
	}
}

// End ends what Await has begun: the operation has the gate, or has given up and leaves.
func (a Passage) End(p *Place, acquired bool) {
	switch {
	case !a.IsAlone():
	case acquired:
		p.alone = true
	default:
		a.Gate.writers.Add(-1)
	}
	if !acquired {
		p.Leave()
	}
}

// Acquire acquires the gates, for an operation that has a user or an owner.
func (a Passage) Acquire(ctx context.Context, p *Place, w rwlock.Wait) error {
	if a.More != nil {
		return a.NoteTurn(rwlock.AcquireAll(ctx, w, a.Requests(p)...))
	}
	return a.NoteTurn(a.Gate.lock.Acquire(ctx, a.Mode, &p.Hold, w))
}

// NoteTurn notes that a writer has its turn, if err, of an acquisition, says so. It returns err.
func (a Passage) NoteTurn(err error) error {
	if err != nil {
		return err
	}
	if a.IsAlone() {
		a.Gate.untagged.noteTurn()
	}
	if a.More != nil && a.More.mode == rwlock.Exclusive {
		for _, g := range a.More.gates {
			g.untagged.noteTurn()
		}
	}
	return nil
}

// AcquireUntagged is Acquire for one that has neither.
func (a Passage) AcquireUntagged(ctx context.Context, p *Place, w rwlock.Wait) error {
	if !a.Writes() {
		return a.untagged().read(ctx, p, a, w)
	}
	if a.Gate != nil {
		defer a.Gate.untagged.rows.AskIn(Patience)()
	}
	return a.Acquire(ctx, p, w)
}

// untagged returns those among whom a reader without an owner is: at the gate of the database, unless
// it passes by there.
func (a Passage) untagged() *untagged {
	if a.Gate != nil {
		return &a.Gate.untagged
	}
	return &a.More.gates[slices.Index(a.More.passed, false)].untagged
}
