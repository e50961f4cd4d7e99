package server

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"

	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A Call is a statement on its way to a server connection.
type Call struct {
	Statement sqltext.Statement
	Query     string
	Args      []driver.NamedValue
	InTx      bool // inside a transaction
	Kept      bool // by a kept statement
}

// isKeepable tells whether a statement of its kind is worth to be kept, and does
// the same when it is prepared. Others are rare, or change what the kept ones mean.
//
// What the server settles when it parses is settled anew for each use of a text. Of a
// statement that the program has prepared, the inner driver has it settled when that is
// done; so there we rely on our knowledge of the session for all but the time.
func (s *Call) isKeepable(most sqltext.Settles) bool {
	if s.Statement.Multi || s.Statement.DDL || s.Statement.Settles > most {
		return false
	}
	switch s.Statement.Verb {
	case "SELECT", "VALUES", "TABLE", "WITH", "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE":
		return true
	}
	return false
}

// hasNames tells whether an argument has a name.
func (s *Call) hasNames() bool {
	return slices.ContainsFunc(s.Args, func(nv driver.NamedValue) bool { return nv.Name != "" })
}

// LeavesRows tells whether the statement, once executed, must be closed.
func (sc *Conn) LeavesRows(s *Call) bool {
	d := sc.cfg.Engine
	return d.LeavesRows != nil && d.LeavesRows(s.Statement, s.Query)
}

// Exec executes a statement that is sent as text, by a kept statement if it can.
func (sc *Conn) Exec(ctx context.Context, s *Call) (driver.Result, error) {
	if sc.owed != nil {
		var res driver.Result
		folded := *s // s itself would be on the heap, also where nothing is owed
		if done, err := sc.fold(ctx, s, func(l *Locks, o *Owed) (f Folded, err error) {
			res, f, err = l.Exec(ctx, sc, o.Locks, o.Left, &folded)
			return f, err
		}); done {
			return res, err
		}
	}
	for tries := 0; ; tries++ {
		res, err := sc.execOnce(ctx, s)
		if err == nil || !sc.TriesAgain(&err, s, tries) {
			return res, err
		}
	}
}

func (sc *Conn) execOnce(ctx context.Context, s *Call) (driver.Result, error) {
	if sc.LeavesRows(s) {
		return sc.ExecContext(ctx, s.Query, s.Args)
	}
	k, err := sc.keptFor(ctx, s)
	switch {
	case err != nil:
		return nil, err
	case k == nil:
		return sc.ExecContext(ctx, s.Query, s.Args)
	}
	defer k.Release()
	return k.ExecContext(ctx, s.Args)
}

// Query is Exec for a query, whose rows r are going to be: they have the kept statement, if it
// is by one, until they are closed.
func (sc *Conn) Query(ctx context.Context, s *Call, r *Rows) (err error) {
	if sc.owed != nil {
		folded := *s // see Exec
		done, err := sc.fold(ctx, s, func(l *Locks, o *Owed) (f Folded, err error) {
			r.Inner, f, err = l.Query(ctx, sc, o.Locks, o.Left, &folded)
			return f, err
		})
		if done && err == nil {
			sc.add(r)
		}
		if done {
			return err
		}
	}
	for tries := 0; ; tries++ {
		r.Inner, r.kept, err = sc.queryOnce(ctx, s)
		if err == nil {
			sc.add(r)
			return nil
		}
		if !sc.TriesAgain(&err, s, tries) {
			return err
		}
	}
}

func (sc *Conn) queryOnce(ctx context.Context, s *Call) (rows driver.Rows, k *Kept, err error) {
	k, err = sc.keptFor(ctx, s)
	switch {
	case err != nil:
		return nil, nil, err
	case k == nil:
		rows, err = sc.QueryContext(ctx, s.Query, s.Args)
		return rows, nil, err
	}
	if rows, err = k.QueryContext(ctx, s.Args); err != nil {
		k.Release()
		return nil, nil, err
	}
	return rows, k, nil
}

