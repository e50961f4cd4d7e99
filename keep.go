package dblocker

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A sending is a statement on its way to a server connection.
type sending struct {
	statement sqltext.Statement
	query     string
	args      []driver.NamedValue
	inTx      bool // inside a transaction
	kept      bool // by a kept statement
}

// isKeepable tells whether a statement of its kind is worth to be kept, and does
// the same when it is prepared. Others are rare, or change what the kept ones mean.
//
// What the server settles when it parses is settled anew for each use of a text. Of a
// statement that the program has prepared, the inner driver has it settled when that is
// done; so there we rely on our knowledge of the session for all but the time.
func (s *sending) isKeepable(most sqltext.Settles) bool {
	if s.statement.Multi || s.statement.DDL || s.statement.Settles > most {
		return false
	}
	switch s.statement.Verb {
	case "SELECT", "VALUES", "TABLE", "WITH", "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE":
		return true
	}
	return false
}

// hasNames tells whether an argument has a name.
func (s *sending) hasNames() bool {
	return slices.ContainsFunc(s.args, func(nv driver.NamedValue) bool { return nv.Name != "" })
}

// neverKeep is an argument count that no query reaches.
const neverKeep = 1 << 30

// leavesRows tells whether the statement, once executed, must be closed.
func (s *sending) leavesRows(d *dialect) bool {
	return d.leavesRows != nil && d.leavesRows(s.statement, s.query)
}

// exec executes a statement that is sent as text, by a kept statement if it can.
func (sc *serverConn) exec(ctx context.Context, s *sending) (driver.Result, error) {
	for tries := 0; ; tries++ {
		res, err := sc.execOnce(ctx, s)
		if err == nil || !sc.triesAgain(&err, s, tries) {
			return res, err
		}
	}
}

func (sc *serverConn) execOnce(ctx context.Context, s *sending) (driver.Result, error) {
	if s.leavesRows(sc.cfg.dialect) {
		return sc.ExecContext(ctx, s.query, s.args)
	}
	k, err := sc.keptFor(ctx, s)
	switch {
	case err != nil:
		return nil, err
	case k == nil:
		return sc.ExecContext(ctx, s.query, s.args)
	}
	defer k.letGo()
	return k.ExecContext(ctx, s.args)
}

// query is exec for a query, whose rows r are going to be: they have the kept statement, if it
// is by one, until they are closed.
func (sc *serverConn) query(ctx context.Context, s *sending, r *serverRows) (err error) {
	for tries := 0; ; tries++ {
		r.inner, r.kept, err = sc.queryOnce(ctx, s)
		if err == nil {
			sc.add(r)
			return nil
		}
		if !sc.triesAgain(&err, s, tries) {
			return err
		}
	}
}

func (sc *serverConn) queryOnce(ctx context.Context, s *sending) (rows driver.Rows, k *keptStmt, err error) {
	k, err = sc.keptFor(ctx, s)
	switch {
	case err != nil:
		return nil, nil, err
	case k == nil:
		rows, err = sc.QueryContext(ctx, s.query, s.args)
		return rows, nil, err
	}
	if rows, err = k.QueryContext(ctx, s.args); err != nil {
		k.letGo()
		return nil, nil, err
	}
	return rows, k, nil
}

// keptFor returns the kept statement for a text, or nil if the text is to be sent
// as it is: then the inner driver does with it what it always does.
func (sc *serverConn) keptFor(ctx context.Context, s *sending) (*keptStmt, error) {
	c := &sc.cache
	s.kept = false
	if sc.keepFrom > 0 && s.hasNames() {
		return nil, nil // the drivers of servers refuse them before they prepare
	}
	if c.size == 0 || len(s.args) < sc.keepFrom || !s.isKeepable(sqltext.SettlesNothing) || !sc.canPrepare() {
		return nil, nil
	}
	version := sc.version() // before it is prepared, since the schema may change meanwhile
	k, there := c.take(s.query, version)
	if k == nil {
		if there || !c.wants(s.query, version) {
			return nil, nil
		}
		ss, err := sc.prepare(ctx, s.query)
		if err != nil {
			return nil, err
		}
		k = c.add(s.query, ss, version)
	}
	if n := k.si.NumInput(); n >= 0 && n != len(s.args) {
		k.letGo() // the inner driver has its own words, or even uses, for it
		return nil, nil
	}
	s.kept = true
	return k, nil
}

// prepareKept returns a statement for a client statement, which has it until it
// lets it go. found tells whether it was there.
func (sc *serverConn) prepareKept(ctx context.Context, s *sending) (k *keptStmt, found bool, err error) {
	keep := sc.cache.size > 0 && len(s.query) <= maxKeptText && s.isKeepable(sqltext.SettlesBySettings) && sc.canPrepare()
	there, version := false, sc.version()
	if keep {
		if k, there = sc.cache.take(s.query, version); k != nil {
			return k, true, nil
		}
	}
	ss, err := sc.prepare(ctx, s.query)
	switch {
	case err != nil:
		return nil, false, err
	case !keep || there:
		return unkept(ss), false, nil
	}
	return sc.cache.add(s.query, ss, version), false, nil
}

// canPrepare tells whether statements may be prepared and closed now: while rows
// are read, the connection of most engines is not free for it.
func (sc *serverConn) canPrepare() bool {
	return sc.open == nil || sc.cfg.dialect.stmtsOutliveConns
}

// version is how many changes were made that a statement prepared earlier may not
// know of.
func (sc *serverConn) version() int64 { return sc.schema.Load() + sc.cache.forgotten }

// maxRetries is how often a statement is sent again because it has to be prepared
// anew. Somebody may change the schema between its preparation and its execution.
const maxRetries = 2

// triesAgain tells whether to send a statement again after err, which says that
// nothing was executed. In a transaction the server may refuse that: there err is
// returned, with words of ours if only our keeping the statement explains it. What is
// not kept, such as an EXECUTE of the program's own, has its error as it is.
func (sc *serverConn) triesAgain(err *error, s *sending, tries int) bool {
	c, d := &sc.cache, sc.cfg.dialect
	switch {
	case c.size > 0 && d.stmtsFull != nil && d.stmtsFull(*err): // others need the room
		c.clear()
		c.size = 0
		return true
	case !s.kept || d.staleStmt == nil || !d.staleStmt(*err):
		return false
	}
	c.forget()
	if s.inTx {
		*err = &staleStmtError{err: *err, lost: d.unknownStmt != nil && d.unknownStmt(*err)}
	}
	return !s.inTx && tries < maxRetries
}

// A staleStmtError is the error of a kept statement that the server does not know, or
// that would give other columns than before, in a transaction, which it has ended.
type staleStmtError struct {
	err  error
	lost bool // the server does not know it
}

func (e *staleStmtError) Error() string {
	if e.lost {
		return fmt.Sprintf("%v; dblocker had prepared the statement on this connection: if a pooler such as pgbouncer is in between, "+
			"which may run each transaction on another server connection, open the database with stmt_cache=0", e.err)
	}
	return fmt.Sprintf("%v; dblocker had kept the statement prepared on this connection from an earlier use, and its tables were changed since where dblocker "+
		"does not see it, as by another program: run the transaction again, or open the database with stmt_cache=0", e.err)
}

func (e *staleStmtError) Unwrap() error { return e.err }
