//go:build go1.27

package server

import (
	"database/sql"
	"database/sql/driver"
	"reflect"
)

// public returns r as database/sql is to see it: as scannerRows of a client.
func (r *ownRows) public() driver.Rows {
	if inner, ok := r.scanner(); ok {
		return ownScannerRows{r, inner}
	}
	return r
}

// ownScannerRows are those whose inner rows scan by themselves.
type ownScannerRows struct {
	*ownRows
	inner driver.RowsColumnScanner
}

func (r ownScannerRows) NextRow() error { return r.fetchRow(r.inner) }

func (r ownScannerRows) ScanColumn(ctx driver.ScanContext, index int, dest any) error {
	return r.scanInner(r.inner, ctx, index, dest)
}

// Scanning returns the rows of a client as database/sql is to see them, if the inner rows scan by themselves; else nil. Since
// Go 1.27 the rows of a driver may scan into the program's variables themselves; database/sql looks for
// the interface, so only rows over such rows may have it.
func (r *Rows) Scanning() driver.Rows {
	if inner, ok := r.scanner(); ok {
		return scannerRows{r.Client, r, inner}
	}
	return nil
}

var _ driver.RowsColumnScanner = scannerRows{}

// scannerRows are rows of a client whose inner rows scan by themselves.
type scannerRows struct {
	RowsClient
	rows  *Rows // of that
	Inner driver.RowsColumnScanner
}

// NextRow does what Next does. It is used instead.
func (r scannerRows) NextRow() error {
	taken, err := r.rows.takeRow()
	if !taken {
		err = r.fetch()
	}
	if err != nil {
		return r.AtEnd(err)
	}
	return nil
}

func (r scannerRows) fetch() error {
	if err := r.Enter(); err != nil {
		return err
	}
	defer r.Leave()
	return r.rows.fetchRow(r.Inner)
}

// ScanColumn scans a column of the row that the program is on. After a panic in it database/sql
// keeps the sql.Rows locked for ever, so that they cannot even be closed: it becomes an error.
func (r scannerRows) ScanColumn(ctx driver.ScanContext, index int, dest any) (err error) {
	if done, err := r.rows.scanMemory(ctx, index, dest); done {
		return err
	}
	if err := r.Enter(); err != nil {
		return err
	}
	defer r.Leave()
	returned := false
	defer func() {
		if !returned {
			err = r.ScanBroke(recover())
		}
	}()
	err = r.rows.scanInner(r.Inner, ctx, index, dest)
	returned = true
	return err
}

// scanner returns the inner rows if they scan by themselves.
func (r *Rows) scanner() (inner driver.RowsColumnScanner, ok bool) {
	inner, ok = r.Inner.(driver.RowsColumnScanner)
	return inner, ok
}

// A scanRow is where the program is in rows that scan by themselves. It is guarded by
// the mutex of the rows.
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

// fetchRow is Next by way of NextRow of the inner rows.
func (r *Rows) fetchRow(inner driver.RowsColumnScanner) error {
	if taken, err := r.takeRow(); taken {
		return err
	}
	if ended, ok := r.Inner.(*endedRows); ok {
		return ended.reason
	}
	r.calls()
	err := r.fetched(inner.NextRow())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scanned.inner, r.scanned.values = err == nil, nil
	return err
}

func (r *Rows) takeRow() (taken bool, err error) {
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

// scanMemory scans a column of the row that the program is on, if that is in memory.
func (r *Rows) scanMemory(ctx driver.ScanContext, index int, dest any) (done bool, err error) {
	if v := r.columnValue(index); v != nil {
		return true, v.assign(ctx, dest)
	}
	return false, nil
}

// scanInner scans a column of the row that the program is on, with the connection.
func (r *Rows) scanInner(inner driver.RowsColumnScanner, ctx driver.ScanContext, index int, dest any) error {
	if ended, ok := r.Inner.(*endedRows); ok {
		return ended.reason
	}
	if done, err := r.scanMemory(ctx, index, dest); done {
		return err
	}
	r.noteType(index, reflect.TypeOf(dest))
	r.calls()
	return inner.ScanColumn(ctx, index, dest)
}

// columnValue returns a column of the row that the program is on, if that is in memory.
func (r *Rows) columnValue(index int) *scannedValue {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.scanned.values == nil {
		return nil
	}
	return r.scanned.values[index].(*scannedValue)
}

// noteType is called with the connection.
func (r *Rows) noteType(index int, t reflect.Type) {
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
func (r *Rows) saveCurrent() {
	if inner, ok := r.Inner.(driver.RowsColumnScanner); ok && r.scanned.inner {
		r.scanned.values = make([]driver.Value, len(inner.Columns()))
		r.scanColumns(inner, r.scanned.values)
		r.scanned.inner = false
	}
}

// innerNext asks the inner rows for a row.
func (r *Rows) innerNext(row []driver.Value) error {
	inner, ok := r.Inner.(driver.RowsColumnScanner)
	if !ok {
		return r.Inner.Next(row)
	}
	if err := inner.NextRow(); err != nil {
		return err
	}
	r.scanColumns(inner, row)
	return nil
}

func (r *Rows) scanColumns(inner driver.RowsColumnScanner, row []driver.Value) {
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
