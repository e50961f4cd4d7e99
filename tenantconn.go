package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
	"github.com/calmdocs/dblocker/internal/userid"
)

var (
	_ RawConn                   = (*tenantConn)(nil)
	_ driver.Pinger             = (*tenantConn)(nil)
	_ driver.ConnPrepareContext = (*tenantConn)(nil)
	_ driver.ConnBeginTx        = (*tenantConn)(nil)
	_ driver.ExecerContext      = (*tenantConn)(nil)
	_ driver.QueryerContext     = (*tenantConn)(nil)
	_ driver.NamedValueChecker  = (*tenantConn)(nil)
	_ driver.SessionResetter    = (*tenantConn)(nil)
	_ driver.Validator          = (*tenantConn)(nil)
)

// A tenantConn is the client connection of a handle with a database for each user. Its first call
// says whose database it is for, of which it gets a client connection then, and it has both until
// database/sql takes it back. So a Tx, a sql.Conn or Rows have one user's database in use: the client connection
// has, see conn.at.
//
//	free      at, on and conn are nil
//	at work   conn is one of on, the database that at is of; of nobody's, if at is nil
//	lost      as at work, but a call on conn has panicked, which has the database in use no more, and answers errors only
//
// As with conn, database/sql calls its methods one at a time.
type tenantConn struct {
	tenancy *tenancy
	at      *tenantEntry
	on      *tenant
	conn    *conn
	used    bool // has returned a Result, whose methods lock it: see conn.spent
}

// connect returns a client connection for database/sql.
func (t *tenancy) connect() (*tenantConn, error) {
	select {
	case <-t.c.closed:
		return nil, errClosed
	default:
	}
	t.c.outer.Opened()
	tc := &tenantConn{tenancy: t}
	tc.noteTaken()
	return tc, nil
}

// connectTo returns one that has a certain backend, of a database that is in use.
func (t *tenancy) connectTo(b *backend.Backend) (*conn, error) {
	select {
	case <-t.c.closed:
		return nil, errClosed
	default:
	}
	b.Retain()
	t.c.outer.Opened()
	return t.c.newConn(b), nil
}

// asker is whose a call is.
type asker struct {
	user   string // "" if it is nobody's
	tagged bool   // its context says so itself
	nobody bool   // it says that it is nobody's
}

// askerOf reads it from the context: the user, or that of the section.
func (t *tenancy) askerOf(ctx context.Context) (asker, error) {
	m := marksFrom(ctx)
	id, tagged := m.identity(ctx)
	if tagged || id.Err != nil {
		return asker{user: id.User, tagged: true}, id.Err
	}
	for s := m.section; s != nil; s = s.outer {
		if user := s.locks.Identity().User; s.db == &t.c.handle && user != "" {
			return asker{user: user}, nil
		}
	}
	return asker{nobody: id.Nobody}, nil
}

// enter returns the client connection that a call works on. mayBeNobodys tells of a statement that needs no user's database.
func (tc *tenantConn) enter(ctx context.Context, mayBeNobodys func() bool) (*conn, error) {
	a, err := tc.tenancy.askerOf(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case tc.conn != nil && tc.at != nil && tc.conn.at.Load() == nil:
		return tc.conn, nil // which is lost, and says so
	case tc.conn != nil && tc.at != nil && (a.user == tc.on.user || a.user == "" && tc.conn.inTransaction()):
		return tc.conn, tc.tenancy.ready(ctx, tc.on)
	case a.user == "" && (tc.at != nil || !mayBeNobodys()):
		if !a.nobody {
			tc.tenancy.c.noteBare()
		}
		return nil, errNoUserOfMany(callers.Site())
	case tc.at != nil:
		return nil, tc.otherUser(a.user)
	case a.user == "" && tc.conn != nil:
		return tc.conn, nil
	}
	tc.leave() // what is nobody's
	tc.noteTaken()
	if a.user == "" {
		return tc.enterNobodys(ctx)
	}
	at, err := tc.tenancy.take(ctx, a.user)
	if err != nil {
		return nil, err
	}
	return tc.enterAt(ctx, at)
}

