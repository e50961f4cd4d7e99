package scope

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/server"
)

// A fakeConn answers with a row of one number, until its session ends.
type fakeConn struct {
	driver.Conn
	ended bool
}

func (c *fakeConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	if c.ended {
		return nil, driver.ErrBadConn
	}
	return &fakeRows{}, nil
}

type fakeRows struct{ read bool }

func (r *fakeRows) Columns() []string { return []string{"1"} }
func (r *fakeRows) Close() error      { return nil }
func (r *fakeRows) Next(row []driver.Value) error {
	if r.read {
		return io.EOF
	}
	r.read, row[0] = true, int64(1)
	return nil
}

// TestProofByConnectionsThatEnd: a server whose locks exclude nobody is refused, but not one that has ended the session which had
// the lock.
func TestProofByConnectionsThatEnd(t *testing.T) {
	for _, ends := range []bool{false, true} {
		var first, second fakeConn
		locks := &server.Locks{
			Acquire: func(_ context.Context, sc *server.Conn, _, _ []server.WantedLock, _ time.Duration, _ bool) error {
				first.ended = ends && sc.Inner() == driver.Conn(&second)
				return nil
			},
			Release: func(context.Context, *server.Conn, []server.WantedLock) error { return nil },
		}
		cfg := &server.Config{Engine: &server.Engine{}}
		err := New(locks, new(Table), "").prove(t.Context(), server.NewConn(&first, cfg), server.NewConn(&second, cfg))
		want := errNoExclusion
		if ends {
			want = driver.ErrBadConn
		}
		if !errors.Is(err, want) {
			t.Errorf("session ends %v: got %v, want %v", ends, err, want)
		}
	}
}
