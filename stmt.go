package dblocker

import (
	"context"
	"database/sql/driver"
	"slices"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

var (
	_ driver.Stmt              = (*stmt)(nil)
	_ driver.StmtExecContext   = (*stmt)(nil)
	_ driver.StmtQueryContext  = (*stmt)(nil)
	_ driver.NamedValueChecker = (*stmt)(nil)
)

// A stmt is a prepared statement of a client connection. It lasts as long as the
// program wants; its inner statement belongs to the server connection, and is had no
// longer than that is. On the next one it is prepared again, unless it is kept there.
type stmt struct {
	conn      *conn
	text      string
	statement sqltext.Statement // what the text tells
	inner     *server.Kept      // on conn.drawn, and then the stmt is in conn.stmts; else nil
	found     bool              // inner was kept from earlier, not prepared by this use of conn.drawn
	called    callers.Entry     // what it was prepared on; known if that may matter
	inputs    int               // how many arguments it takes; -1 if the driver does not tell
	asText    bool              // it is never prepared, and no more than its text
}

// prepareAsText returns a statement that is prepared in no session, if there is a pooler which has another one for the next transaction; else nil. A COPY is no
// statement that the driver prepares.
func (c *conn) prepareAsText(query string) *stmt {
	if !c.db.isPooled() {
		return nil
	}
	st := c.db.texts.Classify(query)
	if st.Verb == "COPY" {
		return nil
	}
	return &stmt{conn: c, text: query, statement: st, inputs: -1, asText: true}
}

// prepared returns s, unless it is to be sent as a text.
func (s *stmt) prepared() *stmt {
	if s.asText {
		return nil
	}
	return s
}

// ExecContext implements [driver.StmtExecContext].
func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (res driver.Result, err error) {
	c := s.conn
	op := c.operation(ctx)
	var d debt
	err = c.callHeld(&op, func() (err error) {
		if s.called == callers.Handle && (s.inputs < 0 || s.inputs == len(args)) { // else its error is not that of the text
			c.noteEntry(&op, s.text)
		}
		res, err = c.exec(&op, s.prepared(), s.text, args)
		d = c.takeDebt(s.called)
		return err
	})
	if err = c.repay(ctx, &d, err); err != nil {
		return nil, err
	}
	return res, nil
}

// QueryContext implements [driver.StmtQueryContext].
func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.query(ctx, s.prepared(), s.text, args)
}

// execOn executes a statement on sc: s, or if that is nil a text.
func (s *stmt) execOn(ctx context.Context, sc *server.Conn, snd *server.Call) (driver.Result, error) {
	if s == nil {
		return sc.Exec(ctx, snd)
	}
	return s.exec(ctx, sc, snd)
}

func (s *stmt) exec(ctx context.Context, sc *server.Conn, snd *server.Call) (res driver.Result, err error) {
	err = s.run(ctx, sc, snd, func(ss *server.Stmt) (err error) {
		res, err = ss.ExecContext(ctx, snd.Args)
		return err
	})
	if s.inner != nil && sc.LeavesRows(snd) {
		s.inner.Evict()
		s.closeInner()
	}
	return res, err
}

func (s *stmt) query(ctx context.Context, sc *server.Conn, snd *server.Call, r *server.Rows) error {
	return s.run(ctx, sc, snd, func(ss *server.Stmt) error {
		return ss.QueryInto(ctx, snd.Args, r)
	})
}

// run calls with the statement prepared on sc, and again if one that was kept has to
// be prepared anew. One that is prepared here fails as on the bare driver.
func (s *stmt) run(ctx context.Context, sc *server.Conn, snd *server.Call, call func(*server.Stmt) error) error {
	for tries := 0; ; tries++ {
		ss, err := s.on(ctx, sc, snd)
		if err == nil {
			if err = call(ss); err == nil || !s.found {
				return err
			}
		}
		if !sc.TriesAgain(&err, snd, tries) {
			return err
		}
		s.closeInner()
	}
}

// on returns the statement prepared on sc, the connection's server connection.
func (s *stmt) on(ctx context.Context, sc *server.Conn, snd *server.Call) (*server.Stmt, error) {
	if s.inner != nil {
		s.inner.Use()
	} else {
		var err error
		if s.inner, s.found, err = sc.PrepareKept(ctx, snd); err != nil {
			return nil, err
		}
		s.conn.stmts = append(s.conn.stmts, s)
	}
	snd.Kept = s.found
	return s.inner.Stmt, nil
}

// Close lets the inner statement go, if there is one. database/sql may call it with
// its pool locked, so it waits for nothing of ours.
func (s *stmt) Close() error {
	c := s.conn
	c.lockMu()
	if p := c.pinned; p != nil && s.inner != nil {
		if !p.turn.tryLock() { // another's call may wait there for a lock
			c.leave()
			return nil // it is closed when c leaves the connection
		}
		c.using = p // and nobody else's call waits for what this one does
	}
	defer c.leave()
	c.drawn.Conn.Settle()
	return s.closeInner()
}

func (s *stmt) closeInner() error {
	inner := s.inner
	if inner == nil {
		return nil
	}
	s.inner = nil
	s.conn.stmts = slices.DeleteFunc(s.conn.stmts, func(o *stmt) bool { return o == s })
	return inner.Release()
}

// NumInput leaves the counting of arguments to the inner statement.
func (s *stmt) NumInput() int { return -1 }

// CheckNamedValue implements [driver.NamedValueChecker].
func (s *stmt) CheckNamedValue(nv *driver.NamedValue) error { return s.conn.checkArg(nv) }

// Exec implements [driver.Stmt].
func (s *stmt) Exec(values []driver.Value) (driver.Result, error) {
	return s.ExecContext(context.Background(), server.NamedValues(values))
}

// Query implements [driver.Stmt].
func (s *stmt) Query(values []driver.Value) (driver.Rows, error) {
	return s.QueryContext(context.Background(), server.NamedValues(values))
}

// checkArg leaves the checks for later, when there is an inner connection, but calls the argument's own Value method, if the driver has no
// other use for that: before there is a lock, so that one that takes its time, or asks the
// database, keeps nobody waiting, nor waits for itself. In a transaction there is a lock already.
func (c *conn) checkArg(nv *driver.NamedValue) error {
	valuer, ok := nv.Value.(driver.Valuer)
	if !ok || !c.db.plainValuers || isBinary(valuer) || !c.hasNothing() {
		return nil
	}
	value, returned, err := c.callValuer(valuer)
	if returned && err == nil && driver.IsValue(value) { // else the connection finds the words
		nv.Value = value
	}
	return err
}

// isBinary tells whether lib/pq may ask for another value.
func isBinary(v driver.Valuer) bool {
	_, ok := v.(interface{ BinaryValue() ([]byte, error) })
	return ok
}

// hasNothing tells whether c has neither a transaction nor a server connection.
func (c *conn) hasNothing() bool {
	if !c.mu.TryLock() {
		return false
	}
	nothing := c.transaction == nil && c.raw == nil && c.drawn.Conn == nil
	c.mu.Unlock()
	c.sweep()
	return nothing
}

// callValuer keeps a panic to itself: the connection calls Value again, where one leaves nothing locked. A
// Value that ends the goroutine ends c.
func (c *conn) callValuer(v driver.Valuer) (value driver.Value, returned bool, err error) {
	defer func() {
		if returned || recover() != nil {
			return
		}
		c.mu.Lock()
		defer c.leave()
		c.abandon(nil, nil)
	}()
	value, err = server.ValueOf(v)
	return value, true, err
}
