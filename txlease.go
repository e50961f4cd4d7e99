package dblocker

import (
	"errors"
	"time"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A transaction that asked for its user's lock, and then at its first statement for the gate,
// would wait twice where many write, the second time with the lock held: behind other users'
// writers, with its own user's readers behind it. So where somebody is at the gate, BeginTx
// asks for both together, and then keeps the gate on a lease: for a millisecond, in which most
// programs come to their first statement. That one has the gate then. After the
// millisecond the transaction is pending as any other, and in nobody's way.
//
// BeginTx waits for nobody who may be waiting for its caller: if the one who has the gate
// keeps it for gateStands, it takes the user's lock alone. So it does if it would close a circle.

// Only tests change these.
var (
	// leaseTime is how long a lease lasts at most. A program goes on from BeginTx to its first
	// statement within microseconds, as a rule.
	leaseTime = time.Millisecond

	// gateStands is for how long BeginTx waits at a gate that one keeps.
	gateStands = 20 * time.Millisecond
)

// mayLease tells whether an operation on c is to take the gate on a lease.
func (c *conn) mayLease(req request, id locks.Identity) bool {
	g := c.backend.Gate
	return req.asksGate == later && g != nil && g.IsBusy() && req.mode == Exclusive && id.User != "" &&
		!c.backend.ReadOnly && c.backend.Attached.Gates() == nil && !id.Owner.HasRows() && g.MayLease()
}

// lockWithLease takes the lock of the user id into h, together with the gate, and that on a lease.
// If it cannot, nothing is taken.
func (c *conn) lockWithLease(op *operation, h *locks.Hold, req request, id locks.Identity) (leased bool, err error) {
	req.asksGate = atOnce
	if err := c.gateRequest(op, h, &req, Exclusive); err != nil {
		return false, err
	}
	c.describe(h, req, id)
	if c.wastesConn() {
		c.giveBack()
	}
	w := c.waitFor(req)
	w.Self, w.Patience, w.GivesWay = min(w.Self, gateStands), gateStands, true
	req.passage.Await()
	defer func() {
		req.passage.End(&h.Gate, leased)
		if leased {
			h.Gate.Lease(leaseTime)
		}
	}()
	if err := c.take(op.ctx, h, req, w); err != nil {
		if errors.Is(err, rwlock.ErrDeadlock) || w.Timeout <= 0 && mustWait(err) {
			err = nil // without the gate it may be another matter
		}
		return false, c.lockError(err, id)
	}
	return true, nil
}

// resumeLease takes the gate back that the transaction has on a lease, and reports whether it
// still had it.
func (t *tx) resumeLease() bool {
	g := t.conn.backend.Gate
	return g != nil && t.hold.Gate.Resume(g)
}

// passOnLease is passGate for who has it so. What may have changed meanwhile is only that files
// were attached, whose gates it has not.
func (t *tx) passOnLease() bool {
	if !t.resumeLease() {
		return false
	}
	if t.conn.backend.Attached.Gates() != nil {
		t.hold.Gate.Leave()
		return false
	}
	t.atGate = &t.hold
	return true
}
