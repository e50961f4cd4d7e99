package dblocker

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// spillLimits are those for rows that need not make way.
func (c *handle) spillLimits() server.FillLimit {
	return server.FillLimit{Each: c.spillLimit, Total: c.spillTotal}
}

// mustSpill are those for rows without whose end the program cannot go on.
func (c *handle) mustSpill() server.FillLimit {
	return server.FillLimit{Each: c.spillLimit, Total: 1 << 62}
}

// fill reads on in the rows, as Fill does. Rows that have ended give up their locks. The caller has
// the connection, and the rows are open on it.
func (r *rows) fill(limit server.FillLimit, stop func() bool) server.FillEnd {
	end := r.Fill(limit, stop)
	if end == server.FillDone {
		r.tryFinish()
	}
	return end
}

// makeWay is fill for rows that are in somebody's way. They are counted before that one goes on.
func (r *rows) makeWay(limit server.FillLimit, stop func() bool) server.FillEnd {
	end := r.Fill(limit, stop)
	if end == server.FillDone {
		r.count()
		r.tryFinish()
	}
	return end
}

// tryFinish keeps a panic of the driver for the program's own Close.
func (r *rows) tryFinish() {
	returned := false
	defer func() {
		if !returned {
			r.RaiseAtClose(recover())
			if sc := r.conn.drawn.Conn; sc != nil {
				sc.Fail()
			}
		}
	}()
	r.finish()
	returned = true
}

// finish gives up what the rows hold, now that nothing more is to come from the server;
// but what WithMode has made exclusive lasts until they are closed.
func (r *rows) finish() {
	r.finished = true
	defer r.giveUp()
	if r.Failure() != nil || r.conn.backend.Gate == nil && r.settle != nil { // mattn's, when the context ends, still have the file locked
		r.shutNow()
	}
	if settle := r.settle; settle != nil {
		r.settle = nil
		settle()
	}
}

func (r *rows) giveUp() {
	if r.keepsLock() {
		r.hold.Gate.Leave()
		return
	}
	r.unlock()
}

// keepsLock tells whether the program has asked for the exclusive lock by WithMode.
func (r *rows) keepsLock() bool { return r.asked == askedExclusive }

// spill is fill for rows that have to make way for a statement of the same connection, or
// of the same owner. Those that exceed the limit keep what they hold: what has been read is
// served first, and then the rest.
func (r *rows) spill(limit server.FillLimit, stop func() bool) error {
	if r.IsClosed() || !r.opened {
		return nil
	}
	switch r.makeWay(limit, stop) {
	case server.FillFull:
		return exceeded(limit)
	case server.FillStopped:
		return errInCall
	}
	return nil
}

// spillWithin is spill for a call with ctx that has the connection.
func (r *rows) spillWithin(ctx context.Context, limit server.FillLimit) error {
	err := r.spill(limit, func() bool { return ctx.Err() != nil })
	if err == errInCall {
		return ctx.Err()
	}
	return err
}

func exceeded(l server.FillLimit) error {
	return fmt.Errorf("%w: more than spill_limit=%d bytes, or spill_total=%d with those of others; read them to the end or close them first, or raise the limit", ErrSpillLimit, l.Each, l.Total)
}

// count counts the rows as spilled, once.
func (r *rows) count() {
	if !r.counted {
		r.counted = true
		r.conn.db.spills.Add(1)
	}
}

const (
	yieldTime    = time.Second      // how long a try to make way lasts at most; the lock table asks again
	yieldPause   = time.Millisecond // that the program is left alone with its rows when it has called
	longestPause = 32 * yieldPause  // while a call lasts
)

// Yield lets the rows make way: somebody has waited for them for long. They do while no
// call is running in them, and unless they are in a transaction.
func (r *rows) Yield() {
	if !r.yields.CompareAndSwap(false, true) {
		return // it does already
	}
	defer r.yields.Store(false)
	until := time.Now().Add(yieldTime)
	stop := func() bool { return r.conn.isWanted() || time.Now().After(until) }
	for pause := yieldPause; time.Now().Before(until); pause = min(2*pause, longestPause) {
		if r.conn.tryEnter() {
			pause = yieldPause
			done := r.yieldOnce(stop)
			r.conn.leaveFill()
			if done {
				return
			}
		}
		time.Sleep(pause)
	}
}

// yieldOnce reports whether there is nothing more to do for now.
func (r *rows) yieldOnce(stop func() bool) (done bool) {
	if !r.mayYield() {
		return true
	}
	return r.makeWay(r.conn.db.spillLimits(), stop) != server.FillStopped
}

// mayYield tells whether the rows may make way for others. The caller has the connection.
func (r *rows) mayYield() bool {
	c := r.conn
	return r.opened && !r.IsClosed() && !r.late && c.transactionOnServer() == nil && c.raw == nil && !r.keepsLock()
}

// A fillTurn is that of the fills on a client connection.
type fillTurn struct {
	wanted  atomic.Int32                  // so many calls wait for the connection's mutex
	shared  atomic.Bool                   // both a fill and the Query that began it have the connection: the first to leave leaves it to the other
	filling atomic.Pointer[chan struct{}] // closed when the fill that has the connection leaves it; nil if none has
}

// lockMu locks the mutex of the connection for a call that must be done in any case.
func (c *conn) lockMu() { c.lockMuFor(context.Background()) }

// lockMuFor locks it for a call with ctx. A fill that has it stops; the call does not wait
// longer than its context for the row that the fill may be waiting for.
func (c *conn) lockMuFor(ctx context.Context) error {
	if c.mu.TryLock() {
		return nil
	}
	c.fills.wanted.Add(1)
	defer c.fills.wanted.Add(-1)
	for !c.mu.TryLock() {
		left := c.fills.filling.Load()
		if left == nil { // it is the end of a section, or the like
			c.mu.Lock()
			return nil
		}
		select {
		case <-*left:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// isWanted tells a fill that has the connection whether a call waits for it.
func (c *conn) isWanted() bool {
	p := c.using
	return c.fills.wanted.Load() > 0 || p != nil && p.wanted.Load() > 0
}

// tryEnter takes the connection for a fill, unless a call has it. leaveFill must follow.
func (c *conn) tryEnter() bool {
	if !c.mu.TryLock() {
		return false
	}
	p := c.pinned
	if c.lent || p != nil && !p.turn.tryLock() {
		c.mu.Unlock()
		return false
	}
	c.using = p
	c.beginFill()
	return true
}

func (c *conn) beginFill() {
	left := make(chan struct{})
	c.fills.filling.Store(&left)
}

func (c *conn) leaveFill() {
	left := c.fills.filling.Swap(nil)
	c.leave()
	close(*left)
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
