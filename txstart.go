package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// On an engine with a gate, a transaction begins in two steps. BeginTx takes its user's lock
// and its connection, and that is all: until its first statement, of whatever kind, it is
// pending, and in nobody's way at the gate. Only then it passes the gate, and is begun on
// the server.
//
//	          user's lock  gate   on the server
//	pending   held         no     not begun: whoever ends it sends nothing
//	begun     held         yes    begun
//
// Where others are at the gate, it has the gate for a moment more than that: see leaseTime.
//
// If it cannot begin, the statement fails, and the transaction stays pending: the next one
// tries again. So nothing of it is ever written in autocommit.
//
// It holds its user's lock while it waits at the gate. That can close a circle which there
// would not be if it had asked for both together: who has the gate wants the same user's lock.
// Nothing was done under its lock yet, so in a circle it is the one that gives way: it
// gives the lock up and asks for both. But if its owner has worked beside it meanwhile,
// it may have read there what it is going to write, and keeps the lock.

// beginsLater tells whether BeginTx on c leaves the rest to the first statement. Inside another
// transaction the engine says at once that it does not nest them.
func (c *conn) beginsLater() bool { return c.backend.Gate != nil && c.transactionOnServer() == nil }

// beginLater takes the lock, and the connection if that need not wait.
func (t *tx) beginLater(op *operation, c *conn, opts driver.TxOptions) error {
	t.ctx, t.opts = op.ctx, opts
	if c.db.trace {
		t.hold.Lock.Label = c.db.sited(op.ctx)
	}
	pending := false
	defer func() {
		if !pending { // also when the inner driver panics
			t.release()
		}
	}()
	if err := t.transaction.begin(op, c, rwlock.Tx, opts.ReadOnly, later); err != nil {
		return err
	}
	t.opts.ReadOnly = t.readOnly
	t.userMode, _ = op.mode.or(t.mode())
	if err := t.drawEarly(op); err != nil {
		return err
	}
	pending = true
	t.pending = t
	t.hold.Owner.AddPending(1)
	t.worked = t.hold.Owner.Worked()
	t.open()
	return nil
}

// drawEarly draws the connection, so that one which cannot be had is BeginTx's error. But a new
// one reads the file, for which it has to pass the gate as a reader; where it would have to
// wait there, it is drawn when the transaction has passed.
func (t *tx) drawEarly(op *operation) error {
	c := t.conn
	if c.drawn.Conn != nil {
		c.busy = busy
		return nil
	}
	pinned := op.pin != nil // for all who attach to it, so it cannot be changed later
	if pinned {
		if err := c.passGate(op, &c.leaf); err != nil {
			return err
		}
	} else if passed, err := c.passGateAtOnce(op, &c.leaf); err != nil || !passed {
		return err
	}
	defer c.leaf.Gate.Leave()
	t.ownConn = !pinned
	err := c.onServer(op.ctx, op, busy, func(*server.Conn) error { return nil })
	if err == errOtherFiles { // then it is drawn with the right gates
		err = nil
	}
	return err
}

// passGateAtOnce is passGate without a wait, but for who is the first to learn the journal mode.
func (c *conn) passGateAtOnce(op *operation, h *locks.Hold) (passed bool, err error) {
	req := request{kind: rwlock.Leaf, mode: Shared, asksGate: atOnce}
	if err := c.gateRequest(op, h, &req, Shared); err != nil || req.passage.IsFree() {
		return err == nil, err
	}
	id := locks.Identity{Owner: op.id.Owner}
	h.Describe(id, c.ownerFor(id), req.kind, c.db.label(op.ctx), &c.resident)
	err = h.TakeGate(op.ctx, req.passage, rwlock.Wait{})
	if mustWait(err) {
		return false, nil
	}
	return err == nil, err
}

// startTx begins the transaction that an operation on c is about to run in, if it is pending.
func (c *conn) startTx(op *operation) error {
	t := c.transactionOnServer()
	if t == nil || t.pending == nil || t.ended != nil {
		return nil
	}
	return t.pending.start(op)
}

func (t *tx) start(op *operation) error {
	c := t.conn
	if err := c.spillConnection(op.ctx, sqltext.Statement{Kind: sqltext.Begin}); err != nil {
		return err
	}
	if err := t.passGate(op); err != nil {
		return err
	}
	defer func() {
		if t.pending != nil { // also when the inner driver panics
			t.atGate.Gate.Leave()
			t.atGate = nil
		}
	}()
	c.restWALReaders(t.atGate, true)
	if c.drawn.Conn == nil {
		defer t.atGate.Gate.StepOut(c.selfOwner())()
	}
	if err := t.beginOnServer(op); err != nil {
		return err
	}
	t.pending.settled()
	t.pending = nil
	return nil
}

