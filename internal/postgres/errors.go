package postgres

import (
	"errors"
	"reflect"

	"github.com/calmdocs/dblocker/internal/drivers"
)

// undefinedStatement and others are SQLSTATEs:
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	undefinedStatement = "26000" // invalid_sql_statement_name
	duplicateStatement = "42P05" // duplicate_prepared_statement
	notSupported       = "0A000" // feature_not_supported
)

// isStale knows the errors that say nothing was executed. "Cached plan
// must not change result type" is told by the function that it is from, since its
// text may be in any language. In a function of the server it is about another plan.
func isStale(err error) bool {
	switch SQLState(err) {
	case undefinedStatement, duplicateStatement:
		return true
	case notSupported:
		e := reflect.ValueOf(err)
		return errorField(e, "Routine") == "RevalidateCachedQuery" && errorField(e, "Where") == ""
	}
	return false
}

// isUnknown tells whether the server does not know a prepared statement.
func isUnknown(err error) bool { return SQLState(err) == undefinedStatement }

// SQLState returns the SQLSTATE of an error of PostgreSQL, or "".
func SQLState(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// errorField returns a field of an error of lib/pq or pgx, or "".
func errorField(err reflect.Value, name string) string {
	if f := drivers.Field(err, name); f.Kind() == reflect.String {
		return f.String()
	}
	return ""
}
