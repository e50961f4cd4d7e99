package dblocker

//lint:file-ignore SA1019 database/sql still obeys the deprecated interfaces of older drivers, and so do we.

import (
	"context"
	"database/sql/driver"

	"github.com/calmdocs/dblocker/internal/server"
)

var (
	_ driver.Stmt              = (*serverStmt)(nil)
	_ driver.StmtExecContext   = (*serverStmt)(nil)
	_ driver.StmtQueryContext  = (*serverStmt)(nil)
	_ driver.NamedValueChecker = (*serverStmt)(nil)
)

// A serverStmt is a statement of the inner driver, with the optional interfaces
// of a statement as serverConn has those of a connection.
type serverStmt struct {
	sc *serverConn
	si driver.Stmt
}

// ExecContext implements [driver.StmtExecContext].
func (ss *serverStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	args, err := ss.sc.convert(ss.si, args)
	if err != nil {
		return nil, err
	}
	if e, ok := ss.si.(driver.StmtExecContext); ok {
		return e.ExecContext(ctx, args)
	}
	values, err := legacyArgs(ctx, args)
	if err != nil {
		return nil, err
	}
	return ss.si.Exec(values)
}

// QueryContext implements [driver.StmtQueryContext].
func (ss *serverStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	args, err := ss.sc.convert(ss.si, args)
	if err != nil {
		return nil, err
	}
	if q, ok := ss.si.(driver.StmtQueryContext); ok {
		return q.QueryContext(ctx, args)
	}
	values, err := legacyArgs(ctx, args)
	if err != nil {
		return nil, err
	}
	return ss.si.Query(values)
}

// query is QueryContext for a client, whose rows r are going to be.
func (ss *serverStmt) query(ctx context.Context, args []driver.NamedValue, r *serverRows) (err error) {
	if r.inner, err = ss.QueryContext(ctx, args); err == nil {
		ss.sc.add(r)
	}
	return err
}

// NumInput keeps database/sql from counting arguments before the inner checks
// have had them: those may remove some.
func (ss *serverStmt) NumInput() int { return -1 }

// CheckNamedValue implements [driver.NamedValueChecker].
func (ss *serverStmt) CheckNamedValue(nv *driver.NamedValue) error { return server.AcceptAll(nv) }

// Close implements [driver.Stmt].
func (ss *serverStmt) Close() error { return ss.si.Close() }

// Exec implements [driver.Stmt].
func (ss *serverStmt) Exec(values []driver.Value) (driver.Result, error) {
	return ss.ExecContext(context.Background(), server.NamedValues(values))
}

// Query implements [driver.Stmt].
func (ss *serverStmt) Query(values []driver.Value) (driver.Rows, error) {
	return ss.QueryContext(context.Background(), server.NamedValues(values))
}
