package dblocker

import (
	"context"
	"errors"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A rawTx is a transaction written in SQL: BEGIN and COMMIT, or an outermost
// SAVEPOINT, as statements on a sql.Conn or even on the pool. It has its user's lock
// from the statement that begins it until the connection is in autocommit again.
type rawTx struct {
	transaction
	state rawState
	from  *locks.Hold // of the statement that may have begun it; nil if it has the lock itself

	// savepoints counts those since an outermost SAVEPOINT began the
	// transaction; RELEASE of the last one ends it. It may count too many, since a
	// RELEASE drops the savepoints after its own too.
	savepoints int

	// tables tells that there may be tables locked by LOCK TABLES.
	tables bool

	// readGuard keeps it from writing, if it is on SQLite and only reads; else it is nil.
	readGuard *sqlite.Guard
}

// rawState says whether a connection is in a transaction written in SQL.
type rawState int

const (
	rawNone     rawState = iota // in autocommit
	rawOpen                     // in a transaction
	rawDoubtful                 // in one, unless the last statements ended it; COMMIT or ROLLBACK settles it
	rawUnknown                  // autocommit may be off, or tables locked; settled when the connection is returned
)

// beginRaw takes the lock for a statement that begins a transaction. It returns
// nil for other statements, and inside another.
func (c *conn) beginRaw(op *operation, st sqltext.Statement) (*rawTx, error) {
	if c.transaction != nil || st.Kind != sqltext.Begin && st.Kind != sqltext.Savepoint {
		return nil, nil
	}
	if st.Immediate && c.backend.Gate != nil && c.onlyReads(op) {
		return nil, errImmediateInShared
	}
	raw := new(rawTx)
	if err := raw.transaction.begin(op, c, rwlock.Session, st.Kind == sqltext.Begin && st.ReadOnly, unlessInside); err != nil {
		return nil, err
	}
	return raw, nil
}

// guard makes sure on the connection, before the transaction is begun there, that it does not
// write if it only reads. raw may be nil.
func (raw *rawTx) guard(ctx context.Context, sc *server.Conn) error {
	if raw == nil || raw.conn.backend.Gate == nil || !raw.readOnly {
		return nil
	}
	raw.readGuard = sqlite.NewGuard(sc)
	return raw.readGuard.Put(ctx)
}

// end gives up what the transaction has, which is over.
func (raw *rawTx) end() {
	defer raw.release()
	if g := raw.readGuard; g != nil && g.IsOn(raw.conn.drawn.Conn) {
		g.Lift()
	}
	raw.readGuard = nil
}

// mayBeginRaw is for a statement that may begin a transaction among other things. It
// has its lock, h, as any statement; if it did begin one, that takes the lock over.
func (c *conn) mayBeginRaw(st sqltext.Statement, h *locks.Hold) *rawTx {
	if c.transaction != nil || !st.MayBegin {
		return nil
	}
	raw := &rawTx{from: h}
	raw.conn = c
	return raw
}

// takeOver makes the statement's hold the transaction's.
func (raw *rawTx) takeOver() {
	if raw.from == nil {
		return
	}
	h, from := &raw.hold, raw.from
	c, id := raw.conn, locks.Identity{User: from.User, Owner: from.Owner}
	h.Describe(id, c.ownerFor(id), rwlock.Session, from.Lock.Label, &c.resident)
	from.MoveTo(h, &c.resident)
	raw.tagged = h.HasLock()
}

// settleRaw finds out what a statement that has been executed, or has failed with
// err, did to the transaction. begun is what beginRaw or mayBeginRaw returned for it.
func (c *conn) settleRaw(begun *rawTx, st sqltext.Statement, err error) {
	if begun != nil {
		c.settleNewRaw(begun, st, err)
	} else if raw := c.raw; raw != nil && c.transaction == &raw.transaction {
		c.settleOpenRaw(raw, st, err)
	}
}

// settleNewRaw is settleRaw for a transaction that the statement may have begun.
func (c *conn) settleNewRaw(raw *rawTx, st sqltext.Statement, err error) {
	settled := false
	defer func() {
		if !settled { // c is going to be abandoned, but knows nothing of raw yet
			raw.hold.Release()
		}
	}()
	raw.state = raw.after(c.drawn.Conn, st, err)
	lost := raw.state == rawNone && raw.isLost(st, err)
	if lost {
		raw.lost = lossOf(err)
	}
	if lost || raw.state != rawNone {
		raw.takeOver()
		raw.open()
		c.raw = raw
	} else {
		c.endRaw(raw)
	}
	settled = true
}

// settleOpenRaw is settleRaw for the transaction that the statement ran in. If the server has ended
// it before, the program has still to do so.
func (c *conn) settleOpenRaw(raw *rawTx, st sqltext.Statement, err error) {
	if raw.lost != nil && st.Kind != sqltext.Commit && st.Kind != sqltext.Rollback {
		return
	}
	if raw.state = raw.after(c.drawn.Conn, st, err); raw.state == rawNone {
		c.endRaw(raw)
	}
}

func (c *conn) endRaw(raw *rawTx) {
	raw.end()
	c.raw = nil
}

// isLost tells whether the transaction may have been begun by one statement of several in
// a string, and be gone with the interruption of another, so that the program, which
// has to end it whenever a string like that fails, believes to be in it.
func (raw *rawTx) isLost(st sqltext.Statement, err error) bool {
	return raw.conn.backend.Gate != nil && st.Multi && err != nil && interrupted(err)
}

// forgetLost ends a transaction that the server has ended, and for which the program
// begins another: so it knows.
func (c *conn) forgetLost(st sqltext.Statement) {
	if raw := c.raw; raw != nil && raw.lost != nil && c.transaction == &raw.transaction && st.Verb == "BEGIN" {
		c.endRaw(raw)
	}
}

// after returns the state after a statement: the inner driver's word for it if it
// gives one, else what the text says.
func (raw *rawTx) after(sc *server.Conn, st sqltext.Statement, err error) rawState {
	if sc == nil { // it did not come to be executed
		return raw.state
	}
	sc.Settle()
	if none, told := sqlite.Autocommit(sc.Inner()); told {
		if none {
			return rawNone
		}
		return rawOpen
	}
	if told := raw.conn.db.engine.Autocommit; told != nil && (err != nil || st.MayBegin || st.MayEnd) {
		if told(sc) {
			return rawNone
		}
		return rawOpen
	}
	if sc.KnowsTx() && !sc.HasRows() && (err == nil || sc.AskTx()) { // while rows are open, it does not know yet
		return raw.afterTold(sc, st)
	}
	switch {
	case raw.state == rawUnknown:
		return rawUnknown
	case err != nil:
		return raw.afterError(st, err)
	case st.MayBegin:
		return rawUnknown
	case st.MayEnd && raw.state == rawOpen:
		return rawDoubtful
	}
	return raw.afterKind(st)
}

// afterTold is after where the inner driver knows of a transaction. What it does not know of is
// tables that are locked.
func (raw *rawTx) afterTold(sc *server.Conn, st sqltext.Statement) rawState {
	raw.tables = st.LocksTables || raw.tables && st.Verb != "UNLOCK" && st.Kind != sqltext.Begin
	switch {
	case sc.IsInTx():
		return rawOpen
	case raw.tables:
		return rawUnknown
	}
	return rawNone
}

func (raw *rawTx) afterError(st sqltext.Statement, err error) rawState {
	cutOff := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	switch {
	case raw.state == rawNone && (st.Kind == sqltext.Begin || st.Kind == sqltext.Savepoint):
		if cutOff { // the server may have got it done
			return rawDoubtful
		}
		return rawNone
	case st.Multi && st.MayBegin:
		return rawUnknown // the first of them may have succeeded
	case st.Kind == sqltext.Commit, st.Kind == sqltext.Rollback, st.Kind == sqltext.Release, st.MayBegin, st.MayEnd:
		return rawDoubtful // some failures end it, some do not
	}
	return raw.state
}

func (raw *rawTx) afterKind(st sqltext.Statement) rawState {
	switch st.Kind {
	case sqltext.Begin:
		return rawOpen
	case sqltext.Savepoint:
		return raw.afterSavepoint()
	case sqltext.Release:
		if raw.savepoints > 0 {
			if raw.savepoints--; raw.savepoints == 0 {
				return rawNone
			}
			return rawDoubtful // it may have named the outermost
		}
	case sqltext.Commit, sqltext.Rollback:
		if !st.Chain {
			return rawNone
		}
	}
	return raw.state
}

// afterSavepoint is afterKind for a SAVEPOINT, which begins a transaction on some engines.
func (raw *rawTx) afterSavepoint() rawState {
	switch {
	case raw.state != rawNone && raw.savepoints == 0:
		return raw.state // it was begun by BEGIN, and RELEASE does not end it
	case raw.conn.db.engine.SavepointBeginsNone:
		return raw.state
	}
	raw.savepoints++
	return rawOpen
}

// keepRaw tells whether the connection stays in a transaction written in SQL when
// database/sql takes it back. Then it keeps its server connection and its locks,
// as on the bare driver the next to use it finds itself in the transaction. If it may
// be in one, and nobody can tell, its server connection is closed.
func (c *conn) keepRaw() bool {
	c.findRaw()
	raw := c.raw
	if raw == nil {
		return false
	}
	if sc := c.drawn.Conn; raw.state == rawOpen && raw.lost == nil && sc != nil && sc.IsUsable() {
		if raw.kept {
			return true
		}
		raw.kept = true
		c.db.logger.Warn("dblocker: a connection went back to the pool inside a transaction; end it with COMMIT or ROLLBACK on the same sql.Conn, or use BeginTx")
		return true
	}
	if sc := c.drawn.Conn; sc != nil && (raw.state == rawDoubtful || raw.state == rawUnknown && sc.IsDoubtful()) {
		sc.MustClose()
	}
	c.endRaw(raw)
	return false
}

// findRaw looks for a transaction that no text has told of: one that was begun in a sql.Tx, or by
// way of Raw. It has no lock. Where it would have to have the gate it cannot stay.
func (c *conn) findRaw() {
	sc := c.drawn.Conn
	if c.raw != nil || c.transaction != nil || sc == nil || sc.IsSettling() || sc.HasKept() || c.pinned != nil || c.backend.Gate != nil {
		return
	}
	if in, _ := sc.InTransaction(); in && sc.IsUsable() {
		raw := &rawTx{state: rawOpen}
		raw.conn = c
		raw.open()
		c.raw = raw
	}
}

// forgetKeptRaw is for a transaction written in SQL that nobody is in the middle of, since
// its connection is in the pool: who comes next did not begin it.
func (c *conn) forgetKeptRaw() {
	if c.raw != nil && c.raw.kept && c.transaction == &c.raw.transaction {
		c.endTransactions()
	}
}

// settleEnded lets a statement that ends a transaction written in SQL do so, if the end of a
// section came before it; its error is the reason.
func (c *conn) settleEnded(st sqltext.Statement) error {
	ends := st.Kind == sqltext.Commit || st.Kind == sqltext.Rollback
	if !ends || c.raw == nil || c.raw.ended == nil || c.transaction != &c.raw.transaction {
		return nil
	}
	reason := c.raw.ended
	c.endTransactions()
	return reason
}
