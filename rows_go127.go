//go:build go1.27

package dblocker

import "database/sql/driver"

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

// scansItself tells whether the inner rows scan by themselves. Then the values of
// a row do not pass through our hands, and cannot be kept in memory.
func (r *rows) scansItself() bool {
	_, ok := r.Rows.(driver.RowsColumnScanner)
	return ok
}

// scannerRows are rows whose inner rows scan by themselves.
type scannerRows struct {
	*rows
	inner driver.RowsColumnScanner
}

func (r scannerRows) NextRow() error {
	if !r.guarded {
		return r.inner.NextRow()
	}
	if err := r.conn.enter(); err != nil {
		return err
	}
	defer r.conn.leave()
	if ended, ok := r.Rows.(*endedRows); ok {
		return ended.reason
	}
	return r.inner.NextRow()
}

func (r scannerRows) ScanColumn(ctx driver.ScanContext, index int, dest any) error {
	return r.inner.ScanColumn(ctx, index, dest)
}
