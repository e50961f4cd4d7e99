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

// NextRow does what Next does. It is used instead.
func (r scannerRows) NextRow() error {
	return r.during(func() error {
		err := r.inner.NextRow()
		if err != nil && r.conn != nil && r.conn.drawn.sc != nil {
			err = r.conn.drawn.sc.heed(err)
		}
		return r.limit.explain(r.inScope(err))
	})
}

func (r scannerRows) ScanColumn(ctx driver.ScanContext, index int, dest any) error {
	return r.during(func() error { return r.inner.ScanColumn(ctx, index, dest) })
}

// during calls the inner rows, unless the end of a section has closed them. That does not
// happen meanwhile.
func (r scannerRows) during(call func() error) error {
	if !r.guarded {
		return call()
	}
	if err := r.conn.enter(); err != nil {
		return err
	}
	defer r.conn.leave()
	if ended, ok := r.Rows.(*endedRows); ok {
		return ended.reason
	}
	return call()
}
