package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
)

// Information, such as the journal mode of each file, is of interest to few tests.
func init() { slog.SetLogLoggerLevel(slog.LevelWarn) }

// A stub is a database without content, whose statements do what a test wants
// while they run. It counts its connections.
type stub struct {
	// run is called for each statement, if it is set; a Query returns one row.
	run func(ctx context.Context, query string) error

	// connect is called for each new connection, if it is set.
	connect func()

	// close is called when a connection is closed, if it is set.
	close func()

	open     atomic.Int64 // connections now
	mostOpen atomic.Int64
}

func (s *stub) Connect(context.Context) (driver.Conn, error) {
	if s.connect != nil {
		s.connect()
	}
	n := s.open.Add(1)
	for most := s.mostOpen.Load(); n > most && !s.mostOpen.CompareAndSwap(most, n); {
		most = s.mostOpen.Load()
	}
	return &stubConn{s}, nil
}

func (s *stub) connections() int64               { return s.open.Load() }
func (s *stub) Driver() driver.Driver            { return stubDriver{} }
func (s *stub) Open(string) (driver.Conn, error) { return s.Connect(context.Background()) }

type stubDriver struct{}

func (stubDriver) Open(string) (driver.Conn, error) { return nil, io.ErrUnexpectedEOF }

func (s *stub) call(ctx context.Context, query string) error {
	if s.run == nil {
		return nil
	}
	return s.run(ctx, query)
}

type stubConn struct{ s *stub }

func (c *stubConn) ExecContext(ctx context.Context, query string, _ []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(1), c.s.call(ctx, query)
}

func (c *stubConn) QueryContext(ctx context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	return &stubRows{}, c.s.call(ctx, query)
}

func (c *stubConn) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	return stubTx{}, c.s.call(ctx, "BEGIN")
}

func (c *stubConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}
func (c *stubConn) Prepare(query string) (driver.Stmt, error) { return &stubStmt{c, query}, nil }

func (c *stubConn) Close() error {
	if c.s.close != nil {
		c.s.close()
	}
	c.s.open.Add(-1)
	return nil
}

type stubStmt struct {
	c     *stubConn
	query string
}

func (s *stubStmt) Close() error  { return nil }
func (s *stubStmt) NumInput() int { return -1 }
func (s *stubStmt) Exec([]driver.Value) (driver.Result, error) {
	return s.c.ExecContext(context.Background(), s.query, nil)
}
func (s *stubStmt) Query([]driver.Value) (driver.Rows, error) {
	return s.c.QueryContext(context.Background(), s.query, nil)
}

type stubRows struct{ ended bool }

func (*stubRows) Columns() []string { return []string{"v"} }
func (*stubRows) Close() error      { return nil }
func (r *stubRows) Next(row []driver.Value) error {
	if r.ended {
		return io.EOF
	}
	r.ended = true
	row[0] = int64(1)
	return nil
}

type stubTx struct{}

func (stubTx) Commit() error   { return nil }
func (stubTx) Rollback() error { return nil }

// openStub opens a handle on s. When the test ends, nothing may be left of it.
func openStub(t testing.TB, s interface {
	driver.Connector
	connections() int64
}, opts ...Option) *sql.DB {
	t.Helper()
	c, err := NewConnector(s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	t.Cleanup(func() {
		db.Close()
		if left := holdsOf(t, c); len(left) > 0 {
			t.Errorf("locks left when the test ended: %v", left)
		}
		if n := s.connections(); n != 0 {
			t.Errorf("%d server connections left open when the test ended", n)
		}
	})
	return db
}

// textLogger writes lines to w without times.
func textLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, nil))
}
