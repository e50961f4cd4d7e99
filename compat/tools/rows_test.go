package tools

import (
	"database/sql"
	"errors"
)

// first reads the first row, and leaves the others.
func first(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	if !rows.Next() {
		return errors.Join(errors.New("there is no row"), rows.Err())
	}
	return nil
}

// second returns the error of a call whose result is of no interest.
func second(_ any, err error) error { return err }
