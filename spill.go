package dblocker

import (
	"context"
	"database/sql/driver"
	"fmt"
	"reflect"
	"slices"
)

// A spill is the rest of some rows, read into memory so that their lock could be
// given up. It is also what the inner rows said of their columns, some of which
// they would say differently at their end.
type spill struct {
	rows    [][]driver.Value
	next    int
	names   []string
	columns []columnType
	err     error // that ended the inner rows; io.EOF as a rule; nil if they go on
}

// spill reads the rest of r into memory and gives up its locks, or what of them giveUp
// does. Rows that exceed the limit, or outlast the context, keep them: what has been
// read is served first, and then the rest.
func (r *rows) spill(ctx context.Context, limit int64, giveUp func(*rows)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.Rows == nil || r.scansItself() {
		return nil
	}
	if err := r.readAhead(ctx, limit); err != nil {
		return err
	}
	if n, ok := r.Rows.(driver.RowsNextResultSet); ok && n.HasNextResultSet() {
		return nil // there is more to come that needs the lock
	}
	giveUp(r)
	return nil
}

// readAhead reads the rest of r into memory.
func (r *rows) readAhead(ctx context.Context, limit int64) error {
	if r.spilled == nil {
		r.spilled = &spill{names: r.Rows.Columns(), columns: columnTypes(r.Rows)}
	}
	return r.spilled.read(ctx, r.Rows, limit)
}

func (s *spill) read(ctx context.Context, inner driver.Rows, limit int64) error {
	var size int64
	for _, row := range s.rows[s.next:] {
		size += rowSize(row)
	}
	for s.err == nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		row := make([]driver.Value, len(s.columns))
		if s.err = inner.Next(row); s.err != nil {
			break
		}
		for i := range row {
			if b, ok := row[i].([]byte); ok {
				row[i] = slices.Clone(b)
			}
		}
		s.rows = append(s.rows, row)
		if size += rowSize(row); size > limit {
			return fmt.Errorf("%w: more than spill_limit=%d bytes; read them to the end or close them first, or raise spill_limit", ErrSpillLimit, limit)
		}
	}
	return nil
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
		}
	}
	return size
}

// serve answers Next from memory. ok is false if the inner rows have to.
func (s *spill) serve(dest []driver.Value) (ok bool, err error) {
	if s.next < len(s.rows) {
		copy(dest, s.rows[s.next])
		s.rows[s.next] = nil // the program has its values now
		s.next++
		return true, nil
	}
	return s.err != nil, s.err
}

// A columnType is what rows say of a column.
type columnType struct {
	scan             reflect.Type
	name             string
	length           int64
	hasLength        bool
	nullable         bool
	knowsNullable    bool
	precision, scale int64
	hasPrecision     bool
}

// columnTypes asks rows, with whatever interfaces they have, for all of it.
func columnTypes(inner driver.Rows) []columnType {
	r := rows{Rows: inner}
	types := make([]columnType, len(inner.Columns()))
	for i := range types {
		t := &types[i]
		t.scan = r.ColumnTypeScanType(i)
		t.name = r.ColumnTypeDatabaseTypeName(i)
		t.length, t.hasLength = r.ColumnTypeLength(i)
		t.nullable, t.knowsNullable = r.ColumnTypeNullable(i)
		t.precision, t.scale, t.hasPrecision = r.ColumnTypePrecisionScale(i)
	}
	return types
}