// enterAt begins the use of a user's database, which is the caller's until the client connection has it.
func (tc *tenantConn) enterAt(ctx context.Context, at *tenantEntry) (*conn, error) {
	defer func() { // also if the driver ends the goroutine as it resets a connection
		if at != nil {
			tc.tenancy.leave(at)
		}
	}()
	cn := at.On.conn(ctx, tc.tenancy)
	tc.at, tc.on, tc.conn = at, at.On, cn
	tc.noteEntered()
	at = cn.at.Swap(at) // one in a transaction that is written in SQL has had it in use already
	return cn, tc.tenancy.ready(ctx, tc.on)
}

func (tc *tenantConn) enterNobodys(ctx context.Context) (*conn, error) {
	on, err := tc.tenancy.forNobody()
	if err != nil {
		return nil, err
	}
	if err := tc.tenancy.checkNobodys(); err != nil {
		return nil, err
	}
	tc.on = on
	tc.conn = on.conn(ctx, tc.tenancy)
	tc.noteEntered()
	return tc.conn, nil
}

// otherUser is the error of a call of another user than the one whose database the connection is for.
func (tc *tenantConn) otherUser(user string) error {
	return fmt.Errorf("dblocker: this Tx or sql.Conn is on the database of user %s, and the context of the call is of user %s, who has another database: "+
		"do it on the sql.DB, or in a Tx that was begun with a context of that user", userid.Brief(tc.on.user), userid.Brief(user))
}

// leave gives back what it has of a user's database.
func (tc *tenantConn) leave() {
	if tc.conn == nil {
		return
	}
	on, cn := tc.on, tc.conn
	tc.on, tc.conn, tc.at = nil, nil, nil
	on.putBack(cn)
}

// inTransaction tells whether c is in a transaction.
func (c *conn) inTransaction() bool {
	c.lockMu()
	in := c.transaction != nil
	c.mu.Unlock()
	c.sweep()
	return in
}

// Ping implements [driver.Pinger]. Without a user there is no database to be asked.
func (tc *tenantConn) Ping(ctx context.Context) error {
	a, err := tc.tenancy.askerOf(ctx)
	if err != nil || a.user == "" && tc.at == nil {
		return err
	}
	c, err := tc.enter(ctx, never)
	if err != nil {
		return err
	}
	return c.Ping(ctx)
}

func never() bool { return false }

// ExecContext implements [driver.ExecerContext].
func (tc *tenantConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c, err := tc.enter(ctx, func() bool { return tc.needsNobody(query) })
	if err != nil {
		return nil, err
	}
	res, err := c.ExecContext(ctx, query, args)
	tc.used = tc.used || err == nil
	return res, err
}

// QueryContext implements [driver.QueryerContext].
func (tc *tenantConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c, err := tc.enter(ctx, func() bool { return tc.needsNobody(query) })
	if err != nil {
		return nil, err
	}
	return c.QueryContext(ctx, query, args)
}

// needsNobody tells of a statement whether it needs no user's database: a SELECT without FROM, as programs and ORMs use to ask
// for the version of the engine.
func (tc *tenantConn) needsNobody(query string) bool {
	st := tc.tenancy.c.texts.Classify(query)
	return st.Kind == sqltext.Read && st.Verb == "SELECT" && !sqltext.Contains(query, "FROM")
}

// PrepareContext implements [driver.ConnPrepareContext]. Without a user it sends nothing: the statement is prepared on the
// database of each user who uses it.
func (tc *tenantConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	a, err := tc.tenancy.askerOf(ctx)
	if err != nil {
		return nil, err
	}
	if a.user == "" && tc.at == nil {
		return tc.newStmt(query, nil), nil
	}
	c, err := tc.enter(ctx, never)
	if err != nil {
		return nil, err
	}
	s, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return tc.newStmt(query, s.(*stmt)), nil
}

// BeginTx implements [driver.ConnBeginTx].
func (tc *tenantConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c, err := tc.enter(ctx, never)
	if err != nil {
		return nil, err
	}
	return c.BeginTx(ctx, opts)
}

// Raw implements [RawConn].
func (tc *tenantConn) Raw(f func(driverConn any) error) error {
	if tc.at == nil {
		return errRawOfNobody
	}
	return tc.conn.Raw(f)
}

var errRawOfNobody = errors.New("dblocker: Raw on a sql.Conn that has no user's database yet, of a handle with {user}: call its PingContext, or another method, with the context of the user first")

