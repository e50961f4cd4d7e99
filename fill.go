package dblocker

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"slices"
	"time"
)

// A fill reads on in some rows, to put into memory what it reads. It goes on until they
// have ended, there is no more room for them, or it is told to stop; so it ends no later
// than the row that the inner rows are asked for at that time. Rows that have
// ended give up their locks.
//
// While it lasts it has the rows' connection, as a call of the program would. Such a call
// that needs the connection makes it stop; what is in memory by then the program
// gets without.

// The ends of a fill.
type fillEnd int

const (
	fillDone    fillEnd = iota // nothing is left of the inner rows
	fillFull                   // there is no more room
	fillStopped                // it was told to stop
)

// A fillLimit is how much may be in memory.
type fillLimit struct {
	each  int64 // of one sql.Rows
	total int64 // of all that the handle has open
}

// spillLimits are those for rows that need not make way.
func (c *Connector) spillLimits() fillLimit { return fillLimit{c.spillLimit, c.spillTotal} }

// mustSpill are those for rows without whose end the program cannot go on.
func (c *Connector) mustSpill() fillLimit { return fillLimit{c.spillLimit, 1 << 62} }

// fill does that. The caller has the connection, and the rows are open on it.
func (r *rows) fill(limit fillLimit, stop func() bool) fillEnd {
	end := r.fillMemory(limit, stop)
	if end == fillDone {
		r.tryFinish()
	}
	return end
}

// tryFinish keeps a panic of the driver for the program's own Close.
func (r *rows) tryFinish() {
	returned := false
	defer func() {
		if !returned {
			r.earlyEnd().raises = recover()
			if sc := r.conn.drawn.sc; sc != nil {
				sc.broken = true
			}
		}
	}()
	r.finish()
	returned = true
}

// fillMemory leaves the locks to the caller. If the driver panics, so does the program's own
// next call, and the rows keep what they have until they are closed.
func (r *rows) fillMemory(limit fillLimit, stop func() bool) (end fillEnd) {
	returned := false
	defer func() {
		if !returned {
			r.breakOff(recover())
			end = fillFull
		}
	}()
	end = r.tryFill(limit, stop)
	returned = true
	return end
}

func (r *rows) breakOff(reason any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unspillable = true
	r.conn.drawn.sc.broken = true
	if m := r.memory.Load(); m != nil {
		s := m.sets[len(m.sets)-1]
		s.ended, s.err, s.panic = true, io.ErrUnexpectedEOF, reason
	}
}

func (r *rows) tryFill(limit fillLimit, stop func() bool) fillEnd {
	m := r.remember()
	for {
		s, full := r.lookAt(m, limit)
		switch {
		case s.panic != nil:
			return fillFull
		case s.ended && (!s.hasNext || s.nextErr != nil):
			return fillDone
		case full:
			return fillFull
		case stop():
			return fillStopped
		case s.ended:
			r.readNextSet(m, s)
		default:
			r.read(m, s)
		}
	}
}

// lookAt returns the result set that the inner rows are in, and whether there is no more room.
func (r *rows) lookAt(m *memory, limit fillLimit) (s *resultSet, full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s = m.sets[len(m.sets)-1]
	return s, r.unspillable || m.size > limit.each || r.conn.db.inMemory.Load() > limit.total
}

// remember makes sure that the rows are read by way of memory.
func (r *rows) remember() *memory {
	m := r.memory.Load()
	if m == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		m = new(memory)
		s := &m.first
		m.room[0] = s
		m.sets = m.room[:]
		s.describe(r.Rows)
		if s.ended, s.err, s.told = r.last != nil, r.last, r.last != nil; s.ended {
			r.findNext(s)
		}
		r.saveCurrent()
		r.memory.Store(m)
	}
	return m
}

// read reads a row of the set.
func (r *rows) read(m *memory, s *resultSet) {
	row := make([]driver.Value, len(s.columns))
	err := r.fetched(r.innerNext(row))
	for i := range row {
		switch v := row[i].(type) {
		case []byte:
			row[i] = slices.Clone(v)
		case driver.Rows:
			r.unspillable = true // they go with the row that they are in
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		s.ended, s.err = true, err
		r.findNext(s)
		return
	}
	s.add(row)
	r.account(m, rowSize(row))
}

func (r *rows) findNext(s *resultSet) {
	if n, ok := r.Rows.(driver.RowsNextResultSet); ok && s.err == io.EOF {
		s.hasNext = n.HasNextResultSet()
	}
}

// readNextSet goes to the next result set, which may take long: so it does without mu, for the
// program to have what is in memory meanwhile.
func (r *rows) readNextSet(m *memory, s *resultSet) {
	next := new(resultSet)
	err := r.moveInner()
	if err == nil {
		next.describe(r.Rows)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.nextErr = err; err == nil {
		m.sets = append(m.sets, next)
	}
}

// finish gives up what the rows hold, now that nothing more is to come from the server;
// but what WithMode has made exclusive lasts until they are closed.
func (r *rows) finish() {
	defer r.giveUp()
	failed := r.last != nil && r.last != io.EOF
	if failed || r.conn.pool.gate == nil && r.settle != nil { // mattn's, when the context ends, still have the file locked
		r.shutEarly()
	}
	if settle := r.settle; settle != nil {
		r.settle = nil
		settle()
	}
}

func (r *rows) giveUp() {
	if r.keepsLock() {
		r.hold.gate.Leave()
		return
	}
	r.unlock()
}

// keepsLock tells whether the program has asked for the exclusive lock by WithMode.
func (r *rows) keepsLock() bool { return r.asked == askedExclusive }

// spill is fill for rows that have to make way for a statement of the same connection, or
// of the same owner. Those that exceed the limit keep what they hold: what has been read is
// served first, and then the rest.
func (r *rows) spill(limit fillLimit, stop func() bool) error {
	if r.closed || !r.opened {
		return nil
	}
	switch r.fill(limit, stop) {
	case fillFull:
		return limit.exceeded()
	case fillStopped:
		return errInCall
	}
	r.count()
	return nil
}

// spillWithin is spill for a call with ctx that has the connection.
func (r *rows) spillWithin(ctx context.Context, limit fillLimit) error {
	err := r.spill(limit, func() bool { return ctx.Err() != nil })
	if err == errInCall {
		return ctx.Err()
	}
	return err
}

func (l fillLimit) exceeded() error {
	return fmt.Errorf("%w: more than spill_limit=%d bytes, or spill_total=%d with those of others; read them to the end or close them first, or raise the limit", ErrSpillLimit, l.each, l.total)
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
	end := r.fill(r.conn.db.spillLimits(), stop)
	if end == fillDone {
		r.count()
	}
	return end != fillStopped
}

// mayYield tells whether the rows may make way for others. The caller has the connection.
func (r *rows) mayYield() bool {
	c := r.conn
	return r.opened && !r.closed && !r.late && c.scopeOnServer() == nil && c.raw == nil && !r.keepsLock()
}
