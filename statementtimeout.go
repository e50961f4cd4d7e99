package dblocker

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/calmdocs/dblocker/internal/locks"
)

// A statementLimit ends a statement by its context after statement_timeout, for
// engines whose servers do not do it. A nil one sets no limit.
type statementLimit struct {
	outer, ctx context.Context
	cancel     context.CancelFunc
	timeout    time.Duration
	unbind     func() bool // from the section of the handle; may be nil

	bound   *locks.Section  // that ends the statement too; nil if none does
	program context.Context // what the program gave; nil if bound is
}

// limitStatement returns the context for a statement on c, and its limit.
func (c *conn) limitStatement(op *operation) (context.Context, *statementLimit) {
	timeout := c.statementTimeout(op)
	ctx, l := c.bind(op)
	if timeout == 0 || c.db.engine.LimitStatements != nil {
		return ctx, l
	}
	if l == nil {
		l = new(statementLimit)
	}
	l.outer, l.timeout = ctx, timeout
	var cancel context.CancelFunc
	l.ctx, cancel = context.WithTimeout(ctx, timeout)
	if unbound := l.cancel; unbound != nil {
		l.cancel = func() { cancel(); unbound() }
	} else {
		l.cancel = cancel
	}
	return l.ctx, l
}

// bind makes a statement end with the section that c is bound to, if any, whatever its
// context is.
func (c *conn) bind(op *operation) (context.Context, *statementLimit) {
	ctx := op.ctx
	switch {
	case !op.outside:
		return ctx, nil
	case ctx.Done() == nil:
		return boundContext{&c.bound.locks, ctx}, &statementLimit{bound: &c.bound.locks, program: ctx}
	}
	until, cancel := context.WithCancel(ctx)
	return until, &statementLimit{cancel: cancel, unbind: context.AfterFunc(c.bound, cancel), bound: &c.bound.locks, program: ctx}
}

// A boundContext is done when its section is, and has the values of another context.
type boundContext struct {
	*locks.Section
	values context.Context
}

func (c boundContext) Value(key any) any { return c.values.Value(key) }

// statementTimeout returns the limit for a statement: its section's, if that has one,
// or the handle's.
func (c *conn) statementTimeout(op *operation) time.Duration {
	for s := op.section; s != nil; s = s.outer {
		if s.timeout != nil && s.db == c.db {
			return *s.timeout
		}
	}
	return c.db.statementTimeout
}

// limitServer tells the server the limit for the statements on the connection that c
// has just drawn, if it can be told and was told another one.
func (c *conn) limitServer(ctx context.Context, op *operation) error {
	if err := c.drawn.Conn.LimitStatements(ctx, c.statementTimeout(op)); err != nil {
		return fmt.Errorf("dblocker: setting statement_timeout: %w", err)
	}
	return nil
}

// end ends the limit with the statement.
func (l *statementLimit) end() {
	if l == nil {
		return
	}
	if l.unbind != nil {
		l.unbind()
	}
	if l.cancel != nil {
		l.cancel()
	}
}

// explain names the option, or the end of the handle, in an error that the limit has
// caused: the program's own context shows no reason for it.
func (l *statementLimit) explain(err error) error {
	switch {
	case err == nil || err == io.EOF || l == nil:
		return err
	case l.bound.HasEnded() && l.program.Err() == nil:
		return givenBack(l.bound.Reason())
	case l.timeout == 0 || l.ctx.Err() != context.DeadlineExceeded || l.outer.Err() != nil:
		return err
	}
	return &statementTimeoutError{l.timeout, err}
}

// statementTimeoutError is the error of a statement that statement_timeout ended.
type statementTimeoutError struct {
	timeout time.Duration
	err     error
}

func (e *statementTimeoutError) Error() string {
	return fmt.Sprintf("dblocker: the statement was ended after statement_timeout=%v: %v", e.timeout, e.err)
}

func (e *statementTimeoutError) Unwrap() []error { return []error{e.err, context.DeadlineExceeded} }
