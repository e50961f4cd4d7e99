package server

import (
	"database/sql/driver"
	"io"
	"sync"
	"sync/atomic"
)

var _ publicRows = (*Rows)(nil)

// Rows are rows of the inner driver, with all the optional interfaces that can
// be answered for it. What is left of them can be read into memory, from where they go on:
// see Fill.
//
// Whoever calls the inner rows has their connection. Only to ask for columns mu will do, while
// nothing is in memory.
type Rows struct {
	Inner  driver.Rows
	Client RowsClient // that has them; nil if they are a server connection's own, of which nothing is read into memory

	server *Conn // in whose list they are, linked by below; or nil
	below  *Rows
	kept   *Kept // whose rows they are; or nil

	// The connection guards what follows.
	shut        bool      // the inner rows were closed before the program closed these
	copies      bool      // the values of a row must be copied out of the inner driver's buffer
	unspillable bool      // what a fill reads would not last
	closed      bool      // guarded by mu too
	ended       bool      // the inner rows have come to the end of their result set: see last
	early       *earlyEnd // nil if there is nothing to tell of it
	buffer      []byte    // the byte values of the current row, if they were copied
	scanned     scanRow   //lint:ignore U1000 used from Go 1.27 on

	mu sync.Mutex // guards closed, the content of memory, and with the connection inner

	// memory is what was read ahead; nil if the inner rows are where the program is. It is
	// set with the connection and mu.
	memory atomic.Pointer[memory]
}

// A RowsClient has rows that may fail, and shares their connection with others. It says what the program is to
// see of the errors.
type RowsClient interface {
	publicRows

	// Enter and Leave stand around each call of the inner rows.
	Enter() error
	Leave()

	// AtEnd returns the error to tell, for that of a Next. ScanBroke is for a scan by the inner rows that has panicked with p,
	// or has ended the goroutine if p is nil.
	AtEnd(err error) error
	ScanBroke(p any) error

	ExplainFetch(err error) error // of a Next; never io.EOF
	ExplainClose(err error) error

	Handle() *HandleRows
}

// publicRows are rows with all the optional interfaces that can be answered for them.
type publicRows interface {
	driver.RowsNextResultSet
	driver.RowsColumnTypeScanType
	driver.RowsColumnTypeDatabaseTypeName
	driver.RowsColumnTypeLength
	driver.RowsColumnTypeNullable
	driver.RowsColumnTypePrecisionScale
}

// HandleRows is what the rows of a handle have in common.
type HandleRows struct {
	InMemory   atomic.Int64 // bytes that were read ahead
	SkipsNoSet bool         // the inner driver refuses NextResultSet before the end of a result set
	CloseTells bool         // its Close reads to the end, and returns the error with which the rows end
}

// An earlyEnd is what became of the inner rows when they failed, or were closed before the program
// closes its own.
type earlyEnd struct {
	failure error // with which they have ended their result set; nil if it is io.EOF, or they are in it
	err     error // of their Close
	raises  any   // with which Close panics; else nil
}

// earlyEnd returns that of the rows, to be written.
func (r *Rows) earlyEnd() *earlyEnd {
	if r.early == nil {
		r.early = new(earlyEnd)
	}
	return r.early
}

// Columns implements [driver.Rows].
func (r *Rows) Columns() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.memory.Load(); m != nil {
		return m.sets[0].names
	}
	return r.Inner.Columns()
}

// Next serves what is in memory, and then what the inner rows have.
//
// Drivers such as lib/pq pass byte values in a buffer that their next Next
// overwrites, and sql.Rows passes them on. If the rows are read ahead while the
// program works on a row, its values must survive: so they are in our buffer,
// which only the program's own next Next overwrites.
func (r *Rows) Next(dest []driver.Value) error {
	if served, err := r.Serve(dest); served {
		return err
	}
	r.calls()
	err := r.fetched(r.Inner.Next(dest))
	if err == nil && r.copies {
		r.keep(dest)
	}
	return err
}

// calls notes a call of the inner rows.
func (r *Rows) calls() {
	if sc := r.server; sc != nil {
		sc.calls.note()
	}
}

// fetched notes with what the inner rows answered the request for a row, and returns the
// error for the program. The caller has the connection.
func (r *Rows) fetched(err error) error {
	if err == nil {
		return nil
	}
	if r.Client != nil && err != io.EOF {
		err = r.Client.ExplainFetch(err)
	}
	r.setLast(err)
	return err
}

