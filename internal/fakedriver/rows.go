package fakedriver

import (
	"database/sql/driver"
	"io"
	"reflect"
)

// The optional interfaces of rows, without the methods of driver.Rows that the
// package driver repeats in each.
type (
	nextResultSet interface {
		HasNextResultSet() bool
		NextResultSet() error
	}
	scanType         interface{ ColumnTypeScanType(index int) reflect.Type }
	databaseTypeName interface{ ColumnTypeDatabaseTypeName(index int) string }
	length           interface {
		ColumnTypeLength(index int) (int64, bool)
	}
	nullable interface {
		ColumnTypeNullable(index int) (nullable, ok bool)
	}
	precisionScale interface {
		ColumnTypePrecisionScale(index int) (precision, scale int64, ok bool)
	}
)

// rows are two result sets of two rows each. It has the methods of all optional
// interfaces; programs see a subset.
type rows struct {
	c        *conn
	sets     [][][]driver.Value
	names    [][]string
	set, row int
	current  []driver.Value // of the current row
	told     bool           // Columns was called in this result set
}

func newRows(c *conn, query string) driver.Rows {
	value, ok := c.s.Values[query]
	if !ok {
		return rowsSubsets[c.s.Shape.Rows](&rows{c: c, sets: results, names: names})
	}
	return rowsSubsets[c.s.Shape.Rows](&rows{c: c, sets: [][][]driver.Value{{{value}}}, names: [][]string{{"value"}}})
}

// names and results are those of the result sets.
var names = [][]string{{"id", "name"}, {"a", "b"}}

var results = [][][]driver.Value{
	{{int64(1), "one"}, {int64(2), nil}},
	{{[]byte("bytes"), true}, {2.5, "more"}},
}

func (r *rows) call(method string, args ...any) error {
	return r.c.s.call(noContext, r.c.id, "rows."+method, args...)
}

func (r *rows) Columns() []string {
	r.told = true
	r.call("Columns")
	return r.names[r.set]
}

func (r *rows) Next(dest []driver.Value) error {
	if err := r.call("Next"); err != nil {
		return err
	}
	if err := r.advance(); err != nil {
		return err
	}
	copy(dest, r.current)
	return nil
}

func (r *rows) advance() error {
	if !r.told {
		panic("a row was asked for before the columns: database/sql never does, and some drivers cannot answer")
	}
	set := r.sets[r.set]
	if r.row == len(set) {
		return io.EOF
	}
	r.current = set[r.row]
	r.row++
	return nil
}

func (r *rows) Close() error { return r.call("Close") }

func (r *rows) HasNextResultSet() bool {
	return r.call("HasNextResultSet") == nil && r.set+1 < len(r.sets)
}

func (r *rows) NextResultSet() error {
	if err := r.call("NextResultSet"); err != nil {
		return err
	}
	if r.set+1 == len(r.sets) {
		return io.EOF
	}
	r.set, r.row, r.told = r.set+1, 0, false
	return nil
}

func (r *rows) ColumnTypeScanType(index int) reflect.Type {
	r.call("ColumnTypeScanType", index)
	return []reflect.Type{reflect.TypeFor[int32](), reflect.TypeFor[*string]()}[index]
}

func (r *rows) ColumnTypeDatabaseTypeName(index int) string {
	r.call("ColumnTypeDatabaseTypeName", index)
	return []string{"INT4", "TEXT"}[index]
}

func (r *rows) ColumnTypeLength(index int) (int64, bool) {
	r.call("ColumnTypeLength", index)
	return int64(index * 100), index > 0
}

func (r *rows) ColumnTypeNullable(index int) (nullable, ok bool) {
	r.call("ColumnTypeNullable", index)
	return index > 0, true
}

func (r *rows) ColumnTypePrecisionScale(index int) (precision, scale int64, ok bool) {
	r.call("ColumnTypePrecisionScale", index)
	return 10, 2, index == 0
}
