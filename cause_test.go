package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/go-sql-driver/mysql"
	"github.com/lib/pq"
	"github.com/mattn/go-sqlite3"
)

// TestCauses: an error has the code of the database, if that has answered so, and a word that is one of few.
func TestCauses(t *testing.T) {
	unique := sqlite3.Error{Code: sqlite3.ErrConstraint, ExtendedCode: sqlite3.ErrConstraintUnique}
	for _, tc := range []struct {
		err         error
		code, cause string
	}{
		{nil, "", ""},
		{&pq.Error{Code: "23505"}, "23505", "23505"},
		{fmt.Errorf("insert: %w", &pq.Error{Code: "42P01"}), "42P01", "42P01"},
		{&mysql.MySQLError{Number: 1062}, "1062", "1062"},
		{errors.Join(errors.New("x"), &mysql.MySQLError{Number: 1062}), "1062", "1062"},
		{unique, "2067", "2067"},
		{fmt.Errorf("%w: %w", ErrRolledBack, sqlite3.Error{Code: sqlite3.ErrFull}), "13", "13"},
		{context.Canceled, "", "canceled"},
		{fmt.Errorf("asked: %w", context.DeadlineExceeded), "", "deadline_exceeded"},
		{ErrReleased, "", "released"},
		{errSharedSection, "", "read_only"},
		{&LockError{Err: ErrLockTimeout}, "", "lock_timeout"},
		{&LockError{Err: ErrDeadlock}, "", "deadlock"},
		{&LockError{Err: context.Canceled}, "", "canceled"},
		{driver.ErrBadConn, "", "bad_connection"},
		{errClosed, "", "closed"},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "", "syscall.Errno"},
		{&net.OpError{Op: "dial", Err: errors.New("x")}, "", "*net.OpError"},
		{errors.Join(&net.ParseError{}, io.EOF), "", "*net.ParseError"},
		{fmt.Errorf("of user 17: %w", errors.New("x")), "", "_OTHER"},
	} {
		e := Event{Err: tc.err}
		if e.name(); e.Code != tc.code || e.Cause != tc.cause {
			t.Errorf("%v: got code %q and cause %q, want %q and %q", tc.err, e.Code, e.Cause, tc.code, tc.cause)
		}
	}
}

// TestEventsSayOfWhat: an event has the engine of its handle, and what its error is in a word.
func TestEventsSayOfWhat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var l eventLog
		option := l.option()
		fails := func(context.Context, string) error { return &mysql.MySQLError{Number: 1146} }
		for _, dialect := range []string{"mysql", "generic"} {
			db := openStub(t, &stub{run: fails}, Dialect(dialect), option)
			if err := execAs(db, asUser(1)); err == nil {
				t.Fatal("the statement has not failed")
			}
			synctest.Wait()
			all := l.of(EventOperationEnded)
			if e := all[len(all)-1]; e.Engine != dialect || e.Code != "1146" || e.Cause != "1146" {
				t.Errorf("%s: told %+v", dialect, e)
			}
			must(t, db.Close())
		}
	})
}

// TestSameObserverOnce: one option that is given twice is told once; two are told each.
func TestSameObserverOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var once, twice eventLog
		same := once.option()
		db := openStub(t, &stub{}, same, twice.option(), same, twice.option())
		must(t, execAs(db, asUser(1)))
		synctest.Wait()
		if a, b := len(once.of(EventOperationEnded)), len(twice.of(EventOperationEnded)); a != 1 || b != 2 {
			t.Errorf("told %d times, and %d times", a, b)
		}
	})
}
