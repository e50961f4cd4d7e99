//go:build go1.27

package fakedriver

import (
	"database/sql"
	"database/sql/driver"
)

func init() { rowsSubsets = append(rowsSubsets, scannerRowsSubsets...) }

func (r *rows) NextRow() error {
	if err := r.call("NextRow"); err != nil {
		return err
	}
	return r.advance()
}

func (r *rows) ScanColumn(ctx driver.ScanContext, index int, dest any) error {
	if err := r.call("ScanColumn", index); err != nil {
		return err
	}
	return sql.ConvertAssign(ctx, dest, r.current[index])
}