// settled notes that a transaction, which may be nil, is pending no more.
func (t *tx) settled() {
	if t != nil {
		t.hold.Owner.AddPending(-1)
	}
}

// beginOnServer begins on the server. As onServer, it replaces a connection that has turned out
// to be stale, if it was drawn for the transaction.
func (t *tx) beginOnServer(op *operation) error {
	c := t.conn
	for tries := 0; ; tries++ {
		drawn, mayBeStale := c.drawn.Conn, c.drawn.MayBeStale && t.ownConn
		err := c.onServer(op.ctx, op, busy, func(sc *server.Conn) (err error) {
			var began time.Time
			if c.db.tellsCalls {
				began = time.Now()
			}
			if t.Tx, err = sc.BeginLate(op.ctx, t.ctx, t.opts); err == nil {
				c.shareTransaction()
			}
			if c.db.tellsCalls {
				c.tellOperation(t.ctx, t.hold.User, "BEGIN", began, err)
			}
			return err
		})
		if err == nil || drawn == nil || !mayBeStale || tries > c.db.limits.MaxIdleConns {
			return err
		}
		if !errors.Is(err, driver.ErrBadConn) && !drawn.IsOutdated(err) {
			return err
		}
		c.discard()
	}
}

// passGate passes the gate, unless a user who has joined has done so with his lock.
func (t *tx) passGate(op *operation) error {
	if t.atGate != nil || t.passOnLease() {
		return nil
	}
	c, h := t.conn, &t.hold
	id := locks.Identity{User: h.User, Owner: h.Owner}
	mode := max(t.mode(), t.userMode)
	req := request{kind: rwlock.Tx, mode: t.userMode, asksGate: atOnce}
	if err := c.gateRequest(op, h, &req, mode); err != nil {
		return err
	}
	if req.passage.IsFree() { // it passes by
		t.atGate = h
		return nil
	}
	if err := c.spillAtGate(op.ctx, req, id); err != nil {
		return err
	}
	req.passage.Await()
	passed := false
	defer func() { req.passage.End(&h.Gate, passed) }()
	if err := t.waitAtGate(op.ctx, req, id); err != nil {
		return c.lockError(err, id)
	}
	passed = true
	t.atGate = h
	return nil
}

// waitAtGate waits for what req asks of the gate, and for the user's lock too if that was given
// up in an earlier wait.
func (t *tx) waitAtGate(ctx context.Context, req request, id locks.Identity) error {
	c, h := t.conn, &t.hold
	if t.gaveUp {
		return t.lockAgain(ctx, req)
	}
	label := h.Lock.Label
	if label == nil { // it has no user
		label = c.db.label(ctx)
	}
	h.Gate.Describe(c.ownerFor(id), rwlock.Tx, label, &c.resident)
	h.Gate.Hold.With = c.turnLink(h.Gate.Hold.Owner)
	if t.wastesConn() {
		if err := h.TakeGate(ctx, req.passage, rwlock.Wait{}); !mustWait(err) {
			return err
		}
		c.giveBack()
	}
	req.whole = &t.whole
	w := c.waitFor(req)
	w.GivesWay = h.Lock.Held() && !t.isReliedOn()
	err := h.TakeGate(ctx, req.passage, w)
	if w.GivesWay && errors.Is(err, rwlock.ErrDeadlock) && !waitsForItself(err, h) {
		h.ReleaseUser()
		t.gaveUp = true
		err = t.lockAgain(ctx, req)
	}
	t.whole.End(err)
	return err
}

// lockAgain takes the user's lock, and what req asks of the gate, together.
func (t *tx) lockAgain(ctx context.Context, req request) error {
	err := t.conn.take(ctx, &t.hold, req, t.conn.waitFor(req))
	t.gaveUp = err != nil
	return err
}

// wastesConn tells that a transaction, which may be nil, has a connection that others may wait
// for who have the gate, and that it does not need before it has passed that.
func (t *transaction) wastesConn() bool {
	if t == nil || t.pending == nil {
		return false
	}
	c := t.conn
	return t.pending.ownConn && c.backend.Servers.Slots != nil && c.drawn.Conn != nil
}

// isReliedOn tells whether the owner has worked beside the transaction since it was asked for.
func (t *tx) isReliedOn() bool { return t.hold.Owner.Worked() != t.worked }

func waitsForItself(err error, h *locks.Hold) bool {
	var w *rwlock.WaitError
	return errors.As(err, &w) && w.Blocker.Owner.InLine(h.Lock.Owner) && len(w.Cycle) <= 2
}

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
// If it cannot, nothing is taken, and the wait goes on.
func (c *conn) lockWithLease(op *operation, h *locks.Hold, req request, id locks.Identity) (leased bool, err error) {
	req.asksGate = atOnce
	if err := c.gateRequest(op, h, &req, Exclusive); err != nil {
		return false, err
	}
	c.describe(op.ctx, h, req, id)
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
