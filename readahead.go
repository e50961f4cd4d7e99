package dblocker

import (
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

// readAheadTime is how long a Query that is no read waits for its rows, where they come from
// a server.
const readAheadTime = 100 * time.Millisecond

// open adds the rows of a query to those that are open. Those of a statement that does more
// than to read are read ahead, and give up their locks if that was all of them: a program
// that forgets to close them keeps nobody waiting.
func (c *conn) open(r *rows, adm *admission) {
	raw := adm.raw
	r.opened = true
	if c.db.copiesRows && (r.hold.Owner != nil || r.hold.User != "" || c.pool.gate != nil) {
		r.CopyValues()
	}
	c.list(r)
	c.settleRows(r, adm)
	switch {
	case !c.readsAhead(r, adm):
		r.settleBegun(raw)
	case c.pool.gate != nil:
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
	case c.pool.gate != nil && r.hold.Gate.IsHeld():
		c.pool.database.UntaggedRows.Add(&r.hold)
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
	case c.scopeOnServer() == nil:
		return r.hold.Lock.Held() || r.hold.Gate.IsHeld()
	case c.raw == nil || c.scope != &c.raw.scope:
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
