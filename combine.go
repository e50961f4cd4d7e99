package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/combine"
	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

// An Exec that waits at the gate of a SQLite file may be run by whoever has that, which then runs those of all
// who wait: see internal/combine. Here is which of them may, and who runs them. A lone writer finds
// nobody who waits, and does nothing of this.

// longestLead is how long one works for others at most, and longCall is what a statement takes that runs alone.
const longestLead, longCall = 2 * time.Millisecond, 500 * time.Microsecond

// errRidden says that another has run the statement.
var errRidden = errors.New("the statement was run by another")

// mayRide tells whether any connection of the handle could run the statement for the operation, in
// one transaction with those of others.
func (c *conn) mayRide(op *operation, adm *admission) bool {
	return adm.Statement.Combines && !adm.alone && c.db.combine && op.called == callers.Handle && c.backend.Gate != nil && !c.backend.ReadOnly &&
		c.transaction == nil && (c.drawn.Conn == nil || c.wastesConn()) && op.pin == nil && !op.outside && op.mode == askedNone &&
		c.backend.Attached.Gates() == nil && c.statementTimeout(op) == 0 &&
		!op.id.Owner.HasPending() && !op.id.Owner.HasRows()
}

// newRide returns one for a statement that may ride, unless nobody is at the gate, or its arguments cannot be
// copied: then it returns nil.
func (c *conn) newRide(ctx context.Context, adm *admission) *combine.Ride {
	if !c.backend.Gate.IsBusy() {
		return nil
	}
	return combine.NewRide(ctx, &c.backend.Combining, &adm.Call)
}

// takeOrRide is take for a statement that may ride; then its error is errRidden.
func (c *conn) takeOrRide(ctx context.Context, h *locks.Hold, req request, id locks.Identity) error {
	r := req.ride
	c.describe(ctx, &r.Hold, req, id)
	r.Hold.Gate.Come(c.backend.Gate)
	w := c.waitFor(req)
	w.Ride = r
	c.backend.Combining.Waits(1)
	defer c.backend.Combining.Waits(-1)
	err := c.take(ctx, &r.Hold, req, w)
	switch err {
	case nil:
		r.Hold.MoveTo(h, &c.resident)
	case rwlock.ErrTaken:
		return errRidden
	}
	return err
}

// rideListed lets a ride wait on the list of who leads, if there is a leader. It reports false if the caller is to wait in the
// queue, or in its own way; else its error is errRidden, or nil if the caller is to lead.
func (c *conn) rideListed(ctx context.Context, h *locks.Hold, req request, id locks.Identity) (bool, error) {
	r, w := req.ride, c.wait()
	if r == nil || req.inside || c.drawn.Conn != nil || w.Timeout <= 0 || ctx.Err() != nil {
		return false, nil
	}
	c.describe(ctx, &r.Hold, req, id)
	r.Hold.Gate.Come(c.backend.Gate)
	came := time.Now()
	if !c.backend.Combining.Board(r) {
		return false, nil
	}
	switch r.Wait(ctx, w.Closed) {
	case combine.Rode:
		w.Stats.Note(came)
		c.db.tellListed(ctx, r, came)
		return true, errRidden
	case combine.Leads:
		w.Stats.Note(came)
		c.db.tellListed(ctx, r, came)
		r.Hold.MoveTo(h, &c.resident)
		return true, nil
	}
	return false, nil
}

// arrive returns what came of a ride, in whose stead h waited. If the caller has left before that is known, its
// context has ended.
func (c *conn) arrive(ctx context.Context, h *locks.Hold, r *combine.Ride) (driver.Result, error) {
	res, err, arrived := r.Arrive(h)
	if arrived && c.db.tellsCalls && err != combine.ErrAlone {
		c.tellTook(ctx, h.User, r.Verb(), r.Took, err)
	}
	if arrived && err == nil && c.backend.WAL != nil {
		c.debt = debt{log: c.backend.WAL, mark: r.Mark}
	}
	c.spent = err == nil // as after each Exec that has returned a Result, or has one still to come
	if !arrived {
		return nil, ctx.Err()
	}
	return res, err
}

