package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/calmdocs/dblocker/internal/engines"
)

// Retryable reports whether an error says that nothing was done, and that a new try may succeed: a wait for a lock or a
// connection that ended with [ErrLockTimeout] or [ErrDeadlock], a transaction that SQLite has rolled back for what
// others did ([ErrRolledBack]), and the engines' own serialization failures, deadlocks, lock timeouts, and
// connections that the server refuses since it has too many or is starting or stopping: the SQLSTATEs 40001, 40P01, 55P03,
// 53300 and 57P03, the numbers 1213, 1205, 1020, 3572, 1040 and 1203 of MySQL and MariaDB, SQLITE_BUSY.
//
// "Nothing" is of the call that failed, and of the transaction that it was in, once that is rolled back. So end what the
// request has, and begin the whole unit of work again: one statement, or one transaction. What was written before, outside
// of that transaction, is written, also by an earlier statement of the same string.
//
// It is false where the outcome is not known, as of a connection that broke, and where a new try would end as this one: when
// the context has ended, when a sync has failed ([ErrNotDurable]), and for a wait of a request for what it has itself.
func Retryable(err error) bool {
	for _, not := range []error{context.Canceled, context.DeadlineExceeded, ErrNotDurable, ErrNoDatabase, ErrLockLost, driver.ErrBadConn} {
		if errors.Is(err, not) {
			return false
		}
	}
	var waited *LockError
	switch {
	case errors.Is(err, ErrRolledBack):
		return engines.MayPass(err)
	case errors.As(err, &waited) && waited.own && (waited.Err == ErrDeadlock || waited.Err == ErrLockTimeout):
		return false
	case errors.Is(err, ErrDeadlock), errors.Is(err, ErrLockTimeout):
		return true
	}
	return engines.Conflicts(err)
}
