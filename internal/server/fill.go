package server

import (
	"database/sql/driver"
	"io"
	"slices"
)

// A fill reads on in some rows, to put into memory what it reads. It goes on until they
// have ended, there is no more room for them, or it is told to stop; so it ends no later
// than the row that the inner rows are asked for at that time.
//
// While it lasts it has the rows' connection, as a call of the program would. Such a call
// that needs the connection makes it stop; what is in memory by then the program
// gets without.

// The ends of a fill.
type FillEnd int

const (
	FillDone    FillEnd = iota // nothing is left of the inner rows
	FillFull                   // there is no more room
	FillStopped                // it was told to stop
)

// A FillLimit is how much may be in memory.
type FillLimit struct {
	Each  int64 // of one sql.Rows
	Total int64 // of all that the handle has open
}

// Fill does that. If the driver panics, so does the program's own
// next call, and the rows keep what they have until they are closed.
func (r *Rows) Fill(limit FillLimit, stop func() bool) (end FillEnd) {
	returned := false
	defer func() {
		if !returned {
			r.breakOff(recover())
			end = FillFull
		}
	}()
	end = r.tryFill(limit, stop)
	returned = true
	return end
}

func (r *Rows) breakOff(reason any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unspillable = true
	if r.server != nil {
		r.server.broken = true
	}
	if m := r.memory.Load(); m != nil {
		s := m.sets[len(m.sets)-1]
		s.ended, s.err, s.panic = true, io.ErrUnexpectedEOF, reason
	}
}

func (r *Rows) tryFill(limit FillLimit, stop func() bool) FillEnd {
	m := r.remember()
	for {
		s, full := r.lookAt(m, limit)
		switch {
		case s.panic != nil:
			return FillFull
		case s.ended && (!s.hasNext || s.nextErr != nil):
			return FillDone
		case full:
			return FillFull
		case stop():
			return FillStopped
		case s.ended:
			r.readNextSet(m, s)
		default:
			r.read(m, s)
		}
	}
}

// lookAt returns the result set that the inner rows are in, and whether there is no more room.
func (r *Rows) lookAt(m *memory, limit FillLimit) (s *resultSet, full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s = m.sets[len(m.sets)-1]
	return s, r.unspillable || m.size > limit.Each || r.Client.Handle().InMemory.Load() > limit.Total
}

// remember makes sure that the rows are read by way of memory.
func (r *Rows) remember() *memory {
	m := r.memory.Load()
	if m == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		m = new(memory)
		s := &m.first
		m.room[0] = s
		m.sets = m.room[:]
		s.describe(r.Inner)
		if s.ended, s.err, s.told = r.ended, r.last(), r.ended; s.ended {
			r.findNext(s)
		}
		r.saveCurrent()
		r.memory.Store(m)
	}
	return m
}

// read reads a row of the set.
func (r *Rows) read(m *memory, s *resultSet) {
	row := make([]driver.Value, len(s.columns))
	r.calls()
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

func (r *Rows) findNext(s *resultSet) {
	if n, ok := r.Inner.(driver.RowsNextResultSet); ok && s.err == io.EOF {
		r.calls()
		s.hasNext = n.HasNextResultSet()
	}
}

// readNextSet goes to the next result set, which may take long: so it does without mu, for the
// program to have what is in memory meanwhile.
func (r *Rows) readNextSet(m *memory, s *resultSet) {
	next := new(resultSet)
	err := r.moveInner()
	if err == nil {
		next.describe(r.Inner)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.nextErr = err; err == nil {
		m.sets = append(m.sets, next)
	}
}
