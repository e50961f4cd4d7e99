package engines

import (
	"reflect"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

// Which errors of engines say that a statement, or the transaction that it was in, did nothing, and why. They are
// told by SQLSTATE, number and result code, whatever the driver:
// https://www.postgresql.org/docs/current/errcodes-appendix.html,
// https://mariadb.com/kb/en/mariadb-error-code-reference/, https://www.sqlite.org/rescode.html.

// Serialization tells whether an engine has given up a transaction since another one has changed what it had read.
func Serialization(err error) bool {
	return anyOf(err, func(err error) bool {
		return stateOf(err) == "40001" || numberOf(err) == 1020 // ER_CHECKREAD: innodb_snapshot_isolation of MariaDB
	})
}

// Conflicts tells whether an engine has refused a statement for what others do at the moment, and has done nothing of it:
// a serialization failure, a deadlock, a lock that was not free in time, too many connections, a server that starts.
func Conflicts(err error) bool {
	return anyOf(err, func(err error) bool {
		switch stateOf(err) {
		case "40001", // serialization_failure
			"40P01",          // deadlock_detected
			"55P03",          // lock_not_available: lock_timeout of the server, NOWAIT
			"53300", "57P03": // too_many_connections, cannot_connect_now
			return true
		}
		switch numberOf(err) {
		case 1213, // ER_LOCK_DEADLOCK
			1205,       // ER_LOCK_WAIT_TIMEOUT
			1020,       // ER_CHECKREAD
			3572,       // ER_LOCK_NOWAIT
			1040, 1203: // ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS
			return true
		}
		return sqlite.Conflicts(err)
	})
}

// MayPass tells of the error for which SQLite has rolled a transaction back whether the cause may be gone by now: it
// is neither in the statement nor on the disk.
func MayPass(err error) bool { return !anyOf(err, sqlite.IsLasting) }

// stateOf returns the SQLSTATE of an error by itself, of lib/pq, pgx and the like; else "".
func stateOf(err error) string {
	if _, ok := err.(interface{ SQLState() string }); ok {
		return postgres.SQLState(err)
	}
	return ""
}

// numberOf returns the number of a *mysql.MySQLError by itself, by the name of its type, since the driver is not
// always linked, and has forks; else 0.
func numberOf(err error) uint64 {
	v := reflect.ValueOf(err)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Type().Elem().Name() != "MySQLError" {
		return 0
	}
	if n := drivers.Field(v, "Number"); n.CanUint() {
		return n.Uint()
	}
	return 0
}

// anyOf tells whether f holds for an error or for one that it wraps, the branches of joined ones included.
func anyOf(err error, f func(error) bool) bool {
	if err == nil {
		return false
	}
	if f(err) {
		return true
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return anyOf(e.Unwrap(), f)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			if anyOf(one, f) {
				return true
			}
		}
	}
	return false
}
