package server

//lint:file-ignore SA1019 database/sql still obeys the deprecated interfaces of older drivers, and so do we.

import (
	"context"
	"database/sql/driver"
)

var (
	_ driver.Stmt              = (*Stmt)(nil)
	_ driver.StmtExecContext   = (*Stmt)(nil)
	_ driver.StmtQueryContext  = (*Stmt)(nil)
	_ driver.NamedValueChecker = (*Stmt)(nil)
)

// A Stmt is a statement of the inner driver, with the optional interfaces
// of a statement as Conn has those of a connection.
type Stmt struct {
	sc *Conn
	si driver.Stmt
}

// ExecContext implements [driver.StmtExecContext].
func (ss *Stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if ss.sc.isDue() {
		if err := ss.sc.doDue(ctx); err != nil {
			return nil, err
		}
	}
	args, err := ss.sc.convert(ss.si, args)
	if err != nil {
		return nil, err
	}
	ss.sc.calls.note()
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
func (ss *Stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if ss.sc.isDue() {
		if err := ss.sc.doDue(ctx); err != nil {
			return nil, err
		}
	}
	args, err := ss.sc.convert(ss.si, args)
	if err != nil {
		return nil, err
	}
	ss.sc.calls.note()
	if q, ok := ss.si.(driver.StmtQueryContext); ok {
		return q.QueryContext(ctx, args)
	}
	values, err := legacyArgs(ctx, args)
	if err != nil {
		return nil, err
	}
	return ss.si.Query(values)
}

// QueryInto is QueryContext for a client, whose rows r are going to be.
func (ss *Stmt) QueryInto(ctx context.Context, args []driver.NamedValue, r *Rows) (err error) {
	if r.Inner, err = ss.QueryContext(ctx, args); err == nil {
		ss.sc.add(r)
	}
	return err
}

// Inputs returns how many arguments the statement takes; -1 if the driver does not tell.
func (ss *Stmt) Inputs() int {
	ss.sc.calls.note()
	return ss.si.NumInput()
}

// NumInput keeps database/sql from counting arguments before the inner checks
// have had them: those may remove some.
func (ss *Stmt) NumInput() int { return -1 }

// CheckNamedValue implements [driver.NamedValueChecker].
func (ss *Stmt) CheckNamedValue(nv *driver.NamedValue) error { return acceptAll(nv) }

// Close implements [driver.Stmt].
func (ss *Stmt) Close() error {
	ss.sc.calls.note()
	return ss.si.Close()
}

// Exec implements [driver.Stmt].
func (ss *Stmt) Exec(values []driver.Value) (driver.Result, error) {
	return ss.ExecContext(context.Background(), NamedValues(values))
}

// Query implements [driver.Stmt].
func (ss *Stmt) Query(values []driver.Value) (driver.Rows, error) {
	return ss.QueryContext(context.Background(), NamedValues(values))
}
