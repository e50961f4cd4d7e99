//go:build go1.27

package dblocker

import (
	"database/sql/driver"

	"github.com/calmdocs/dblocker/internal/server"
)

var _ driver.RowsColumnScanner = scannerRows{}

// public returns r as database/sql is to see it. Since Go 1.27 the rows of a
// driver may scan into the program's variables themselves; database/sql looks for
// the interface, so only rows over such rows may have it.
func (r *rows) public() driver.Rows {
	if inner, ok := r.Scanner(); ok {
		return scannerRows{r, inner}
	}
	return r
}

// scannerRows are rows whose inner rows scan by themselves.
type scannerRows struct {
	*rows
	inner driver.RowsColumnScanner
}

// NextRow does what Next does. It is used instead.
func (r scannerRows) NextRow() error {
	taken, err := r.TakeRow()
	if !taken {
		err = r.fetchRow()
	}
	if err != nil {
		return r.repayAtEnd(err)
	}
	return nil
}

func (r scannerRows) fetchRow() error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	return r.FetchRow(r.inner)
}

// ScanColumn scans a column of the row that the program is on. After a panic in it database/sql
// keeps the sql.Rows locked for ever, so that they cannot even be closed: it becomes an error.
func (r scannerRows) ScanColumn(ctx driver.ScanContext, index int, dest any) (err error) {
	if done, err := r.ScanMemory(ctx, index, dest); done {
		return err
	}
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	returned := false
	defer func() {
		if !returned {
			err = r.brokenScan(recover())
		}
	}()
	err = r.ScanInner(r.inner, ctx, index, dest)
	returned = true
	return err
}

// brokenScan is for a ScanColumn that has panicked with p, or has ended the goroutine if p is
// nil. The caller has the connection.
func (r scannerRows) brokenScan(p any) error {
	r.conn.abandon(&r.hold.Hold, nil)
	if p == nil {
		return nil
	}
	return server.Caught(r.conn.db.logger, p)
}
