//go:build !go1.27

package server

import "database/sql/driver"

// public returns r as database/sql is to see it.
func (r *ownRows) public() driver.Rows { return r }

// Scanning returns the rows of a client as database/sql is to see them, if the inner rows scan by themselves,
// as they may since Go 1.27; else nil.
func (r *Rows) Scanning() driver.Rows { return nil }

// A scanRow is the row of inner rows that scan by themselves, as they may since Go 1.27.
//
//lint:ignore U1000 used from Go 1.27 on
type scanRow struct{}

func (r *Rows) saveCurrent() {}

// innerNext asks the inner rows for a row.
func (r *Rows) innerNext(row []driver.Value) error { return r.Inner.Next(row) }
