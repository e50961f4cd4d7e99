package fakedriver

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
)

// The legacy interfaces, which the package driver has deprecated.
type (
	legacyExecer interface {
		Exec(query string, args []driver.Value) (driver.Result, error)
	}
	legacyQueryer interface {
		Query(query string, args []driver.Value) (driver.Rows, error)
	}
	columnConverter interface {
		ColumnConverter(index int) driver.ValueConverter
	}
)

// conn has the methods of all optional interfaces; programs see a subset.
type conn struct {
	s      *Server
	id     int
	inTx   bool // begun by a BEGIN of its own, see Server.OneTx
	closed bool
}

func (c *conn) call(ctx context.Context, method string, args ...any) error {
	return c.s.call(ctx, c.id, "conn."+method, args...)
}

func (c *conn) Ping(ctx context.Context) error { return c.call(ctx, "Ping") }

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.exec(query, c.call(ctx, "ExecContext", query, args))
}

func (c *conn) Exec(query string, args []driver.Value) (driver.Result, error) {
	return c.exec(query, c.call(noContext, "Exec", query, args))
}

func (c *conn) exec(query string, err error) (driver.Result, error) {
	switch {
	case err != nil:
		return nil, err
	case strings.Contains(query, "skip"):
		return nil, driver.ErrSkip
	}
	if is, err := c.lock(query); is {
		return &result{c}, err
	}
	return &result{c}, c.follow(query)
}

// follow follows transactions that are written in SQL.
func (c *conn) follow(query string) error {
	verb, _, _ := strings.Cut(query, " ")
	switch {
	case !c.s.OneTx:
	case verb == "BEGIN" && c.inTx:
		return errors.New("cannot start a transaction within a transaction")
	case verb == "BEGIN":
		c.inTx = true
	case verb == "COMMIT" || verb == "ROLLBACK":
		c.inTx = false
	}
	return nil
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.query(query, c.call(ctx, "QueryContext", query, args))
}

func (c *conn) Query(query string, args []driver.Value) (driver.Rows, error) {
	return c.query(query, c.call(noContext, "Query", query, args))
}

func (c *conn) query(query string, err error) (driver.Rows, error) {
	switch {
	case err != nil:
		return nil, err
	case strings.Contains(query, "skip"):
		return nil, driver.ErrSkip
	}
	return newRows(c, query), nil
}

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return c.prepare(query, c.call(ctx, "PrepareContext", query))
}

func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.prepare(query, c.call(noContext, "Prepare", query))
}

func (c *conn) prepare(query string, err error) (driver.Stmt, error) {
	if err != nil {
		return nil, err
	}
	return stmtSubsets[c.s.Shape.Stmt](&stmt{c, query}), nil
}

func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.begin(c.call(ctx, "BeginTx", opts))
}

func (c *conn) Begin() (driver.Tx, error) { return c.begin(c.call(noContext, "Begin")) }

func (c *conn) begin(err error) (driver.Tx, error) {
	if err != nil {
		return nil, err
	}
	return &tx{c}, nil
}

func (c *conn) ResetSession(ctx context.Context) error { return c.call(ctx, "ResetSession") }
func (c *conn) IsValid() bool                          { return c.call(noContext, "IsValid") == nil }

// Close counts the connection as closed whatever goes wrong.
func (c *conn) Close() error {
	c.s.mu.Lock()
	if !c.closed {
		c.closed = true
		c.s.open--
		c.endLocks()
	}
	c.s.mu.Unlock()
	return c.call(noContext, "Close")
}

func (c *conn) CheckNamedValue(nv *driver.NamedValue) error {
	return check(nv, c.call(noContext, "CheckNamedValue", nv.Ordinal, nv.Name, nv.Value))
}

// Arguments that checkers treat in a special way.
type (
	Removed struct{} // is taken out of the arguments
	Point   struct{ X, Y int }
)

func check(nv *driver.NamedValue, err error) error {
	if err != nil {
		return err
	}
	switch v := nv.Value.(type) {
	case Removed:
		return driver.ErrRemoveArgument
	case Point:
		nv.Value = v.X*10 + v.Y // not a driver.Value: checkers may let pass what they like
		return nil
	case sql.Out:
		return nil
	}
	return driver.ErrSkip
}

type tx struct{ c *conn }

func (t *tx) Commit() error   { return t.end("tx.Commit") }
func (t *tx) Rollback() error { return t.end("tx.Rollback") }

// end ends the transaction, and its locks, whatever goes wrong: a server rolls one back that it cannot commit.
func (t *tx) end(method string) error {
	defer t.c.endTx()
	return t.c.s.call(noContext, t.c.id, method)
}

type result struct{ c *conn }

func (r *result) LastInsertId() (int64, error) {
	return 7, r.c.s.call(noContext, r.c.id, "result.LastInsertId")
}

func (r *result) RowsAffected() (int64, error) {
	return 3, r.c.s.call(noContext, r.c.id, "result.RowsAffected")
}
