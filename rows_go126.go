//go:build !go1.27

package dblocker

import "database/sql/driver"

// public returns r as database/sql is to see it.
func (r *rows) public() driver.Rows { return r }
