package server

import (
	"database/sql/driver"
	"reflect"
)

// ColumnTypeScanType implements [driver.RowsColumnTypeScanType].
func (r *Rows) ColumnTypeScanType(index int) reflect.Type {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.columnInMemory(index); c != nil {
		return c.scan
	}
	return scanTypeOf(r.Inner, index)
}

// ColumnTypeDatabaseTypeName implements [driver.RowsColumnTypeDatabaseTypeName].
func (r *Rows) ColumnTypeDatabaseTypeName(index int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.columnInMemory(index); c != nil {
		return c.name
	}
	return databaseTypeName(r.Inner, index)
}

// ColumnTypeLength implements [driver.RowsColumnTypeLength].
func (r *Rows) ColumnTypeLength(index int) (int64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.columnInMemory(index); c != nil {
		return c.length, c.hasLength
	}
	return lengthOf(r.Inner, index)
}

// ColumnTypeNullable implements [driver.RowsColumnTypeNullable].
func (r *Rows) ColumnTypeNullable(index int) (nullable, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.columnInMemory(index); c != nil {
		return c.nullable, c.knowsNullable
	}
	return nullableOf(r.Inner, index)
}

// ColumnTypePrecisionScale implements [driver.RowsColumnTypePrecisionScale].
func (r *Rows) ColumnTypePrecisionScale(index int) (precision, scale int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.columnInMemory(index); c != nil {
		return c.precision, c.scale, c.hasPrecision
	}
	return precisionScale(r.Inner, index)
}

// columnInMemory returns what is known of a column of rows that were read ahead, nil of
// others. The caller has mu, and keeps it while the inner rows are asked: database/sql lets
// nobody but itself close them meanwhile, and does not know that others end them.
func (r *Rows) columnInMemory(index int) *columnType {
	m := r.memory.Load()
	if m == nil {
		return nil
	}
	return &m.sets[0].columns[index]
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
	types := make([]columnType, len(inner.Columns()))
	for i := range types {
		t := &types[i]
		t.scan = scanTypeOf(inner, i)
		t.name = databaseTypeName(inner, i)
		t.length, t.hasLength = lengthOf(inner, i)
		t.nullable, t.knowsNullable = nullableOf(inner, i)
		t.precision, t.scale, t.hasPrecision = precisionScale(inner, i)
	}
	return types
}

// What follows asks rows that may lack the interface.

func scanTypeOf(inner driver.Rows, index int) reflect.Type {
	if t, ok := inner.(driver.RowsColumnTypeScanType); ok {
		return t.ColumnTypeScanType(index)
	}
	return reflect.TypeFor[any]()
}

func databaseTypeName(inner driver.Rows, index int) string {
	if t, ok := inner.(driver.RowsColumnTypeDatabaseTypeName); ok {
		return t.ColumnTypeDatabaseTypeName(index)
	}
	return ""
}

func lengthOf(inner driver.Rows, index int) (int64, bool) {
	if t, ok := inner.(driver.RowsColumnTypeLength); ok {
		return t.ColumnTypeLength(index)
	}
	return 0, false
}

func nullableOf(inner driver.Rows, index int) (nullable, ok bool) {
	if t, ok := inner.(driver.RowsColumnTypeNullable); ok {
		return t.ColumnTypeNullable(index)
	}
	return false, false
}

func precisionScale(inner driver.Rows, index int) (precision, scale int64, ok bool) {
	if t, ok := inner.(driver.RowsColumnTypePrecisionScale); ok {
		return t.ColumnTypePrecisionScale(index)
	}
	return 0, 0, false
}
