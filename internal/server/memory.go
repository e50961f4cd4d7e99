package server

import (
	"database/sql/driver"
	"io"
	"slices"
)

// A memory is what was read of some rows before the program asked for it: the rest of
// the result set that the program is in, and whole ones that come after it.
//
// It is changed with the mutex of the rows, and what is added to it with the connection too. The inner
// rows are in the last of the sets.
type memory struct {
	sets []*resultSet // never empty; the program is in the first
	size int64        // of the rows in it, as the handle counts them

	first resultSet // for the usual content of sets
	room  [1]*resultSet
}

// A resultSet is also what the inner rows said of their columns, some of which they would
// say differently at its end.
type resultSet struct {
	names   []string
	columns []columnType
	rows    [][]driver.Value
	served  int

	ended   bool  // the inner rows have come to its end, with err
	err     error // io.EOF as a rule
	panic   any   // in place of err; else nil
	told    bool  // the program knows of the end
	hasNext bool  // what HasNextResultSet said at the end
	nextErr error // what NextResultSet said then; nil if it moved on, or was not called

	nextTold bool // the program knows of nextErr

	room [1][]driver.Value // for rows, if it is one
}

// describe says of which columns the result set is that the inner rows are in.
func (s *resultSet) describe(inner driver.Rows) {
	s.names, s.columns = inner.Columns(), columnTypes(inner)
	s.rows = s.room[:0]
}

func (s *resultSet) add(row []driver.Value) {
	if 2*s.served >= len(s.rows) { // what was served needs no room
		s.rows = slices.Delete(s.rows, 0, s.served)
		s.served = 0
	}
	s.rows = append(s.rows, row)
}

// Serve answers Next from memory. ok is false if the inner rows have to.
func (r *Rows) Serve(dest []driver.Value) (ok bool, err error) {
	if r.memory.Load() == nil {
		return false, nil
	}
	row, ok, err := r.take()
	copy(dest, row)
	return ok, err
}

// take takes the next row out of memory. ok is false if there is none, and the inner rows
// are to be asked.
func (r *Rows) take() (row []driver.Value, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.memory.Load()
	if m == nil {
		return nil, false, nil
	}
	s := m.sets[0]
	if s.served < len(s.rows) {
		row = s.rows[s.served]
		s.rows[s.served] = nil // the program has its values now
		s.served++
		r.account(m, -rowSize(row))
		return row, true, nil
	}
	s.told = s.ended
	if s.panic != nil {
		panic(s.panic)
	}
	return nil, s.ended, s.err
}

// InMemory returns about how many bytes of the rows are in memory.
func (r *Rows) InMemory() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.memory.Load(); m != nil {
		return m.size
	}
	return 0
}

// account notes that the memory has grown by so many bytes. The caller has mu.
func (r *Rows) account(m *memory, bytes int64) {
	m.size += bytes
	r.Client.Handle().InMemory.Add(bytes)
}

// forget drops what is in memory. The caller has mu, and the connection.
func (r *Rows) forget() {
	if m := r.memory.Load(); m != nil {
		r.account(m, -m.size)
		r.memory.Store(nil)
	}
}

// untold returns an error that is in memory, and that the program has not seen. The caller
// has mu.
func (r *Rows) untold() error {
	m := r.memory.Load()
	if m == nil {
		return nil
	}
	for _, s := range m.sets {
		switch {
		case s.ended && !s.told && s.err != io.EOF:
			return s.err
		case s.nextErr != nil && s.nextErr != io.EOF && !s.nextTold:
			return s.nextErr
		}
	}
	return nil
}

// HasNextInMemory answers HasNextResultSet, if memory tells.
func (r *Rows) HasNextInMemory() (has, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.memory.Load()
	if m == nil || !m.sets[0].ended {
		return false, false
	}
	return m.sets[0].hasNext, true
}

// MoveInMemory does what NextResultSet is to do, if the inner rows have done it already.
func (r *Rows) MoveInMemory() (moved bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.memory.Load()
	if m == nil {
		return false, nil
	}
	s := m.sets[0]
	switch {
	case s.ended && !s.told && r.Client.Handle().SkipsNoSet:
		return true, io.EOF
	case len(m.sets) == 1:
		s.nextTold = true
		return s.nextErr != nil, s.nextErr
	}
	for _, row := range s.rows[s.served:] {
		r.account(m, -rowSize(row))
	}
	m.sets = m.sets[1:]
	return true, nil
}

// rowSize is about what a row takes in memory.
func rowSize(row []driver.Value) int64 {
	const perValue = 16 // an interface
	size := perValue * int64(len(row))
	for _, v := range row {
		switch v := v.(type) {
		case []byte:
			size += int64(cap(v))
		case string:
			size += int64(len(v))
		case sized:
			size += v.size()
		}
	}
	return size
}

// A sized value is one that takes up more.
type sized interface{ size() int64 }
