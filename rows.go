package dblocker

import (
	"database/sql/driver"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

var (
	_ driver.RowsNextResultSet              = (*rows)(nil)
	_ driver.RowsColumnTypeScanType         = (*rows)(nil)
	_ driver.RowsColumnTypeDatabaseTypeName = (*rows)(nil)
	_ driver.RowsColumnTypeLength           = (*rows)(nil)
	_ driver.RowsColumnTypeNullable         = (*rows)(nil)
	_ driver.RowsColumnTypePrecisionScale   = (*rows)(nil)
)

// rows are rows of the inner driver, with all the optional interfaces that can
// be answered for it, under a hold that ends when they are closed, or when what was left
// of them has been read into memory.
//
// Whoever calls the inner rows has their connection: its mutex, and the turn if it is
// pinned. That is a call of the program, the end of a section, or a fill (fill.go).
// Only to ask for columns mu will do, while nothing is in memory.
type rows struct {
	driver.Rows
	conn  *conn // on which they are open; nil if they are a server connection's own
	hold  rowsHold
	limit *statementLimit // nil if there is none
	kept  *keptStmt       // whose rows they are, to be let go after Close; or nil
	done  func()          // what else is to be done after Close; may be nil

	inside *lockSection // that they are in by themselves; nil if in none

	server *serverConn // in whose list they are, linked by below; or nil
	below  *rows

	// The connection guards what follows.
	asked       askedMode // by the context of the query
	opened      bool      // the query is done, and they are not released
	released    bool
	counted     bool      // as spilled
	late        bool      // they are to be closed, see late
	shut        bool      // the inner rows were closed before the program closed these
	writes      bool      // whether they are of a statement that writes, or may by WithMode
	copies      bool      // whether the values of a row must be copied out of the inner driver's buffer
	early       *earlyEnd // nil if there is nothing to tell of it
	last        error     // with which the inner rows have ended their result set; nil if they are in it
	settle      func()    // finds out, when they have ended, what their statement did to the transaction; may be nil
	buffer      []byte    // the byte values of the current row, if they were copied
	scanned     scanRow   //lint:ignore U1000 used from Go 1.27 on
	unspillable bool      // what a fill reads would not last

	closed bool        // guarded by mu
	yields atomic.Bool // they are making way for others

	mu sync.Mutex // guards closed, the content of memory, and with the connection Rows

	// memory is what was read ahead; nil if the inner rows are where the program is. It is
	// set with the connection and mu.
	memory atomic.Pointer[memory]
}

// An earlyEnd is what became of the inner rows when they were closed before the program closes
// its own.
type earlyEnd struct {
	err    error
	raises any // with which Close panics; else nil
}

// earlyEnd returns that of the rows, to be written.
func (r *rows) earlyEnd() *earlyEnd {
	if r.early == nil {
		r.early = new(earlyEnd)
	}
	return r.early
}

// wrapRows returns inner with done to be called once it has been closed.
func wrapRows(inner driver.Rows, done func()) driver.Rows {
	return (&rows{Rows: inner, done: done}).public()
}

var _ worker = (*rows)(nil)

// InOneCall implements [worker].
func (r *rows) InOneCall() time.Duration { return r.conn.resident.InOneCall() }

// Quiet implements [worker].
func (r *rows) Quiet() time.Duration { return r.conn.resident.Quiet() }

// BegunBy implements [worker].
func (r *rows) BegunBy() *thread { return r.conn.resident.BegunBy() }

// enter and leave stand around each call of the inner rows.
func (r *rows) enter() error {
	if r.conn == nil {
		return nil
	}
	return r.conn.enter()
}

func (r *rows) leave() {
	switch c := r.conn; {
	case c == nil:
	case c.using != nil || c.fills.shared.Load():
		c.leave()
	default: // the same without its deferred calls, which rows would pay for one by one
		c.mu.Unlock()
		c.sweep()
	}
}

// Columns implements [driver.Rows].
func (r *rows) Columns() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.memory.Load(); m != nil {
		return m.sets[0].names
	}
	return r.Rows.Columns()
}

// Next serves what is in memory, and then what the inner rows have. What is in memory
// it serves at once, even if a fill waits for the next row.
//
// Drivers such as lib/pq pass byte values in a buffer that their next Next
// overwrites, and sql.Rows passes them on. If the rows are read ahead while the
// program works on a row, its values must survive: so they are in our buffer,
// which only the program's own next Next overwrites.
func (r *rows) Next(dest []driver.Value) error {
	if served, err := r.serve(dest); served {
		return err
	}
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	if served, err := r.serve(dest); served {
		return err
	}
	err := r.fetched(r.Rows.Next(dest))
	if err == nil && r.copies {
		r.keep(dest)
	}
	return err
}

// fetched notes with what the inner rows answered the request for a row, and returns the
// error for the program. The caller has the connection.
func (r *rows) fetched(err error) error {
	if err == nil {
		return nil
	}
	if c := r.conn; c != nil && err != io.EOF {
		if c.drawn.sc != nil {
			err = c.drawn.sc.heed(err)
		}
		err = r.limit.explain(r.inScope(err))
	}
	r.last = err
	return err
}

// inScope tells the transaction, if the rows are in one, of the error with which
// they have ended.
func (r *rows) inScope(err error) error {
	if err == nil || err == io.EOF || r.conn == nil || r.released {
		return err
	}
	s := r.conn.scopeOnServer()
	if s != nil {
		s.noticeLoss(sqltext.Statement{}, err)
	}
	return s.explainReadOnly(err)
}

