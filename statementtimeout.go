package dblocker

import (
	"context"
	"fmt"
	"io"
	"time"
)

// A statementLimit ends a statement by its context after statement_timeout, for
// engines whose servers do not do it. The zero value sets no limit.
type statementLimit struct {
	outer, ctx context.Context
	cancel     context.CancelFunc
	timeout    time.Duration
}

// limitStatement returns the context for a statement, and its limit.
func (c *Connector) limitStatement(ctx context.Context) (context.Context, statementLimit) {
	if c.statementTimeout == 0 || c.dialect.limitStatements != nil {
		return ctx, statementLimit{}
	}
	l := statementLimit{outer: ctx, timeout: c.statementTimeout}
	l.ctx, l.cancel = context.WithTimeout(ctx, c.statementTimeout)
	return l.ctx, l
}

// end ends the limit with the statement.
func (l *statementLimit) end() {
	if l.cancel != nil {
		l.cancel()
	}
}

// explain names the option in an error that the limit has caused: the program's
// own context shows no reason for it.
func (l *statementLimit) explain(err error) error {
	if err == nil || err == io.EOF || l.cancel == nil || l.ctx.Err() != context.DeadlineExceeded || l.outer.Err() != nil {
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