// keptFor returns the kept statement for a text, or nil if the text is to be sent
// as it is: then the inner driver does with it what it always does.
func (sc *Conn) keptFor(ctx context.Context, s *Call) (*Kept, error) {
	c := &sc.cache
	s.Kept = false
	if sc.keepFrom > 0 && s.hasNames() {
		return nil, nil // the drivers of servers refuse them before they prepare
	}
	if c.size == 0 || len(s.Args) < sc.keepFrom || !s.isKeepable(sqltext.SettlesNothing) || !sc.canPrepare() {
		return nil, nil
	}
	version := sc.version() // before it is prepared, since the schema may change meanwhile
	k, there := c.take(s.Query, version)
	c.found(k != nil)
	if k == nil {
		if there || !c.wants(s.Query, version) {
			return nil, nil
		}
		ss, err := sc.PrepareStmt(ctx, s.Query)
		if err != nil {
			return nil, err
		}
		k = c.add(s.Query, ss, version)
	}
	if n := k.si.NumInput(); n >= 0 && n != len(s.Args) {
		k.Release() // the inner driver has its own words, or even uses, for it
		return nil, nil
	}
	s.Kept = true
	return k, nil
}

// PrepareKept returns a statement for a client statement, which has it until it
// lets it go. found tells whether it was there.
func (sc *Conn) PrepareKept(ctx context.Context, s *Call) (k *Kept, found bool, err error) {
	keep := sc.cache.size > 0 && len(s.Query) <= maxKeptText && s.isKeepable(sqltext.SettlesBySettings) && sc.canPrepare()
	there, version := false, sc.version()
	if keep {
		k, there = sc.cache.take(s.Query, version)
		if sc.cache.found(k != nil); k != nil {
			return k, true, nil
		}
	}
	ss, err := sc.PrepareStmt(ctx, s.Query)
	switch {
	case err != nil:
		return nil, false, err
	case !keep || there:
		return unkept(ss), false, nil
	}
	return sc.cache.add(s.Query, ss, version), false, nil
}

// canPrepare tells whether statements may be prepared and closed now: while rows
// are read, the connection of most engines is not free for it.
func (sc *Conn) canPrepare() bool {
	return sc.open == nil || sc.cfg.Engine.StmtsOutliveConns
}

// version is how many changes were made that a statement prepared earlier may not
// know of.
func (sc *Conn) version() int64 { return sc.schema.Load() + sc.cache.forgotten }

// A CacheInfo is what a connection has kept of statements.
type CacheInfo struct {
	Size, KeepFrom int   // so many at most, with so many arguments or more
	Version        int64 // of those that are prepared now
	Stmts          []CachedStmt
}

// A CachedStmt is one that is kept.
type CachedStmt struct {
	Query   string
	Version int64
	Idle    bool
}

// Cached returns what is kept, for tests.
func (sc *Conn) Cached() CacheInfo {
	info := CacheInfo{Size: sc.cache.size, KeepFrom: sc.keepFrom, Version: sc.version()}
	for query, k := range sc.cache.stmts {
		info.Stmts = append(info.Stmts, CachedStmt{query, k.prepared, k.state == keptIdle})
	}
	return info
}

// maxRetries is how often a statement is sent again because it has to be prepared
// anew. Somebody may change the schema between its preparation and its execution.
const maxRetries = 2

// TriesAgain tells whether to send a statement again after err, which says that
// nothing was executed. In a transaction the server may refuse that: there err is
// returned, with words of ours if only our keeping the statement explains it. What is
// not kept, such as an EXECUTE of the program's own, has its error as it is.
func (sc *Conn) TriesAgain(err *error, s *Call, tries int) bool {
	c, d := &sc.cache, sc.cfg.Engine
	switch {
	case c.size > 0 && d.IsFull != nil && d.IsFull(*err): // others need the room
		c.clear()
		c.size = 0
		return true
	case !s.Kept || d.IsStale == nil || !d.IsStale(*err):
		return false
	}
	c.forget()
	if s.InTx {
		*err = &staleStmtError{err: *err, lost: d.IsUnknown != nil && d.IsUnknown(*err)}
	}
	return !s.InTx && tries < maxRetries
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
