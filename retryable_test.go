package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/lib/pq"
	"github.com/mattn/go-sqlite3"
)

// stateError has the SQLSTATE of its text, as an error of pgx has.
type stateError string

func (e stateError) Error() string    { return string(e) }
func (e stateError) SQLState() string { return string(e) }

// codeError has a result code of SQLite, as an error of modernc has.
type codeError int

func (e codeError) Error() string { return fmt.Sprint("code ", int(e)) }
func (e codeError) Code() int     { return int(e) }

// TestRetryable: only what is known to have done nothing, and may succeed, is tried again.
func TestRetryable(t *testing.T) {
	for want, all := range map[bool][]error{
		true: {
			&LockError{Err: ErrLockTimeout},
			&LockError{Err: ErrDeadlock},
			fmt.Errorf("the journal mode is not changed: %w", ErrLockTimeout),
			lossOf(codeError(9)), // interrupted
			lossOf(sqlite3.Error{Code: sqlite3.ErrBusy}),
			lossOf(errors.New("interrupted")),
			&pq.Error{Code: "40001"}, &pq.Error{Code: "40P01"}, &pq.Error{Code: "55P03"}, &pq.Error{Code: "53300"},
			stateError("40001"), stateError("57P03"),
			&mysql.MySQLError{Number: 1213}, &mysql.MySQLError{Number: 1205}, &mysql.MySQLError{Number: 1020}, &mysql.MySQLError{Number: 3572}, &mysql.MySQLError{Number: 1040},
			sqlite3.Error{Code: sqlite3.ErrBusy, ExtendedCode: sqlite3.ErrBusySnapshot},
			sqlite3.Error{Code: sqlite3.ErrLocked, ExtendedCode: sqlite3.ErrLockedSharedCache},
			codeError(5), codeError(517),
		},
		false: {
			nil, io.EOF, errors.New("x"), (*mysql.MySQLError)(nil),
			&LockError{Err: ErrDeadlock, own: true}, &LockError{Err: ErrLockTimeout, own: true},
			&LockError{Err: context.Canceled}, &LockError{Err: context.DeadlineExceeded},
			context.Canceled, context.DeadlineExceeded,
			ErrNoUser, ErrReadOnly, ErrReleased, ErrSpillLimit, ErrNotDurable, ErrNoDatabase, ErrLockLost, errNotWritten, errGivenBack, errClosed,
			fmt.Errorf("%w: %w", ErrLockLost, &pq.Error{Code: "40001"}),
			fmt.Errorf("%w: %w", ErrNotDurable, sqlite3.Error{Code: sqlite3.ErrBusy}),
			errors.Join(driver.ErrBadConn, stateError("40001")),
			lossOf(context.Canceled), lossOf(context.DeadlineExceeded),
			lossOf(sqlite3.Error{Code: sqlite3.ErrConstraint}), lossOf(codeError(13)), lossOf(codeError(10 | 3<<8)),
			driver.ErrBadConn, mysql.ErrInvalidConn, io.ErrUnexpectedEOF,
			&pq.Error{Code: "40003"}, &pq.Error{Code: "08007"}, &pq.Error{Code: "08006"}, &pq.Error{Code: "57P01"}, &pq.Error{Code: "23505"},
			&mysql.MySQLError{Number: 1062}, &mysql.MySQLError{Number: 3024}, &mysql.MySQLError{Number: 1317},
			sqlite3.Error{Code: sqlite3.ErrLocked}, sqlite3.Error{Code: sqlite3.ErrConstraint}, codeError(10 | 4<<8),
		},
	} {
		for _, err := range all {
			if got := Retryable(err); got != want {
				t.Errorf("%#v: got %v, want %v", err, got, want)
			}
			if err == nil {
				continue
			}
			for _, wrapped := range []error{fmt.Errorf("saving: %w", err), errors.Join(errors.New("saving"), err)} {
				if got := Retryable(wrapped); got != want {
					t.Errorf("wrapped %#v: got %v, want %v", err, got, want)
				}
			}
		}
	}
}

