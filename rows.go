package dblocker

import (
	"database/sql/driver"
	"io"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

var (
	_ driver.RowsNextResultSet              = (*rows)(nil)
	_ driver.RowsColumnTypeScanType         = (*rows)(nil)
	_ driver.RowsColumnTypeDatabaseTypeName = (*rows)(nil)
	_ driver.RowsColumnTypeLength           = (*rows)(nil)
	_ driver.RowsColumnTypeNullable         = (*rows)(nil)
	_ driver.RowsColumnTypePrecisionScale   = (*rows)(nil)

	_ server.RowsClient = (*rows)(nil)
)

// rows are those of a server connection under a hold that ends when they are closed, or when what was left
// of them has been read into memory.
//
// Whoever calls the inner rows has their connection: its mutex, and the turn if it is
// pinned. That is a call of the program, the end of a section, or a fill (spill.go).
// What can be answered from memory, and the columns, need no connection.
type rows struct {
	server.Rows
	conn  *conn // on which they are open
	hold  locks.RowsHold
	limit *statementLimit // nil if there is none

	inside *locks.Section // that they are in by themselves; nil if in none

	// The connection guards what follows.
	asked    askedMode // by the context of the query
	opened   bool      // the query is done, and they are not released
	released bool
	counted  bool   // as spilled
	late     bool   // they are to be closed, see late
	writes   bool   // whether they are of a statement that writes, or may by WithMode
	settle   func() // finds out, when they have ended, what their statement did to the transaction; may be nil

	yields atomic.Bool // they are making way for others

	finished bool        // nothing is left of the inner rows: the connection guards it
	owes     atomic.Bool // what they write is to be synced when they end
}

// newRows returns those of a query that is going to be sent.
func (c *conn) newRows(op *operation) *rows {
	r := &rows{conn: c, asked: op.mode}
	r.Client = r
	r.hold.Lock.Work = r
	return r
}

// openOn returns the rows that are open on a server connection, the last first.
func openOn(sc *server.Conn) (all []*rows) {
	for r := range sc.OpenRows() {
		all = append(all, r.Client.(*rows))
	}
	return all
}

// readAheadTime is how long a Query that is no read waits for its rows, where they come from
// a server.
const readAheadTime = 100 * time.Millisecond

// open adds the rows of a query to those that are open. Those of a statement that does more
// than to read are read ahead, and give up their locks if that was all of them: a program
// that forgets to close them keeps nobody waiting.
func (c *conn) open(r *rows, adm *admission) {
	raw := adm.raw
	r.opened = true
	if c.db.copiesRows && (r.hold.Owner != nil || r.hold.User != "" || c.backend.Gate != nil) {
		r.CopyValues()
	}
	c.list(r)
	c.settleRows(r, adm)
	switch {
	case !c.readsAhead(r, adm):
		r.settleBegun(raw)
	case c.backend.Gate != nil:
		// SQLite has done all of a write when it returns the first row.
		r.fill(c.db.spillLimits(), func() bool { return false })
		r.settleBegun(raw)
	default:
		c.readAhead(r, raw)
	}
}

// list adds the rows to the list in which those are looked for that have to make way.
func (c *conn) list(r *rows) {
	switch {
	case r.hold.Owner != nil:
		// Nobody has made them give up the lock yet, so the lock itself need not be asked.
		if r.hold.User != "" || r.hold.Section() != nil || r.hold.Gate.IsHeld() {
			r.hold.Owner.Add(&r.hold)
		}
	case c.backend.Gate != nil && r.hold.Gate.IsHeld():
		c.backend.Database.UntaggedRows.Add(&r.hold)
	}
}

// readsAhead tells whether the rows of a statement are to be read ahead: they have a lock
// of their own, or may begin or end a transaction.
func (c *conn) readsAhead(r *rows, adm *admission) bool {
	st := adm.Statement
	switch {
	case st.Kind == sqltext.Read || r.keepsLock():
		return false
	case adm.raw != nil:
		return true
	case c.transactionOnServer() == nil:
		return r.hold.Lock.Held() || r.hold.Gate.IsHeld()
	case c.raw == nil || c.transaction != &c.raw.transaction:
		return false
	}
	switch st.Kind {
	case sqltext.Commit, sqltext.Rollback, sqltext.Release:
		return true
	}
	return st.MayEnd
}

// settleRows prepares to find out what a statement with rows did to the transaction that it
// ran in, or began: some drivers execute it no earlier than its rows are read.
func (c *conn) settleRows(r *rows, adm *admission) {
	c.noteMayBegin(adm.Statement)
	if raw, st := adm.raw, adm.Statement; raw != nil || c.raw != nil {
		r.settle = func() { c.settleRaw(raw, st, r.Failure()) }
	}
}

// settleBegun does it at once for a transaction that is to take over the lock of the rows,
// while they have it; and again when they have ended.
func (r *rows) settleBegun(raw *rawTx) {
	if settle := r.settle; settle != nil && raw != nil && raw.from != nil {
		r.settle = func() { r.conn.settleRaw(nil, sqltext.Statement{}, nil) }
		settle()
	}
}

// A readAhead reads ahead the rows from a server, for readAheadTime. If that was not all of
// them, it may still wait for a row when Query returns. Then it keeps the connection until
// that has come, and the rows are as those of a read.
type readAhead struct {
	rows  *rows
	raw   *rawTx
	state atomic.Int32
	done  chan struct{} // closed if it ends before Query has left
}

// The states of a readAhead.
const (
	aheadRunning int32 = iota
	aheadLeft          // Query has left the connection to it
	aheadEnded
)

func (c *conn) readAhead(r *rows, raw *rawTx) {
	a := &readAhead{rows: r, raw: raw, done: make(chan struct{})}
	go a.run()
	timer := time.NewTimer(readAheadTime)
	defer timer.Stop()
	select {
	case <-a.done:
		return
	case <-timer.C:
	}
	c.beginFill()
	c.fills.shared.Store(true)
	if !a.state.CompareAndSwap(aheadRunning, aheadLeft) { // it has ended by now
		c.fills.shared.Store(false)
		c.fills.filling.Store(nil)
	}
}

func (a *readAhead) run() {
	defer a.end() // also when the driver ends the goroutine
	a.rows.fill(a.rows.conn.db.spillLimits(), func() bool { return a.state.Load() != aheadRunning })
}

func (a *readAhead) end() {
	a.rows.settleBegun(a.raw)
	if a.state.CompareAndSwap(aheadRunning, aheadEnded) {
		close(a.done)
		return
	}
	a.rows.conn.leaveFill()
}

var _ locks.Worker = (*rows)(nil)

// InOneCall implements [locks.Worker].
func (r *rows) InOneCall() time.Duration { return r.conn.resident.InOneCall() }

// Quiet implements [locks.Worker].
func (r *rows) Quiet() time.Duration { return r.conn.resident.Quiet() }

// BegunBy implements [locks.Worker].
func (r *rows) BegunBy() *locks.Thread { return r.conn.resident.BegunBy() }

// Enter implements [server.RowsClient].
func (r *rows) Enter() error { return r.conn.enter() }

// Leave implements [server.RowsClient].
func (r *rows) Leave() {
	c := r.conn
	if c.using != nil || c.fills.shared.Load() {
		c.leave()
		return
	}
	c.mu.Unlock() // the same without its deferred calls, which rows would pay for one by one
	c.sweep()
}

// Next implements [driver.Rows]. What is in memory it serves at once, even if a fill waits for
// the next row.
func (r *rows) Next(dest []driver.Value) error {
	served, err := r.Serve(dest)
	if !served {
		err = r.fetch(dest)
	}
	if err != nil {
		return r.AtEnd(err)
	}
	return nil
}

func (r *rows) fetch(dest []driver.Value) error {
	if err := r.Enter(); err != nil {
		return err
	}
	defer r.Leave()
	return r.Rows.Next(dest)
}

// ExplainFetch implements [server.RowsClient].
func (r *rows) ExplainFetch(err error) error {
	if sc := r.conn.drawn.Conn; sc != nil {
		err = sc.NoteError(err)
	}
	return r.limit.explain(r.inTransaction(err))
}

// Handle implements [server.RowsClient].
func (r *rows) Handle() *server.HandleRows { return &r.conn.db.rows }

// ExplainClose implements [server.RowsClient].
func (r *rows) ExplainClose(err error) error { return r.inTransaction(err) }

// ScanBroke implements [server.RowsClient].
func (r *rows) ScanBroke(p any) error {
	r.conn.abandon(&r.hold.Hold, nil)
	if p == nil {
		return nil
	}
	return server.Caught(r.conn.db.logger, p)
}

// inTransaction tells the transaction, if the rows are in one, of the error with which
// they have ended.
func (r *rows) inTransaction(err error) error {
	if err == nil || err == io.EOF || r.released {
		return err
	}
	t := r.conn.transactionOnServer()
	if t != nil {
		t.noticeLoss(sqltext.Statement{}, err)
	}
	return t.explainReadOnly(err)
}

// Close closes the inner rows and only then ends the hold, whatever happens.
func (r *rows) Close() error {
	if err := r.conn.lockCall(); err != nil {
		r.closeLate()
		return nil
	}
	err := r.conn.raiseWhenClosed(r.isAlone(), r.conn.guardHeld(func() error {
		returned := false
		defer func() {
			if !returned {
				r.conn.abandon(&r.hold.Hold, nil)
			}
			r.release()
		}()
		err := r.Rows.Close()
		returned = true
		return err
	}))
	return r.AtEnd(err)
}

// isAlone tells whether nothing but the rows is open on the connection that database/sql knows of. The
// caller has it.
func (r *rows) isAlone() bool {
	sc, t := r.conn.drawn.Conn, r.conn.transaction
	return (t == nil || t.inSQL()) && (sc == nil || sc.HasOnly(&r.Rows))
}

// closeLate is for rows on a pinned connection that another call has: they are closed when that
// returns. Who has the turn perhaps waits for their user's lock.
func (r *rows) closeLate() {
	r.late = true
	if !r.writes {
		r.hold.Lock.Release()
	}
	r.conn.late.rows = append(r.conn.late.rows, r)
	r.conn.leaveLate()
}

// end closes the rows because their section has ended. What the program still asks of
// them is answered with the reason.
func (r *rows) end(reason error) {
	defer r.release()
	r.Rows.End(reason)
}

// shutNow closes the inner rows before the program closes these: see ShutEarly. The caller has the
// connection.
func (r *rows) shutNow() {
	if r.IsShut() {
		return
	}
	defer r.leaveServer()
	r.ShutEarly()
}

// leaveServer is for rows whose inner rows have been closed.
func (r *rows) leaveServer() {
	kept := r.TakeOff()
	defer kept.Release()
	r.conn.leaveToLost(&r.hold.Hold)
}

func (r *rows) release() {
	if r.released {
		return
	}
	r.released, r.opened = true, false
	// All of it is done, whatever panics in the inner driver.
	if settle := r.settle; settle != nil {
		r.settle = nil
		defer settle()
	}
	defer r.limit.end()
	defer r.hold.Release()
	defer r.unlock()
	r.leaveServer()
}

// unlock gives up the locks, but not the place in a section, which has still to close
// the rows. It does nothing the second time.
func (r *rows) unlock() {
	r.hold.Unlist()
	if r.hold.ReleaseLocks() { // then they are a connection's
		r.conn.backend.WALReader.Note()
	}
}

// HasNextResultSet implements [driver.RowsNextResultSet].
func (r *rows) HasNextResultSet() bool {
	if has, known := r.HasNextInMemory(); known {
		return has
	}
	if r.Enter() != nil {
		return false
	}
	defer r.Leave()
	return r.Rows.HasNextResultSet()
}

// NextResultSet implements [driver.RowsNextResultSet].
func (r *rows) NextResultSet() error {
	if moved, err := r.MoveInMemory(); moved {
		return err
	}
	if err := r.Enter(); err != nil {
		return err
	}
	defer r.Leave()
	return r.Rows.NextResultSet()
}