// ResetSession implements [driver.SessionResetter].
func (tc *tenantConn) ResetSession(context.Context) error {
	tc.noteTaken()
	return nil
}

// IsValid implements [driver.Validator]: database/sql takes the connection back.
func (tc *tenantConn) IsValid() bool {
	tc.leave()
	tc.noteGiven()
	return !tc.used
}

// Close implements [driver.Conn]. The connection that it still has is bad, or of a handle that is closed.
func (tc *tenantConn) Close() error {
	cn := tc.conn
	tc.on, tc.conn, tc.at = nil, nil, nil
	defer tc.tenancy.c.outer.Gone()
	tc.noteGiven()
	if cn == nil {
		return nil
	}
	return cn.Close()
}

// CheckNamedValue implements [driver.NamedValueChecker]. See conn.checkArg.
func (tc *tenantConn) CheckNamedValue(nv *driver.NamedValue) error {
	if tc.conn != nil {
		return tc.conn.checkArg(nv)
	}
	valuer, ok := nv.Value.(driver.Valuer)
	if !ok || !tc.tenancy.c.plainValuers || isBinary(valuer) {
		return nil
	}
	value, returned, err := callValuer(valuer)
	if returned && err == nil && driver.IsValue(value) {
		nv.Value = value
	}
	return err
}

// callValuer keeps a panic to itself: the connection calls Value again.
func callValuer(v driver.Valuer) (value driver.Value, returned bool, err error) {
	defer func() {
		if !returned {
			recover()
		}
	}()
	value, err = server.ValueOf(v)
	return value, true, err
}

// Prepare implements [driver.Conn].
func (tc *tenantConn) Prepare(query string) (driver.Stmt, error) {
	return tc.PrepareContext(context.Background(), query)
}

// Begin implements [driver.Conn].
func (tc *tenantConn) Begin() (driver.Tx, error) {
	return tc.BeginTx(context.Background(), driver.TxOptions{})
}

// A tenantStmt is a prepared statement of a handle with a database for each user.
type tenantStmt struct {
	tc   *tenantConn
	text string
	on   *conn // that stmt is of; nil before the first use
	stmt *stmt
}

func (tc *tenantConn) newStmt(query string, s *stmt) *tenantStmt {
	return &tenantStmt{tc: tc, text: query, on: tc.conn, stmt: s}
}

// enter returns the statement on the database of the call's user, where it is prepared when it is sent.
func (s *tenantStmt) enter(ctx context.Context) (*stmt, error) {
	c, err := s.tc.enter(ctx, func() bool { return s.tc.needsNobody(s.text) })
	if err != nil {
		return nil, err
	}
	if s.on != c || s.stmt == nil {
		s.on, s.stmt = c, &stmt{conn: c, text: s.text, statement: c.db.texts.Classify(s.text), inputs: -1}
	}
	return s.stmt, nil
}

// ExecContext implements [driver.StmtExecContext].
func (s *tenantStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	st, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	res, err := st.ExecContext(ctx, args)
	s.tc.used = s.tc.used || err == nil
	return res, err
}

// QueryContext implements [driver.StmtQueryContext].
func (s *tenantStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	st, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args)
}

// Close implements [driver.Stmt]. What it has prepared on a connection that is in use is closed; elsewhere it is kept, or was closed.
func (s *tenantStmt) Close() error {
	if s.stmt == nil || s.on != s.tc.conn {
		return nil
	}
	return s.stmt.Close()
}

// NumInput implements [driver.Stmt].
func (s *tenantStmt) NumInput() int { return -1 }

// CheckNamedValue implements [driver.NamedValueChecker].
func (s *tenantStmt) CheckNamedValue(nv *driver.NamedValue) error { return s.tc.CheckNamedValue(nv) }

// Exec implements [driver.Stmt].
func (s *tenantStmt) Exec(values []driver.Value) (driver.Result, error) {
	return s.ExecContext(context.Background(), server.NamedValues(values))
}

// Query implements [driver.Stmt].
func (s *tenantStmt) Query(values []driver.Value) (driver.Rows, error) {
	return s.QueryContext(context.Background(), server.NamedValues(values))
}
