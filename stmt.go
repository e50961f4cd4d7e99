package dblocker

import (
	"context"
	"database/sql/driver"
	"slices"
)

var (
	_ driver.Stmt              = (*stmt)(nil)
	_ driver.StmtExecContext   = (*stmt)(nil)
	_ driver.StmtQueryContext  = (*stmt)(nil)
	_ driver.NamedValueChecker = (*stmt)(nil)
)

// A stmt is a prepared statement of a client connection. It lasts as long as the
// program wants; its inner statement lasts no longer than the client connection
// has the server connection it was prepared on, and is prepared again on the
// next.
type stmt struct {
	conn  *conn
	query string
	inner *serverStmt // on conn.drawn, and then in conn.stmts; else nil
}

// ExecContext implements [driver.StmtExecContext].
func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.exec(ctx, s.query, func(ctx context.Context, sc *serverConn) (driver.Result, error) {
		ss, err := s.on(ctx, sc)
		if err != nil {
			return nil, err
		}
		return ss.ExecContext(ctx, args)
	})
}

// QueryContext implements [driver.StmtQueryContext].
func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.query(ctx, s.query, func(ctx context.Context, sc *serverConn) (driver.Rows, error) {
		ss, err := s.on(ctx, sc)
		if err != nil {
			return nil, err
		}
		return ss.QueryContext(ctx, args)
	})
}

// on returns the statement prepared on sc, the connection's server connection.
func (s *stmt) on(ctx context.Context, sc *serverConn) (*serverStmt, error) {
	if s.inner != nil {
		return s.inner, nil
	}
	ss, err := sc.prepare(ctx, s.query)
	if err != nil {
		return nil, err
	}
	s.inner = ss
	s.conn.stmts = append(s.conn.stmts, s)
	return ss, nil
}

// Close closes the inner statement, if there is one. database/sql may call it
// with its pool locked, so it waits for nothing of ours.
func (s *stmt) Close() error {
	s.conn.lockCall()
	defer s.conn.leave()
	return s.closeInner()
}

func (s *stmt) closeInner() error {
	inner := s.inner
	if inner == nil {
		return nil
	}
	s.inner = nil
	s.conn.stmts = slices.DeleteFunc(s.conn.stmts, func(o *stmt) bool { return o == s })
	return inner.Close()
}

// NumInput leaves the counting of arguments to the inner statement.
func (s *stmt) NumInput() int { return -1 }

// CheckNamedValue implements [driver.NamedValueChecker].
func (s *stmt) CheckNamedValue(nv *driver.NamedValue) error { return acceptAll(nv) }

// Exec implements [driver.Stmt].
func (s *stmt) Exec(values []driver.Value) (driver.Result, error) {
	return s.ExecContext(context.Background(), namedValues(values))
}

// Query implements [driver.Stmt].
func (s *stmt) Query(values []driver.Value) (driver.Rows, error) {
	return s.QueryContext(context.Background(), namedValues(values))
}