// opens lets others wait on the list from the moment at which the statement has the gate.
func (c *conn) opens(adm *admission, at *gate.Place) {
	if adm.mayRide && at.IsAlone() && c.saves() {
		c.backend.Combining.Open(at)
	}
}

// execAndLead executes the caller's statement, and those of others who wait for the gate.
func (c *conn) execAndLead(ctx context.Context, sc *server.Conn, s *stmt, adm *admission) (res driver.Result, err error) {
	env := &c.backend.Combining
	if !c.mayLead(sc, &c.leaf.Gate) {
		return c.execTold(ctx, sc, s, adm)
	}
	if env.HasWaiting() {
		lead := env.Begin(sc, &c.leaf.Gate, &c.leaf.Lock)
		defer lead.End()
		if res, err, led := lead.With(ctx, &adm.Call, func(ctx context.Context) (driver.Result, error) { return c.execTold(ctx, sc, s, adm) }); led {
			return res, err
		}
		if res, err = c.execTold(ctx, sc, s, adm); err == nil {
			res = server.ReadResult(res)
			lead.After()
		}
		return res, err
	}
	res, err = c.execTold(ctx, sc, s, adm)
	if err == nil && env.HasWaiting() {
		res = server.ReadResult(res)
		lead := env.Begin(sc, &c.leaf.Gate, &c.leaf.Lock)
		defer lead.End()
		lead.After()
	}
	return res, err
}

// leadAfterTx does so when the transaction has ended on its server connection.
func (t *tx) leadAfterTx() {
	c := t.conn
	env := &c.backend.Combining
	if t.called == callers.Handle && c.db.combine && t.outer == nil && t.atGate != nil && t.ownConn && c.raw == nil && c.bound == nil &&
		env.HasWaiting() && c.mayLead(c.drawn.Conn, &t.atGate.Gate) {
		env.Open(&t.atGate.Gate)
		lead := env.Begin(c.drawn.Conn, &t.atGate.Gate, &t.hold.Lock)
		defer lead.End()
		lead.After()
	}
}

// mayLead tells whether one who is at the gate may run the statements of others on sc.
func (c *conn) mayLead(sc *server.Conn, at *gate.Place) bool {
	return at.IsAlone() && c.saves() && sc != nil && !sc.HasFailed() && !sc.HasRows() && c.backend.Attached.Gates() == nil && sqlite.IsPlain(sc)
}

// saves tells whether it saves something to combine statements. Where others read, and a commit has no sync that
// could be shared, there is more done if each runs its own.
func (c *conn) saves() bool { return c.backend.Combining.SharesSync() || c.backend.Gate.Passers() == 0 }

// noteEntry notes, for an Exec of a text that finds others at the gate, what the program has called. On a sql.DB,
// or a statement prepared on one, any connection will do. On a sql.Conn the program may ask next what its
// statement has left on the connection, as last_insert_rowid does. database/sql does not
// tell, but its functions on the stack do.
func (c *conn) noteEntry(op *operation, query string) {
	if g := c.backend.Gate; g != nil && c.transaction == nil && g.IsBusy() && c.saves() && c.db.texts.Classify(query).Combines {
		op.called = c.entryPoint()
	}
}

// entryPoint returns what the program has called.
func (c *conn) entryPoint() callers.Entry {
	if c.called == callers.Unknown {
		c.called = callers.EntryPoint()
	}
	return c.called
}

// mayNeedCalled tells, where database/sql takes c to call it, whether it will perhaps be asked for entryPoint.
func (c *conn) mayNeedCalled() bool {
	return c.backend.Gate != nil && c.backend.Gate.IsBusy() && c.saves()
}
