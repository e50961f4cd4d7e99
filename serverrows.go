package dblocker

import (
	"database/sql/driver"
	"io"
	"sync"
	"sync/atomic"
)

var (
	_ driver.RowsNextResultSet              = (*serverRows)(nil)
	_ driver.RowsColumnTypeScanType         = (*serverRows)(nil)
	_ driver.RowsColumnTypeDatabaseTypeName = (*serverRows)(nil)
	_ driver.RowsColumnTypeLength           = (*serverRows)(nil)
	_ driver.RowsColumnTypeNullable         = (*serverRows)(nil)
	_ driver.RowsColumnTypePrecisionScale   = (*serverRows)(nil)
)

// serverRows are rows of the inner driver, with all the optional interfaces that can
// be answered for it. What is left of them can be read into memory, from where they go on:
// see fillMemory.
//
// Whoever calls the inner rows has their connection. Only to ask for columns mu will do, while
// nothing is in memory.
type serverRows struct {
	inner  driver.Rows
	client rowsClient  // that has them; nil if they are a server connection's own
	handle *handleRows // nil if nothing of them is ever read into memory

	server *serverConn // in whose list they are, linked by below; or nil
	below  *serverRows
	kept   *keptStmt // whose rows they are; or nil

	// The connection guards what follows.
	shut        bool      // the inner rows were closed before the program closed these
	copies      bool      // the values of a row must be copied out of the inner driver's buffer
	unspillable bool      // what a fill reads would not last
	early       *earlyEnd // nil if there is nothing to tell of it
	last        error     // with which the inner rows have ended their result set; nil if they are in it
	buffer      []byte    // the byte values of the current row, if they were copied
	scanned     scanRow   //lint:ignore U1000 used from Go 1.27 on

	closed bool // guarded by mu

	mu sync.Mutex // guards closed, the content of memory, and with the connection inner

	// memory is what was read ahead; nil if the inner rows are where the program is. It is
	// set with the connection and mu.
	memory atomic.Pointer[memory]
}

// A rowsClient has rows that may fail. It says what the program is to see of the errors.
type rowsClient interface {
	ExplainFetch(err error) error // of a Next; never io.EOF
	ExplainClose(err error) error
}

// handleRows is what the rows of a handle have in common.
type handleRows struct {
	inMemory   atomic.Int64 // bytes that were read ahead
	skipsNoSet bool         // the inner driver refuses NextResultSet before the end of a result set
	closeTells bool         // its Close reads to the end, and returns the error with which the rows end
}

// An earlyEnd is what became of the inner rows when they were closed before the program closes
// its own.
type earlyEnd struct {
	err    error
	raises any // with which Close panics; else nil
}

// earlyEnd returns that of the rows, to be written.
func (r *serverRows) earlyEnd() *earlyEnd {
	if r.early == nil {
		r.early = new(earlyEnd)
	}
	return r.early
}

// Columns implements [driver.Rows].
func (r *serverRows) Columns() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.memory.Load(); m != nil {
		return m.sets[0].names
	}
	return r.inner.Columns()
}

// Next serves what is in memory, and then what the inner rows have.
//
// Drivers such as lib/pq pass byte values in a buffer that their next Next
// overwrites, and sql.Rows passes them on. If the rows are read ahead while the
// program works on a row, its values must survive: so they are in our buffer,
// which only the program's own next Next overwrites.
func (r *serverRows) Next(dest []driver.Value) error {
	if served, err := r.serve(dest); served {
		return err
	}
	err := r.fetched(r.inner.Next(dest))
	if err == nil && r.copies {
		r.keep(dest)
	}
	return err
}

// fetched notes with what the inner rows answered the request for a row, and returns the
// error for the program. The caller has the connection.
func (r *serverRows) fetched(err error) error {
	if err == nil {
		return nil
	}
	if r.client != nil && err != io.EOF {
		err = r.client.ExplainFetch(err)
	}
	r.last = err
	return err
}

// failure returns the error with which the inner rows have ended; nil for the usual one.
func (r *serverRows) failure() error {
	if r.last == io.EOF {
		return nil
	}
	return r.last
}

// copyValues is for rows that may be read ahead while the program works on one.
func (r *serverRows) copyValues() { r.copies = true }

// keep moves the byte values of a row to our buffer.
func (r *serverRows) keep(dest []driver.Value) {
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
func (r *serverRows) Close() error {
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
	if err == nil && untold != nil && r.handle.closeTells {
		return untold
	}
	return err
}

func (r *serverRows) closeInner() error {
	err := r.inner.Close()
	if err != nil && r.client != nil {
		err = r.client.ExplainClose(err)
	}
	return err
}

// end closes the rows for a reason, with which what the program still asks of them is answered.
func (r *serverRows) end(reason error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.closed = true
	inner, shut := r.inner, r.shut
	ended := &endedRows{reason: reason}
	defer func() {
		if !shut {
			inner.Close()
		}
	}()
	m := r.memory.Load()
	r.inner = ended
	r.forget()
	if m != nil {
		ended.columns = m.sets[0].names
	} else {
		ended.columns = inner.Columns()
	}
}

// shutEarly closes the inner rows before the program closes these: only then the driver tells
// whether their connection is lost, or in a transaction. The caller has the connection, and does it once.
func (r *serverRows) shutEarly() {
	r.shut = true
	if err := r.closeInner(); err != nil {
		r.earlyEnd().err = err
	}
}

// isShut tells whether shutEarly was called, isClosed whether the program has closed the rows, or
// they were ended. The caller has the connection.
func (r *serverRows) isShut() bool   { return r.shut }
func (r *serverRows) isClosed() bool { return r.closed }

// raiseAtClose keeps a panic for the program's own Close.
func (r *serverRows) raiseAtClose(p any) { r.earlyEnd().raises = p }

// takeOff takes the rows off the list of their connection. It returns the statement that is to be
// let go now, or nil. The second time it does nothing.
func (r *serverRows) takeOff() *keptStmt {
	r.server.remove(r)
	kept := r.kept
	r.kept = nil
	return kept
}

// endedRows are what remains of rows that the end of a section has closed.
type endedRows struct {
	columns []string
	reason  error
}

func (r *endedRows) Columns() []string         { return r.columns }
func (r *endedRows) Next([]driver.Value) error { return r.reason }
func (r *endedRows) Close() error              { return nil }

// HasNextResultSet implements [driver.RowsNextResultSet].
func (r *serverRows) HasNextResultSet() bool {
	if has, known := r.hasNextInMemory(); known {
		return has
	}
	n, ok := r.inner.(driver.RowsNextResultSet)
	return ok && n.HasNextResultSet()
}

// NextResultSet implements [driver.RowsNextResultSet].
func (r *serverRows) NextResultSet() error {
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
func (r *serverRows) moveInner() error {
	r.last = io.EOF
	if n, ok := r.inner.(driver.RowsNextResultSet); ok && !r.shut {
		r.last = n.NextResultSet()
	}
	return r.last
}

// ownRows are those of a statement that was prepared for them alone.
type ownRows struct {
	serverRows
	ss *serverStmt // nil when it is closed
}

// Close implements [driver.Rows].
func (r *ownRows) Close() error {
	if ss := r.ss; ss != nil {
		r.ss = nil
		defer ss.Close()
	}
	return r.serverRows.Close()
}