// TestRetryableTellsOwnDeadlocks: a circle of two requests may be gone the next time, one of a request by itself is not.
func TestRetryableTellsOwnDeadlocks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := openStub(t, &stub{}, SelfWait(time.Second))
		ctx := asUser(1)
		_, unlock, err := Lock(ctx, db)
		must(t, err)
		_, _, err = Lock(ctx, db) // with the outer context
		if !errors.Is(err, ErrDeadlock) || Retryable(err) {
			t.Errorf("a section inside its own, with the outer context: got %v, retryable %v", err, Retryable(err))
		}
		unlock()

		first, unlockFirst, err := Lock(asUser(1), db)
		must(t, err)
		second, unlockSecond, err := Lock(asUser(2), db)
		must(t, err)
		waits := make(chan error)
		go func() {
			_, unlock, err := LockUsers(first, db, 2)
			unlock()
			waits <- err
		}()
		time.Sleep(time.Millisecond) // in the bubble: until it waits
		_, unlock, err = LockUsers(second, db, 1)
		unlock()
		if !errors.Is(err, ErrDeadlock) || !Retryable(err) {
			t.Errorf("two sections in a circle: got %v, retryable %v", err, Retryable(err))
		}
		unlockSecond()
		must(t, <-waits)
		unlockFirst()
	})
}

// TestRetryableTellsOwnTimeouts: nor is the wait of a request for what it keeps itself, if lock_timeout ends it before self_wait. A statement
// that the request runs in parallel ends by itself.
func TestRetryableTellsOwnTimeouts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		running, end := make(chan struct{}), make(chan struct{})
		db := openStub(t, &stub{run: func(_ context.Context, query string) error {
			if query == "UPDATE slow" {
				close(running)
				<-end
			}
			return nil
		}}, SelfWait(time.Minute), LockTimeout(time.Second))
		ctx := asUser(1)
		try := func(what string, want bool) {
			t.Helper()
			_, err := db.BeginTx(ctx, nil)
			if !errors.Is(err, ErrLockTimeout) || Retryable(err) != want {
				t.Errorf("beside %s: got %v, retryable %v", what, err, Retryable(err))
			}
		}
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		try("its own transaction", false)
		if _, _, err := TryLock(ctx, db); !errors.Is(err, ErrLockTimeout) || Retryable(err) {
			t.Errorf("TryLock beside its own transaction: got %v, retryable %v", err, Retryable(err))
		}
		must(t, tx.Rollback())
		done := make(chan error)
		go func() {
			_, err := db.ExecContext(ctx, "UPDATE slow")
			done <- err
		}()
		<-running
		try("its own statement", true)
		close(end)
		must(t, <-done)
	})
}

// TestRetryableOfSQLite: of a transaction that SQLite has rolled back for what its statement says, a new try would end as
// this one.
func TestRetryableOfSQLite(t *testing.T) {
	db := openSQLite(t, "dblocker", "sqlite3:"+filepath.Join(t.TempDir(), "a.db"))
	ctx := asUser(1)
	_, err := db.ExecContext(ctx, "CREATE TABLE t (v INTEGER PRIMARY KEY)")
	must(t, err)
	tx, err := db.BeginTx(ctx, nil)
	must(t, err)
	defer tx.Rollback()
	_, err = tx.ExecContext(ctx, "INSERT INTO t VALUES (1)")
	must(t, err)
	if _, err = tx.ExecContext(ctx, "INSERT OR ROLLBACK INTO t VALUES (1)"); err == nil || Retryable(err) {
		t.Errorf("the statement: got %v, retryable %v", err, Retryable(err))
	}
	if _, err = tx.ExecContext(ctx, "INSERT INTO t VALUES (2)"); !errors.Is(err, ErrRolledBack) || Retryable(err) {
		t.Errorf("the next one: got %v, retryable %v", err, Retryable(err))
	}
}
