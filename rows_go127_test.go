//go:build go1.27

package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"testing"

	"github.com/calmdocs/dblocker/internal/server"
)

// A scannerStub is a stub whose rows scan by themselves: 1, then 2, then an error.
type scannerStub struct {
	stub
	err error
}

func (s *scannerStub) Connect(ctx context.Context) (driver.Conn, error) {
	ci, err := s.stub.Connect(ctx)
	return &scannerStubConn{ci.(*stubConn), s}, err
}

type scannerStubConn struct {
	*stubConn
	s *scannerStub
}

func (c *scannerStubConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return &scannerStubRows{err: c.s.err}, nil
}

type scannerStubRows struct {
	stubRows
	row    int
	err    error
	closed bool
}

func (r *scannerStubRows) Next([]driver.Value) error { return errors.New("Next was called") }
func (r *scannerStubRows) Close() error              { r.closed = true; return nil }

func (r *scannerStubRows) NextRow() error {
	if r.row++; r.row > 2 {
		return r.err
	}
	return nil
}

func (r *scannerStubRows) ScanColumn(ctx driver.ScanContext, _ int, dest any) error {
	if r.closed {
		return errors.New("scanned after Close")
	}
	switch dest := dest.(type) {
	case *ownType:
		dest.n = r.row
		return nil
	case *func():
		(*dest)()
	}
	return sql.ConvertAssign(ctx, dest, int64(r.row))
}

// TestRowsThatScanThemselves do so through us too, inside a section and outside, and their end
// frees the lock.
func TestRowsThatScanThemselves(t *testing.T) {
	failed := errors.New("the connection broke")
	for _, end := range []error{io.EOF, failed} {
		s := &scannerStub{err: end}
		db := openStub(t, s)
		section, unlock := beginTest(t, Lock, asUser(2), db)
		for user, ctx := range map[int]context.Context{1: asUser(1), 2: section} {
			rows, err := db.QueryContext(ctx, "SELECT v FROM t")
			must(t, err)
			sum := 0
			for rows.Next() {
				var n int
				must(t, rows.Scan(&n))
				sum += n
			}
			if err := rows.Err(); sum != 3 || err != nil && err != end || (err == nil) != (end == io.EOF) {
				t.Errorf("user %d: the sum is %d, the error %v", user, sum, err)
			}
		}
		rows, err := db.QueryContext(section, "SELECT v FROM t")
		must(t, err)
		rows.Next()
		unlock()
		if err := rows.Scan(new(int)); err == nil {
			t.Error("rows are scanned after the end of their section")
		}
		if rows.Next() || !errors.Is(rows.Err(), ErrReleased) {
			t.Errorf("rows go on after the end of their section: %v", rows.Err())
		}
		for user := 1; user <= 2; user++ {
			if !isFree(t, db, user) {
				t.Errorf("the lock of user %d is still taken", user)
			}
		}
	}
}

// TestRowsThatScanThemselvesMakeWay: a program goes on to scan as it did, also into what only
// the driver knows how to.
func TestRowsThatScanThemselvesMakeWay(t *testing.T) {
	s := &scannerStub{err: io.EOF}
	db := openStub(t, s)
	for _, query := range []string{"SELECT v FROM t", "UPDATE t SET v = 1 RETURNING v"} {
		rows, err := db.QueryContext(asUser(1), query)
		must(t, err)
		for want := 1; want <= 2; want++ {
			if !rows.Next() {
				t.Fatal(rows.Err())
			}
			var n int
			var text sql.NullString
			var own ownType
			must(t, rows.Scan(&n))
			if want == 1 {
				if query == "SELECT v FROM t" {
					must(t, rows.Scan(&own))
				}
				_, err := db.ExecContext(asUser(1), "UPDATE t SET v = 1") // which waits for the rows
				must(t, err)
			}
			must(t, rows.Scan(&n))
			must(t, rows.Scan(&text))
			if n != want || text.String != fmt.Sprint(want) {
				t.Errorf("%s: row %d is %d and %q", query, want, n, text.String)
			}
			if query == "SELECT v FROM t" && want == 2 {
				must(t, rows.Scan(&own))
				if own.n != want {
					t.Errorf("%s: row %d is %d in the driver's own type", query, want, own.n)
				}
			}
		}
		if rows.Next() || rows.Err() != nil {
			t.Errorf("after the last row: %v", rows.Err())
		}
		must(t, rows.Close())
	}
}

// An ownType is one that only the driver can scan into.
type ownType struct{ n int }

// TestPanicInScanColumn: a panic of the driver in it is an error of Scan, with which the rows can be
// closed, and leaves no lock; nor does the end of the goroutine.
func TestPanicInScanColumn(t *testing.T) {
	for name, fault := range map[string]func(){"panic": func() { panic("from ScanColumn") }, "Goexit": runtime.Goexit} {
		db := openStub(t, &scannerStub{err: io.EOF}, LockTimeout(0), Logger(slog.New(slog.DiscardHandler)))
		rows, err := db.QueryContext(asUser(1), "SELECT v FROM t")
		must(t, err)
		if !rows.Next() {
			t.Fatal("no row")
		}
		scanned := make(chan error, 1)
		go func() {
			defer close(scanned)
			scanned <- rows.Scan(&fault)
		}()
		if err, ok := <-scanned; ok && !server.IsPanic(errors.Unwrap(err)) {
			t.Errorf("%s: Scan answered %v", name, err)
		} else if ok {
			must(t, rows.Close())
		}
		if _, err := db.ExecContext(asUser(1), "UPDATE t SET v = 1"); err != nil {
			t.Errorf("%s: its lock is not free: %v", name, err)
		}
	}
}
