package dblocker

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"
)

// What the original library has, by its names, for programs that were written for it. See docs/moving.md.

// ReadGetDBx is [Store.ReadGetDB].
//
// Deprecated: Use [Store.ReadGetDB], or [Store.Read].
//
//go:fix inline
func (s *Store) ReadGetDBx(userID any, ctx context.Context, tag string) (cancel context.CancelFunc, db *sqlx.DB, err error) {
	return s.ReadGetDB(userID, ctx, tag)
}

// RWGetDBx is [Store.RWGetDB].
//
// Deprecated: Use [Store.RWGetDB], or [Store.Write].
//
//go:fix inline
func (s *Store) RWGetDBx(userID any, ctx context.Context, tag string) (cancel context.CancelFunc, db *sqlx.DB, err error) {
	return s.RWGetDB(userID, ctx, tag)
}

// RWGetDBxWithTimeout is [Store.RWGetDBWithTimeout]; nil is no bound.
//
// Deprecated: Use [Store.RWGetDBWithTimeout].
func (s *Store) RWGetDBxWithTimeout(userID any, ctx context.Context, tag string, statementTimeout *time.Duration) (cancel context.CancelFunc, db *sqlx.DB, err error) {
	return s.RWGetDBWithTimeout(userID, ctx, tag, orNone(statementTimeout))
}

// NewWithUnlockAndStatementTimeouts is [New] with a [LockTimeout] and a [StatementTimeout]. Without the first, which is nil then,
// waits end after a year; without the second a statement is not bounded.
//
// Deprecated: Use [New] with options.
func NewWithUnlockAndStatementTimeouts(ctx context.Context, driverName, dataSourceName string, unlockTimeout, statementTimeout *time.Duration, debug bool) (*Store, error) {
	return New(ctx, driverName, dataSourceName, debug, originalTimeouts(unlockTimeout, statementTimeout)...)
}

// NewWithConnectDBFuncAndTimeouts is [NewWithUnlockAndStatementTimeouts] with a [ConnectFunc], which is given the ID as a string,
// and the statement timeout. The Store bounds statements by that itself, whatever the function does with it.
//
// Deprecated: Use [New] with options.
func NewWithConnectDBFuncAndTimeouts(
	ctx context.Context,
	connectDBFunc func(ctx context.Context, id any, driverName, dataSourceName string, statementTimeout *time.Duration) (*sqlx.DB, error),
	driverName, dataSourceName string,
	unlockTimeout, statementTimeout *time.Duration,
	debug bool,
) (*Store, error) {
	var connect Connect // nil is for the option to refuse
	if connectDBFunc != nil {
		connect = func(ctx context.Context, user, driverName, dataSourceName string) (*sqlx.DB, error) {
			return connectDBFunc(ctx, user, driverName, dataSourceName, statementTimeout)
		}
	}
	opts := append(originalTimeouts(unlockTimeout, statementTimeout), ConnectFunc(connect))
	return New(ctx, driverName, dataSourceName, debug, opts...)
}

// DefaultConnectDBFunc connects to a database, for a function that is given to [NewWithConnectDBFuncAndTimeouts]. It uses neither
// the ID nor the statement timeout, which the Store sees to.
//
// Deprecated: [New] opens the database by itself; [DSNFunc] chooses one for each user.
func DefaultConnectDBFunc(ctx context.Context, id any, driverName, dataSourceName string, statementTimeout *time.Duration) (*sqlx.DB, error) {
	return sqlx.ConnectContext(ctx, driverName, dataSourceName)
}

func originalTimeouts(unlock, statement *time.Duration) []Option {
	wait := 365 * 24 * time.Hour
	if unlock != nil {
		wait = *unlock
	}
	return []Option{LockTimeout(wait), StatementTimeout(orNone(statement))}
}

// orNone returns 0, which is no bound, for nil.
func orNone(timeout *time.Duration) time.Duration {
	if timeout == nil {
		return 0
	}
	return *timeout
}
