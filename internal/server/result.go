package server

import "database/sql/driver"

// A result holds what the inner driver's Result had to say. It is read at once:
// when the program asks, the server connection may be another's.
type result struct {
	lastInsertID    int64
	lastInsertIDErr error
	rowsAffected    int64
	rowsAffectedErr error
}

// ReadResult returns a Result that no longer needs the connection of inner.
func ReadResult(inner driver.Result) driver.Result {
	switch inner.(type) {
	case nil, driver.RowsAffected: // nothing, or a mere value
		return inner
	}
	var r result
	r.lastInsertID, r.lastInsertIDErr = inner.LastInsertId()
	r.rowsAffected, r.rowsAffectedErr = inner.RowsAffected()
	return &r
}

func (r *result) LastInsertId() (int64, error) { return r.lastInsertID, r.lastInsertIDErr }
func (r *result) RowsAffected() (int64, error) { return r.rowsAffected, r.rowsAffectedErr }
