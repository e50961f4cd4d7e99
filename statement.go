package dblocker

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"time"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/combine"
	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// exec executes a statement, prepared as s or else given as text, under an exclusive
// lock, on a server connection.
func (c *conn) exec(op *operation, s *stmt, query string, args []driver.NamedValue) (res driver.Result, err error) {
	for tries, alone := 0, false; ; {
		res, err = c.execOnce(op, s, query, args, alone)
		if err == combine.ErrAlone {
			alone = true
		} else if !startsAnew(err, &tries) {
			return res, err
		}
	}
}

// execOnce is exec for one try. Others may run the statement unless it is to be alone.
func (c *conn) execOnce(op *operation, s *stmt, query string, args []driver.NamedValue, alone bool) (res driver.Result, err error) {
	var adm admission
	adm.read(c, s, query, args)
	adm.alone = alone
	returned := false
	defer func() {
		if !returned {
			c.abandon(&c.leaf, &adm)
		}
		c.release(&c.leaf)
	}()
	defer c.doneAttaching()
	switch err = c.admit(op, &adm, &c.leaf, rwlock.Leaf); err {
	case nil:
		res, err = c.sendExec(op, s, &adm)
	case errRidden:
		res, err = c.arrive(op.ctx, &c.leaf, adm.ride)
	}
	returned = true
	return res, err
}

// sendExec executes a statement that has its lock, and settles what it did.
func (c *conn) sendExec(op *operation, s *stmt, adm *admission) (res driver.Result, err error) {
	ctx, limit := c.limitStatement(op)
	defer limit.end()
	err = c.onServer(ctx, op, busy, func(sc *server.Conn) (err error) {
		if err := adm.raw.guard(ctx, sc); err != nil {
			return err
		}
		var under *scope.Use
		if c.backend.Scope != nil {
			defer sc.Settled()
			if under, err = c.reach(ctx, adm, &c.leaf, sc); err != nil {
				return err
			}
		}
		if adm.mayRide {
			res, err = c.execAndLead(ctx, sc, s, adm)
		} else if c.db.tellsCalls {
			res, err = c.execTold(ctx, sc, s, adm)
		} else {
			res, err = s.execOn(ctx, sc, &adm.Call)
		}
		if under != nil && err == nil {
			err = c.tellUnder(ctx, checkUnder(ctx, under, sc))
		}
		if c.isPerTx() {
			if err != nil {
				return c.explainAlone(&c.leaf, err)
			}
			err = c.commitAlone(ctx, &c.leaf)
		}
		return err
	})
	c.noteSent(ctx, adm, nil)
	c.noteWritten(adm.Statement)
	if err == combine.ErrLost {
		c.discard() // before others have the gate
		return nil, combine.ErrAlone
	}
	if err != nil {
		shown := limit.explain(c.transactionOnServer().explainReadOnly(err))
		c.settle(adm, err)
		c.noteDebt(adm.Statement, err)
		return nil, shown
	}
	c.spent = true
	res = server.ReadResult(res)
	c.settle(adm, nil)
	c.noteDebt(adm.Statement, nil)
	return res, nil
}

// query runs a query, prepared as s or else given as text, on a server connection,
// under the lock that the text asks for. The rows take the lock with them.
func (c *conn) query(ctx context.Context, s *stmt, query string, args []driver.NamedValue) (found driver.Rows, err error) {
	op := c.operation(ctx)
	var d debt
	err = c.callHeld(&op, func() (err error) {
		for tries := 0; ; {
			if found, err = c.queryOnce(&op, s, query, args); !startsAnew(err, &tries) && !c.readsAgain(query, err) {
				d = c.takeDebt(callers.Other)
				return err
			}
		}
	})
	if d.isDue() && err == nil {
		if err = c.repay(ctx, &d, nil); err != nil {
			found.Close()
			return nil, err
		}
	}
	return found, err
}

func (c *conn) queryOnce(op *operation, s *stmt, query string, args []driver.NamedValue) (found driver.Rows, err error) {
	r := c.newRows(op)
	var adm admission
	adm.read(c, s, query, args)
	if op.mode == askedCopy {
		adm.Statement = sqltext.Statement{Kind: sqltext.Read}
	}
	returned, opened := false, false
	defer func() {
		if !returned {
			c.abandon(&r.hold.Hold, &adm)
		}
		if !opened {
			r.release()
		}
	}()
	defer c.doneAttaching()
	if err = c.admit(op, &adm, &r.hold.Hold, rwlock.Rows); err == nil {
		err = c.sendQuery(op, s, &adm, r)
	}
	if err == nil && c.isPerTx() {
		err = c.completeAlone(op.ctx, &adm, r)
	}
	if err == nil {
		if found = r.Scanning(); found == nil {
			found = r
		}
		c.open(r, &adm)
		opened = true
		r.oweFor(&adm)
	}
	returned = true
	return found, err
}

