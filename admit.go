package dblocker

import (
	"database/sql/driver"

	"github.com/calmdocs/dblocker/internal/combine"
	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// An admission is a statement on its way: first to its lock, then to the server.
type admission struct {
	server.Call
	raw *rawTx // the transaction that it may begin; nil if it begins none

	// Of an Exec that may be combined with others: see combine.go.
	mayRide, alone bool
	ride           *combine.Ride // if another might have run it; else nil
}

// read makes it that of a statement, prepared as s or else given as text.
func (adm *admission) read(c *conn, s *stmt, query string, args []driver.NamedValue) {
	adm.Query, adm.Args = query, args
	if s != nil {
		adm.Statement = s.statement
	} else {
		adm.Statement = c.db.texts.Classify(query)
	}
}

// admit takes the lock for a statement: into h, which is a leaf for an Exec and
// rows for a Query, or for the transaction that the statement may begin. The caller has
// registered the release of h, in case that it does not return.
//
// Each step relies on those before it:
//
//  1. What may not run is refused before it has disturbed anything: see mayRun.
//  2. The rows that are in its way on its own connection are spilled while it has no lock, since
//     they may have what it would wait for.
//  3. A pending transaction of another client connection, on the pinned connection, is begun:
//     the statement runs in it, and asks for a lock as one that does.
//  4. A statement that begins a transaction takes that one's lock, and is done.
//  5. All others take their own.
//  6. A pending transaction of its own is begun no earlier than that: the user of the statement
//     may have come into it with the lock, and have passed the gate for it.
//  7. It passes the gates of files that were attached in the transaction since that has passed.
//  8. What remains is for who has the gate: the readers that keep the log of a file in WAL mode are
//     ended, and for one that leaves that mode the other connections are closed.
func (c *conn) admit(op *operation, adm *admission, h *locks.Hold, kind rwlock.Kind) (err error) {
	st := adm.Statement
	if err := c.mayRun(op, adm); err != nil {
		return err
	}
	if err := c.spillConnection(op.ctx, st); err != nil {
		return err
	}
	if c.transaction == nil {
		if err := c.startTx(op); err != nil {
			return err
		}
	}
	if adm.raw, err = c.beginRaw(op, st); adm.raw != nil || err != nil {
		return err
	}
	req := request{kind: kind, mode: Exclusive, session: st.Kind == sqltext.Session}
	if kind == rwlock.Rows {
		req.mode = modeOf(st)
	} else if adm.mayRide = c.mayRide(op, adm); adm.mayRide {
		adm.ride = c.newRide(op.ctx, adm)
		req.ride = adm.ride
	}
	if err := c.lock(op, h, req); err != nil {
		return err
	}
	c.opens(adm, &h.Gate)
	if err := c.startTx(op); err != nil {
		return err
	}
	if err := c.passMore(op.ctx); err != nil {
		return err
	}
	c.restWALReaders(h, sqlite.WritesRows(st))
	if err := c.closeToLeaveWAL(op, h, req, st, adm.Query); err != nil {
		h.Release()
		return err
	}
	adm.raw = c.mayBeginRaw(st, h)
	adm.InTx = c.transactionOnServer() != nil
	return nil
}

// mayRun returns the error for a statement that may not run. One that ends a transaction written
// in SQL, which is over already, ends it for the program too; that comes first, since in such a
// transaction all else is refused.
func (c *conn) mayRun(op *operation, adm *admission) error {
	st := adm.Statement
	if st.Kind != sqltext.Read {
		c.expectAttached(st, adm.Query, adm.Args)
		if err := c.settleEnded(st); err != nil {
			return err
		}
		c.forgetLost(st)
	}
	if err := c.refuseUndurable(st, adm.Query); err != nil {
		return err
	}
	return c.refusal(op, st)
}

// refusal returns the error for a statement that writes where only reading is allowed.
func (c *conn) refusal(op *operation, st sqltext.Statement) error {
	if t := c.transactionOnServer(); t != nil {
		if err := t.refuses(op, st); err != nil {
			return err
		}
	}
	if s := op.section; s != nil {
		id, _ := c.identify(op)
		if s.refuses(op, id.User, st) {
			return errSharedSection
		}
	}
	return nil
}

// drop releases what a statement that did not return has taken for a transaction, and lets
// nobody rely on a journal mode that it may have changed. adm may be nil.
func (adm *admission) drop(g *gate.Gate) {
	if adm == nil {
		return
	}
	if adm.raw != nil {
		adm.raw.hold.Release()
	}
	forgetJournal(g, adm.Statement, adm.Query)
}
