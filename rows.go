package dblocker

import (
	"database/sql/driver"
	"io"
	"reflect"
	"sync"

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
// be answered for it, under a hold that ends when they are closed, or when they
// have been spilled.
type rows struct {
	driver.Rows
	conn  *conn // on which they are open; nil if they are a server connection's own
	hold  userHold
	limit *statementLimit // nil if there is none
	kept  *keptStmt       // whose rows they are, to be let go after Close; or nil
	done  func()          // what else is to be done after Close; may be nil

	inside   *section // that they are in by themselves; nil if in none
	guarded  bool     // the end of a section may end them
	late     error    // set if they are to be closed, see late; else nil
	released bool

	server     *serverConn // in whose list they are, linked by below; or nil
	below      *rows
	prev, next *rows // in the list of hold.owner, which guards them

	// mu keeps the program's calls and a spill apart: the latter comes from
	// another call of the same owner, which knows nothing of this connection.
	mu      sync.Mutex
	closed  bool
	writes  bool   // whether they are of a statement that writes, or may by WithMode
	spilled *spill // nil unless the rows were spilled
	copies  bool   // whether the values of a row must be copied out of the inner driver's buffer
	buffer  []byte // the byte values of the current row, if they were
}

// wrapRows returns inner with done to be called once it has been closed.
func wrapRows(inner driver.Rows, done func()) driver.Rows {
	return (&rows{Rows: inner, done: done}).public()
}

// Columns implements [driver.Rows].
func (r *rows) Columns() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spilled != nil {
		return r.spilled.names
	}
	return r.Rows.Columns()
}

// Next serves what was spilled, and then what the inner rows have.
//
// Drivers such as lib/pq pass byte values in a buffer that their next Next
// overwrites, and sql.Rows passes them on. If the rows are spilled while the
// program works on a row, its values must survive: so they are in our buffer,
// which only the program's own next Next overwrites.
func (r *rows) Next(dest []driver.Value) error {
	if r.guarded {
		if err := r.conn.enter(); err != nil {
			return err
		}
		defer r.conn.leave()
	}
	if r.guarded || r.hold.owner != nil { // else only calls on this connection could spill them
		r.mu.Lock()
		defer r.mu.Unlock()
	}
	return r.limit.explain(r.inScope(r.advance(dest)))
}

func (r *rows) advance(dest []driver.Value) error {
	if r.spilled != nil {
		if served, err := r.spilled.serve(dest); served {
			return err
		}
	}
	err := r.fetch(dest)
	if err == nil && r.copies {
		r.keep(dest)
	}
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

func (r *rows) fetch(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	if err != nil && r.conn != nil && r.conn.drawn.sc != nil {
		return r.conn.drawn.sc.heed(err)
	}
	return err
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
	return r.conn.guardHeld(func() error {
		returned := false
		defer func() {
			if !returned {
				r.conn.abandon(&r.hold, admission{})
			}
			r.release()
		}()
		err := r.closeInner()
		returned = true
		return err
	})
}

// closeLate is for rows on a pinned connection that another call has: they are closed when that
// returns. Who has the turn perhaps waits for their user's lock.
func (r *rows) closeLate() {
	r.late = errClosed
	if !r.writes {
		r.hold.Hold.Release()
	}
	r.conn.leaveLate()
}

func (r *rows) closeInner() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return r.inScope(r.Rows.Close())
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
	ended, inner := &endedRows{nil, reason}, r.Rows
	r.Rows, r.spilled = ended, nil
	defer inner.Close()
	ended.columns = inner.Columns()
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
	r.released = true
	// All of it is done, whatever panics in the inner driver.
	if done := r.done; done != nil {
		r.done = nil
		defer done()
	}
	defer r.limit.end()
	defer r.hold.release()
	defer r.unlock()
	if c := r.conn; c != nil {
		r.server.remove(r)
		if r.kept != nil {
			defer r.kept.letGo()
		}
		c.leaveToLost(&r.hold)
	}
}

// unlock gives up the locks, but not the place in a section, which has still to close
// the rows. It does nothing the second time.
func (r *rows) unlock() {
	if r.hold.owner != nil {
		r.hold.owner.remove(r)
	}
	r.hold.unlock()
}

// onClose adds f to what is to be done after Close.
func (r *rows) onClose(f func()) {
	done := r.done
	r.done = func() {
		f()
		if done != nil {
			done()
		}
	}
}

// HasNextResultSet implements [driver.RowsNextResultSet].
func (r *rows) HasNextResultSet() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.Rows.(driver.RowsNextResultSet)
	return ok && n.HasNextResultSet()
}

// NextResultSet implements [driver.RowsNextResultSet].
func (r *rows) NextResultSet() error {
	if r.guarded {
		if err := r.conn.enter(); err != nil {
			return err
		}
		defer r.conn.leave()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spilled = nil
	if n, ok := r.Rows.(driver.RowsNextResultSet); ok {
		return n.NextResultSet()
	}
	return io.EOF
}

// ColumnTypeScanType implements [driver.RowsColumnTypeScanType].
func (r *rows) ColumnTypeScanType(index int) reflect.Type {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.spilledColumn(index); c != nil {
		return c.scan
	}
	if t, ok := r.Rows.(driver.RowsColumnTypeScanType); ok {
		return t.ColumnTypeScanType(index)
	}
	return reflect.TypeFor[any]()
}

// ColumnTypeDatabaseTypeName implements [driver.RowsColumnTypeDatabaseTypeName].
func (r *rows) ColumnTypeDatabaseTypeName(index int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.spilledColumn(index); c != nil {
		return c.name
	}
	if t, ok := r.Rows.(driver.RowsColumnTypeDatabaseTypeName); ok {
		return t.ColumnTypeDatabaseTypeName(index)
	}
	return ""
}

// ColumnTypeLength implements [driver.RowsColumnTypeLength].
func (r *rows) ColumnTypeLength(index int) (int64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.spilledColumn(index); c != nil {
		return c.length, c.hasLength
	}
	if t, ok := r.Rows.(driver.RowsColumnTypeLength); ok {
		return t.ColumnTypeLength(index)
	}
	return 0, false
}

// ColumnTypeNullable implements [driver.RowsColumnTypeNullable].
func (r *rows) ColumnTypeNullable(index int) (nullable, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.spilledColumn(index); c != nil {
		return c.nullable, c.knowsNullable
	}
	if t, ok := r.Rows.(driver.RowsColumnTypeNullable); ok {
		return t.ColumnTypeNullable(index)
	}
	return false, false
}

// ColumnTypePrecisionScale implements [driver.RowsColumnTypePrecisionScale].
func (r *rows) ColumnTypePrecisionScale(index int) (precision, scale int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.spilledColumn(index); c != nil {
		return c.precision, c.scale, c.hasPrecision
	}
	if t, ok := r.Rows.(driver.RowsColumnTypePrecisionScale); ok {
		return t.ColumnTypePrecisionScale(index)
	}
	return 0, 0, false
}

// spilledColumn returns what is known of a column of spilled rows, nil of others. The
// caller has mu, and keeps it while the inner rows are asked: database/sql lets nobody but
// itself close them meanwhile, and does not know of the end of a section.
func (r *rows) spilledColumn(index int) *columnType {
	if r.spilled == nil {
		return nil
	}
	return &r.spilled.columns[index]
}