// last returns the error with which the inner rows have ended their result set, io.EOF as a rule;
// nil if they are in it. Nearly always that is told by a bit.
func (r *Rows) last() error {
	switch {
	case !r.ended:
		return nil
	case r.Failure() == nil:
		return io.EOF
	}
	return r.Failure()
}

func (r *Rows) setLast(err error) {
	switch r.ended = err != nil; {
	case err != nil && err != io.EOF:
		r.earlyEnd().failure = err
	case r.early != nil:
		r.early.failure = nil
	}
}

// Failure returns the error with which the inner rows have ended; nil for the usual one.
func (r *Rows) Failure() error {
	if r.early == nil {
		return nil
	}
	return r.early.failure
}

// CopyValues is for rows that may be read ahead while the program works on one.
func (r *Rows) CopyValues() { r.copies = true }

// keep moves the byte values of a row to our buffer.
func (r *Rows) keep(dest []driver.Value) {
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

// Close implements [driver.Rows].
func (r *Rows) Close() error {
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
		err = r.closeInner()
	}
	if err == nil && untold != nil && r.Client.Handle().CloseTells {
		return untold
	}
	return err
}

func (r *Rows) closeInner() error {
	r.calls()
	err := r.Inner.Close()
	if err != nil && r.Client != nil {
		err = r.Client.ExplainClose(err)
	}
	return err
}

// End closes the rows for a reason, with which what the program still asks of them is answered.
func (r *Rows) End(reason error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.closed = true
	inner, shut := r.Inner, r.shut
	ended := &endedRows{reason: reason}
	defer func() {
		if !shut {
			r.calls()
			inner.Close()
		}
	}()
	m := r.memory.Load()
	r.Inner = ended
	r.forget()
	if m != nil {
		ended.columns = m.sets[0].names
	} else {
		ended.columns = inner.Columns()
	}
}

// ShutEarly closes the inner rows before the program closes these: only then the driver tells
// whether their connection is lost, or in a transaction. The caller has the connection, and does it once.
func (r *Rows) ShutEarly() {
	r.shut = true
	if err := r.closeInner(); err != nil {
		r.earlyEnd().err = err
	}
}

// IsShut tells whether ShutEarly was called. The caller has the connection.
func (r *Rows) IsShut() bool { return r.shut }

// IsClosed tells whether the program has closed the rows, or they were ended. The caller has the
// connection.
func (r *Rows) IsClosed() bool { return r.closed }

// RaiseAtClose keeps a panic for the program's own Close.
func (r *Rows) RaiseAtClose(p any) { r.earlyEnd().raises = p }

// TakeOff takes the rows off the list of their connection. It returns the statement that is to be
// let go now, or nil. The second time it does nothing.
func (r *Rows) TakeOff() *Kept {
	r.server.remove(r)
	kept := r.kept
	r.kept = nil
	return kept
}

// endedRows are what remains of rows that were ended.
type endedRows struct {
	columns []string
	reason  error
}

func (r *endedRows) Columns() []string         { return r.columns }
func (r *endedRows) Next([]driver.Value) error { return r.reason }
func (r *endedRows) Close() error              { return nil }

// HasNextResultSet implements [driver.RowsNextResultSet].
func (r *Rows) HasNextResultSet() bool {
	if has, known := r.HasNextInMemory(); known {
		return has
	}
	n, ok := r.Inner.(driver.RowsNextResultSet)
	if !ok {
		return false
	}
	r.calls()
	return n.HasNextResultSet()
}

// NextResultSet implements [driver.RowsNextResultSet].
func (r *Rows) NextResultSet() error {
	if moved, err := r.MoveInMemory(); moved {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	return r.moveInner()
}

// moveInner moves the inner rows to the next result set. The caller has the connection
// and mu.
func (r *Rows) moveInner() error {
	err := io.EOF
	if n, ok := r.Inner.(driver.RowsNextResultSet); ok && !r.shut {
		r.calls()
		err = n.NextResultSet()
	}
	r.setLast(err)
	return err
}

// ownRows are those of a statement that was prepared for them alone.
type ownRows struct {
	Rows
	ss *Stmt // nil when it is closed
}

// Close implements [driver.Rows].
func (r *ownRows) Close() error {
	if ss := r.ss; ss != nil {
		r.ss = nil
		defer ss.Close()
	}
	return r.Rows.Close()
}
