//go:build go1.27

package dblocker

import (
	"database/sql"
	"database/sql/driver"
	"reflect"

	"github.com/calmdocs/dblocker/internal/server"
)

var _ driver.RowsColumnScanner = scannerRows{}

// public returns r as database/sql is to see it. Since Go 1.27 the rows of a
// driver may scan into the program's variables themselves; database/sql looks for
// the interface, so only rows over such rows may have it.
func (r *rows) public() driver.Rows {
	if inner, ok := r.Rows.(driver.RowsColumnScanner); ok {
		return scannerRows{r, inner}
	}
	return r
}

// scannerRows are rows whose inner rows scan by themselves.
type scannerRows struct {
	*rows
	inner driver.RowsColumnScanner
}

// A scanRow is where the program is in rows that scan by themselves. It is guarded by
// rows.mu.
type scanRow struct {
	inner  bool           // on a row of the inner rows
	values []driver.Value // of the row that it is on, scannedValues, if that is in memory; else nil

	// types are what the program has scanned the columns into; nil of one that it has
	// not. It will go on to do so: and there may be types that only the driver knows.
	types []reflect.Type
}

// A scannedValue is a column of a row that was read ahead.
type scannedValue struct {
	value driver.Value
	err   error
	typed reflect.Value // a pointer to the value as the program's type; the zero Value if there is none
}

func (v *scannedValue) size() int64 {
	const itself = 64
	size := itself + rowSize([]driver.Value{v.value})
	if v.typed.IsValid() {
		size += int64(v.typed.Type().Elem().Size())
	}
	return size
}

// NextRow does what Next does. It is used instead.
func (r scannerRows) NextRow() error {
	if taken, err := r.takeRow(); taken {
		return err
	}
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	if taken, err := r.takeRow(); taken {
		return err
	}
	if ended, ok := r.Rows.(*endedRows); ok {
		return ended.reason
	}
	err := r.fetched(r.inner.NextRow())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scanned.inner, r.scanned.values = err == nil, nil
	return err
}

func (r *rows) takeRow() (taken bool, err error) {
	if r.memory.Load() == nil {
		return false, nil
	}
	row, taken, err := r.take()
	if taken {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.scanned.inner, r.scanned.values = false, row
	}
	return taken, err
}

// ScanColumn scans a column of the row that the program is on. After a panic in it database/sql
// keeps the sql.Rows locked for ever, so that they cannot even be closed: it becomes an error.
func (r scannerRows) ScanColumn(ctx driver.ScanContext, index int, dest any) (err error) {
	if v := r.inMemory(index); v != nil {
		return v.assign(ctx, dest)
	}
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	if ended, ok := r.Rows.(*endedRows); ok {
		return ended.reason
	}
	if v := r.inMemory(index); v != nil {
		return v.assign(ctx, dest)
	}
	r.noteType(index, reflect.TypeOf(dest))
	returned := false
	defer func() {
		if !returned {
			err = r.brokenScan(recover())
		}
	}()
	err = r.inner.ScanColumn(ctx, index, dest)
	returned = true
	return err
}

// brokenScan is for a ScanColumn that has panicked with p, or has ended the goroutine if p is
// nil. The caller has the connection.
func (r scannerRows) brokenScan(p any) error {
	c := r.conn
	if c == nil {
		if p != nil {
			panic(p)
		}
		return nil
	}
	c.abandon(&r.hold.userHold, nil)
	if p == nil {
		return nil
	}
	return server.Caught(c.db.logger, p)
}

// inMemory returns a column of the row that the program is on, if that is in memory.
func (r *rows) inMemory(index int) *scannedValue {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.scanned.values == nil {
		return nil
	}
	return r.scanned.values[index].(*scannedValue)
}

// noteType is called with the connection.
func (r *rows) noteType(index int, t reflect.Type) {
	for len(r.scanned.types) <= index {
		r.scanned.types = append(r.scanned.types, nil)
	}
	r.scanned.types[index] = t
}

// assign does for a value in memory what the driver would have done. What is a Scanner
// itself gets the value as database/sql would pass it.
func (v *scannedValue) assign(ctx driver.ScanContext, dest any) error {
	if v.typed.IsValid() && v.typed.Type() == reflect.TypeOf(dest) {
		reflect.ValueOf(dest).Elem().Set(v.typed.Elem())
		return nil
	}
	if v.err != nil {
		return v.err
	}
	return sql.ConvertAssign(ctx, dest, v.value)
}

// saveCurrent keeps the row that the program is on. The caller has the connection and mu.
func (r *rows) saveCurrent() {
	if inner, ok := r.Rows.(driver.RowsColumnScanner); ok && r.scanned.inner {
		r.scanned.values = make([]driver.Value, len(inner.Columns()))
		r.scanColumns(inner, r.scanned.values)
		r.scanned.inner = false
	}
}

// innerNext asks the inner rows for a row.
func (r *rows) innerNext(row []driver.Value) error {
	inner, ok := r.Rows.(driver.RowsColumnScanner)
	if !ok {
		return r.Rows.Next(row)
	}
	if err := inner.NextRow(); err != nil {
		return err
	}
	r.scanColumns(inner, row)
	return nil
}

func (r *rows) scanColumns(inner driver.RowsColumnScanner, row []driver.Value) {
	for i := range row {
		v := new(scannedValue)
		row[i] = v
		var plain any
		v.err = inner.ScanColumn(driver.ScanContext{}, i, &plain)
		v.value = plain
		if i < len(r.scanned.types) && isPlainPointer(r.scanned.types[i]) {
			p := reflect.New(r.scanned.types[i].Elem())
			if inner.ScanColumn(driver.ScanContext{}, i, p.Interface()) == nil {
				v.typed = p
			}
		}
	}
}

var (
	scannerType  = reflect.TypeFor[sql.Scanner]()
	rawBytesType = reflect.TypeFor[*sql.RawBytes]()
)

// isPlainPointer tells whether what a program scans into is a pointer to a value that can be
// copied.
func isPlainPointer(t reflect.Type) bool {
	return t != nil && t.Kind() == reflect.Pointer && t != rawBytesType && !t.Implements(scannerType)
}