// sendQuery runs a query that has its lock; r are going to be its rows. What it did is settled if
// it fails, while the rows have the lock; else when they are open.
func (c *conn) sendQuery(op *operation, s *stmt, adm *admission, r *rows) error {
	r.inside = r.hold.Section()
	r.writes = adm.Statement.Kind != sqltext.Read || op.mode == askedExclusive && r.hold.Gate.IsHeld()
	ctx, limit := c.limitStatement(op)
	r.limit = limit
	err := c.onServer(ctx, op, busy, func(sc *server.Conn) (err error) {
		if err := adm.raw.guard(ctx, sc); err != nil {
			return err
		}
		var under *scope.Use
		if c.backend.Scope != nil {
			defer sc.Settled()
			if under, err = c.reach(ctx, adm, &r.hold.Hold, sc); err != nil {
				return err
			}
		}
		var began time.Time
		if c.db.tellsCalls {
			began = time.Now()
		}
		if s != nil {
			err = s.query(ctx, sc, &adm.Call, &r.Rows)
		} else {
			err = sc.Query(ctx, &adm.Call, &r.Rows)
		}
		if c.db.tellsCalls {
			c.tellOperation(op.ctx, r.hold.User, adm.Statement.Verb, began, err)
		}
		if under != nil && err == nil {
			err = c.tellUnder(ctx, c.checkUnderRows(ctx, under, r))
		}
		return c.explainAlone(&r.hold.Hold, err)
	})
	c.noteSent(ctx, adm, r)
	if r.writes || op.mode == askedExclusive {
		c.noteWritten(adm.Statement)
	}
	if err != nil {
		shown := limit.explain(c.transactionOnServer().explainReadOnly(err))
		c.settle(adm, err)
		c.noteDebt(adm.Statement, err)
		return shown
	}
	if r.hold.Gate.HasPassed() {
		c.backend.WALReader.Note()
	}
	return nil
}

// noteSent follows what a statement that was sent did, be it that it failed, to what others rely
// on: statements that are kept, the journal of the database, attached files. A read does nothing
// to these. r are its rows; nil if it is an Exec.
func (c *conn) noteSent(ctx context.Context, adm *admission, r *rows) {
	st := adm.Statement
	if c.backend.Scope != nil {
		c.lookReach(adm)
	}
	if st.Kind == sqltext.Read && st.Alters == sqltext.AltersNothing {
		return
	}
	if sc := c.drawn.Conn; sc != nil && !st.Combines {
		sc.Memo = nil
	}
	server.NoteEffects(c.drawn.Conn, &c.backend.Database.Schema, &adm.Call, c.transactionOnServer() != nil)
	if r != nil {
		c.noteJournalOf(ctx, r, st, adm.Query)
	} else {
		c.noteJournal(ctx, st, adm.Query)
	}
	c.noteAttached(ctx, r, st, adm.Query)
	c.restoreSyncs(ctx, r, st, adm.Query)
}

// settle finds out what a statement that has been executed, or has failed with
// err, did to the transaction that it ran in, or began.
func (c *conn) settle(adm *admission, err error) {
	c.noteMayBegin(adm.Statement)
	if t := c.transactionOnServer(); t != nil {
		t.noticeLoss(adm.Statement, err)
	}
	c.settleRaw(adm.raw, adm.Statement, err)
}

// noteMayBegin makes the server connection doubtful if the statement, which was executed or has failed,
// may have begun a transaction among other things. Of engines that we do not know, statements
// such as EXEC, of which any may, are too common to give up a connection for each.
func (c *conn) noteMayBegin(st sqltext.Statement) {
	if sc := c.drawn.Conn; sc != nil && st.MayBegin {
		saysSo := st.Multi || st.LocksTables || st.Verb == "SET" || st.Verb == "XA" || st.Verb == "BEGIN"
		if saysSo || c.db.engine != engines.Generic {
			sc.Doubt()
		}
	}
}

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
	if timeout == 0 || c.db.engine.LimitStatements != nil && !c.db.isPooled() {
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