// keep moves the byte values of a row to our buffer.
func (r *rows) keep(dest []driver.Value) {
	r.buffer = r.buffer[:0]
	for _, v := range dest {
		if b, ok := v.([]byte); ok {
			r.buffer = append(r.buffer, b...)
		}
	}
	rest := r.buffer
	for i, v := range dest {
		if b, ok := v.([]byte); ok && len(b) > 0 { // what is empty, or nil, stays so
			dest[i], rest = rest[:len(b):len(b)], rest[len(b):]
		}
	}
}

// Close closes the inner rows and only then ends the hold, whatever happens.
func (r *rows) Close() error {
	if r.conn == nil {
		defer r.release()
		return r.closeInner()
	}
	if err := r.conn.lockCall(); err != nil {
		r.closeLate()
		return nil
	}
	return r.conn.raiseWhenClosed(r.isAlone(), r.conn.guardHeld(func() error {
		returned := false
		defer func() {
			if !returned {
				r.conn.abandon(&r.hold.userHold, nil)
			}
			r.release()
		}()
		err := r.closeInner()
		returned = true
		return err
	}))
}

// isAlone tells whether nothing but the rows is open on the connection that database/sql knows of. The
// caller has it.
func (r *rows) isAlone() bool {
	sc, s := r.conn.drawn.sc, r.conn.scope
	return (s == nil || s.inSQL()) && (sc == nil || sc.open == nil || sc.open == r && r.below == nil)
}

// closeLate is for rows on a pinned connection that another call has: they are closed when that
// returns. Who has the turn perhaps waits for their user's lock.
func (r *rows) closeLate() {
	r.late = true
	if !r.writes {
		r.hold.lock.Release()
	}
	r.conn.leaveLate()
}

func (r *rows) closeInner() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	untold := r.untold()
	r.forget()
	var early earlyEnd
	if r.early != nil {
		early = *r.early
	}
	if early.raises != nil {
		panic(early.raises)
	}
	err := early.err
	if !r.shut {
		err = r.inScope(r.Rows.Close())
	}
	if err == nil && untold != nil && r.conn.db.closeTells {
		return untold
	}
	return err
}

// end closes the rows because their section has ended. What the program still asks of
// them is answered with the reason.
func (r *rows) end(reason error) {
	defer r.release()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.closed = true
	inner, shut := r.Rows, r.shut
	ended := &endedRows{reason: reason}
	defer func() {
		if !shut {
			inner.Close()
		}
	}()
	m := r.memory.Load()
	r.Rows = ended
	r.forget()
	if m != nil {
		ended.columns = m.sets[0].names
	} else {
		ended.columns = inner.Columns()
	}
}

// shutEarly closes the inner rows before the program closes these: only then the driver tells
// whether their connection is lost, or in a transaction. The caller has the connection.
func (r *rows) shutEarly() {
	if r.shut {
		return
	}
	r.shut = true
	defer r.leaveServer()
	if err := r.inScope(r.Rows.Close()); err != nil {
		r.earlyEnd().err = err
	}
}

// leaveServer is for rows whose inner rows have been closed.
func (r *rows) leaveServer() {
	c := r.conn
	if c == nil {
		return
	}
	r.server.remove(r)
	if kept := r.kept; kept != nil {
		r.kept = nil
		defer kept.letGo()
	}
	c.leaveToLost(&r.hold.userHold)
}

// endedRows are what remains of rows that the end of a section has closed.
type endedRows struct {
	columns []string
	reason  error
}

func (r *endedRows) Columns() []string         { return r.columns }
func (r *endedRows) Next([]driver.Value) error { return r.reason }
func (r *endedRows) Close() error              { return nil }

func (r *rows) release() {
	if r.released {
		return
	}
	r.released, r.opened = true, false
	// All of it is done, whatever panics in the inner driver.
	if done := r.done; done != nil {
		r.done = nil
		defer done()
	}
	if settle := r.settle; settle != nil {
		r.settle = nil
		defer settle()
	}
	defer r.limit.end()
	defer r.hold.release()
	defer r.unlock()
	r.leaveServer()
}

// unlock gives up the locks, but not the place in a section, which has still to close
// the rows. It does nothing the second time.
func (r *rows) unlock() {
	r.hold.unlist()
	if r.hold.unlock() { // then they are a connection's
		r.conn.pool.walReader.note()
	}
}

// HasNextResultSet implements [driver.RowsNextResultSet].
func (r *rows) HasNextResultSet() bool {
	if has, known := r.hasNextInMemory(); known {
		return has
	}
	if r.enter() != nil {
		return false
	}
	defer r.leave()
	if has, known := r.hasNextInMemory(); known {
		return has
	}
	n, ok := r.Rows.(driver.RowsNextResultSet)
	return ok && n.HasNextResultSet()
}

// NextResultSet implements [driver.RowsNextResultSet].
func (r *rows) NextResultSet() error {
	if moved, err := r.moveInMemory(); moved {
		return err
	}
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	if moved, err := r.moveInMemory(); moved {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	return r.moveInner()
}

// moveInner moves the inner rows to the next result set. The caller has the connection
// and mu.
func (r *rows) moveInner() error {
	r.last = io.EOF
	if n, ok := r.Rows.(driver.RowsNextResultSet); ok && !r.shut {
		r.last = n.NextResultSet()
	}
	return r.last
}
