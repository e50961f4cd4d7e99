package dblocker

//lint:file-ignore SA1019 database/sql still obeys the deprecated interfaces of older drivers, and so do we.

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/redact"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

var (
	_ driver.Connector          = (*serverConnector)(nil)
	_ io.Closer                 = (*serverConnector)(nil)
	_ driver.Conn               = (*serverConn)(nil)
	_ driver.Pinger             = (*serverConn)(nil)
	_ driver.ConnPrepareContext = (*serverConn)(nil)
	_ driver.ConnBeginTx        = (*serverConn)(nil)
	_ driver.ExecerContext      = (*serverConn)(nil)
	_ driver.QueryerContext     = (*serverConn)(nil)
	_ driver.NamedValueChecker  = (*serverConn)(nil)
	_ driver.SessionResetter    = (*serverConn)(nil)
	_ driver.Validator          = (*serverConn)(nil)
)

// serverConnector makes the connections of the inner pool.
type serverConnector struct {
	inner  driver.Connector
	cfg    *serverConfig
	dsn    *string       // nil if it is not known
	schema *atomic.Int64 // of the database's space
	gate   *gate.Gate    // nil if there is none

	attached      *attachments
	opensAttached bool // its connections may have files attached from the start

	conns *gate.Conns // to the file; nil if they are not opened here, from a DSN of SQLite
	wait  rwlock.Wait // for other openings and closings there

	timeout time.Duration // of the inner driver's Connect
	limited bool          // the number of connections is

	opened atomic.Pointer[serverConn] // what the next Connect returns, instead of a new one; else nil

	warnOfPooler sync.Once
}

// dial makes a connection of the inner driver. No error shows the DSN's password.
func (c *serverConnector) dial(ctx context.Context) (driver.Conn, error) {
	ci, err := c.inner.Connect(ctx)
	if err != nil {
		err = explainStub(err)
	}
	if err != nil && c.dsn != nil {
		return nil, redact.DialError(err, *c.dsn, mysqlErrorNumber(err) != 0)
	}
	return ci, err
}

// Connect implements [driver.Connector]. The inner pool, which calls it, would go on to count
// a connection that a panic keeps from being made: so that is an error here, see raise.
func (c *serverConnector) Connect(ctx context.Context) (driver.Conn, error) {
	if sc := c.opened.Swap(nil); sc != nil {
		return sc, nil
	}
	open := func(ctx context.Context) (*serverConn, error) { return c.open(ctx, c.wait, c.setUp) }
	var sc *serverConn
	var err error
	if c.dialsHere(ctx) {
		if panicked := c.cfg.contain(func() { sc, err = open(ctx) }); panicked != nil {
			return nil, panicked
		}
	} else {
		sc, err = awaitDial(ctx, c.cfg.logger, c.timeout, c.gate, open)
	}
	if err != nil {
		return nil, err
	}
	return sc, nil
}

// closeOpened closes what no Connect has returned.
func (c *serverConnector) closeOpened() {
	if sc := c.opened.Swap(nil); sc != nil {
		sc.Close()
	}
}

// dialsHere tells whether to open a connection on the caller's goroutine, which is cheaper: a
// SQLite file that nobody can leave waiting for. What it takes is bounded by SQLite's
// busy timeout, and to count a connection too many does no harm where there is no limit.
func (c *serverConnector) dialsHere(ctx context.Context) bool {
	_, isSQLite := c.inner.(*sqliteConnector)
	return isSQLite && ctx.Done() == nil && !c.limited
}

// open makes a server connection, and lets setUp prepare it for its work.
func (c *serverConnector) open(ctx context.Context, w rwlock.Wait, setUp func(context.Context, *serverConn) error) (*serverConn, error) {
	var sc *serverConn
	err := c.conns.Connect(ctx, w, func(beside bool) error {
		ci, err := c.dial(ctx)
		if err != nil {
			return err
		}
		sc = newServerConn(ci, c.cfg)
		sc.sqlite, _ = c.inner.(*sqliteConnector)
		if beside {
			sc.journal = journalOf(c.gate, c.inner)
		}
		ready := false
		defer func() {
			if !ready { // also when the inner driver panics
				sc.Close()
			}
		}()
		if err := setUp(ctx, sc); err != nil {
			return err
		}
		sc.conns, ready = c.conns, true
		return nil
	})
	if err != nil {
		return nil, explainConns(err)
	}
	return sc, nil
}

// explainConns says which wait has ended before there was a connection.
func explainConns(err error) error {
	e, ok := err.(*gate.ConnsError)
	switch {
	case !ok:
		return err
	case e.Err == rwlock.ErrClosed:
		return errClosed
	case e.Err == rwlock.ErrTimeout:
		e.Err = ErrLockTimeout
	}
	return &LockError{
		Waited: e.Waited,
		Err:    e.Err,
		what:   "another connection to the SQLite database, which is opened as the first or closed as the last",
	}
}

// setUp prepares a connection for the inner pool.
func (c *serverConnector) setUp(ctx context.Context, sc *serverConn) error {
	sc.schema = c.schema
	if setUp := c.cfg.dialect.setUp; setUp != nil {
		if err := setUp(ctx, c.inner, sc); err != nil {
			return err
		}
		c.gate.Opened(sc.journal)
	}
	if sc.attachments = c.attached; c.opensAttached {
		if err := c.attached.look(ctx, sc); err != nil && ctx.Err() != nil {
			return err
		}
	}
	if limit := c.cfg.dialect.limitStatements; limit != nil && c.cfg.statementTimeout > 0 {
		if err := limit(ctx, sc, c.cfg.statementTimeout); err != nil {
			return fmt.Errorf("dblocker: setting statement_timeout on a new connection: %w", err)
		}
		sc.statementTimeout = c.cfg.statementTimeout
	}
	if identify := c.cfg.dialect.identify; identify != nil && c.cfg.cancelGrace > 0 {
		// A server that cannot tell is no worse than the bare driver.
		if err := identify(ctx, sc); err != nil && ctx.Err() != nil {
			return err
		}
	}
	if c.cfg.stmtCache > 0 {
		if err := c.keepStmts(ctx, sc); err != nil {
			return err
		}
	}
	return nil
}

// keepStmts lets a new connection keep statements. Behind a pooler that may run
// each transaction on another server connection, what lib/pq calls statement 1 may be
// anybody's: there none are kept, unless the program has asked for it by the option.
func (c *serverConnector) keepStmts(ctx context.Context, sc *serverConn) error {
	sc.keepFrom = neverKeep
	if from := c.cfg.dialect.keepFrom; from != nil {
		sc.keepFrom = from(sc.ci)
	}
	if isPooled := c.cfg.dialect.isPooled; isPooled != nil && !c.cfg.stmtCacheSet {
		pooled, err := isPooled(ctx, sc)
		if pooled && err == nil {
			c.warnOfPooler.Do(func() {
				c.cfg.logger.Warn("dblocker: there seems to be a connection pooler between this program and the server, so prepared statements " +
					"are not kept; say so with stmt_cache=0, or, if it serves each client by one server connection, keep them with stmt_cache=64")
			})
		}
		if pooled || err != nil {
			return ctx.Err() // a server that cannot tell is taken for pooled
		}
	}
	sc.cache.size, sc.cache.maxAge = c.cfg.stmtCache, c.cfg.dialect.keepsFor
	return nil
}

// newServerConn wraps a connection of the inner driver.
func newServerConn(ci driver.Conn, cfg *serverConfig) *serverConn {
	sc := &serverConn{ci: ci, cfg: cfg}
	if b, ok := ci.(*borrowedConn); ok {
		sc.ci, sc.home = b.Conn, b.home
	}
	sc.tellsTx = tellsTxFrom(cfg.dialect, sc.ci)
	return sc
}

func (c *serverConnector) Driver() driver.Driver { return c.inner.Driver() }
func (c *serverConnector) Close() error          { return closeConnector(c.inner) }

// A serverConn is a connection of the inner driver with all the optional
// interfaces of a connection: where the inner one lacks an interface, it does
// what database/sql does for such a driver.
//
// The inner pool owns it. Only the client connection that has drawn it uses it,
// one call at a time, as database/sql guarantees to the latter. One that is pinned is used
// by all that are attached to its pin, each while it has the turn.
type serverConn struct {
	ci   driver.Conn
	home *sql.Conn // of another pool that it is borrowed from; else nil
	cfg  *serverConfig

	// cache has the statements that are kept. A text is, if it comes with at least
	// keepFrom arguments. schema is the database's.
	cache    stmtCache
	keepFrom int
	schema   *atomic.Int64

	conns  *gate.Conns      // that it is one of; nil if it is not counted
	sqlite *sqliteConnector // that has made it; else nil

	// session is the server's side of the connection, if the dialect knows it.
	// Together with isClosed it is set when the connection is made.
	session  session
	isClosed func() bool // for drivers without driver.Validator; else nil

	// mayHaveSent tells that driver.ErrBadConn does not mean that nothing was sent. Then
	// peek tells, if it is not nil, of an idle connection whether the server has ended it.
	mayHaveSent bool
	peek        func() (ended, known bool)

	// statementTimeout is what the server has been told, if it can be. serverVersion is
	// what it has told, if it was asked.
	statementTimeout time.Duration
	serverVersion    string
	// journal is the journal mode of a SQLite database when the connection was
	// made, as PRAGMA journal_mode has it, or "wal" or not; "" if it could not be learned.
	journal string

	// trust is counted up when an error of one connection makes all that are open
	// suspect; nil if the engine has no such errors. Those made at an earlier count
	// are not used again.
	trust   *atomic.Int64
	madeAt  int64
	suspect func(error) bool

	// attached are the files that a SQLite connection has attached, as attachments counts them.
	attached    []string
	attachments *attachments

	// open are the rows that are open on it, the last first. While there are any, some
	// drivers say of a good connection that it is not valid. If the connection is pinned,
	// they may be of several client connections, and the turn guards the list.
	open *rows

	// changesSchema means that a statement of the transaction that may be open does: others
	// see it when that has ended.
	changesSchema bool

	// tellsTx tells whether the session is in a transaction, which the inner driver
	// knows; else it is nil. doubtful: a statement may have begun one, among other things, or
	// the program has had the inner connection in its hands.
	tellsTx  func() bool
	doubtful bool

	// used tells that the connection was drawn before: it may have gone stale in
	// the pool since.
	used bool

	// broken keeps the connection from being used again.
	broken bool
	closed bool

	// converting tells that arguments are converted, by functions of the program among
	// others, and nothing has been sent.
	converting bool
}

// Ping implements [driver.Pinger].
func (sc *serverConn) Ping(ctx context.Context) error {
	if p, ok := sc.ci.(driver.Pinger); ok {
		return p.Ping(ctx)
	}
	return nil
}

// ExecContext executes query, preparing it where the inner driver cannot do
// without. It never answers driver.ErrSkip.
func (sc *serverConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	res, err := sc.execDirect(ctx, query, args)
	if err != driver.ErrSkip {
		return res, err
	}
	ss, err := sc.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	defer ss.Close()
	return ss.ExecContext(ctx, args)
}

func (sc *serverConn) execDirect(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	execerCtx, ok := sc.ci.(driver.ExecerContext)
	if !ok {
		if _, ok := sc.ci.(driver.Execer); !ok {
			return nil, driver.ErrSkip
		}
	}
	args, err := sc.convert(nil, args)
	if err != nil {
		return nil, err
	}
	if execerCtx != nil {
		return execerCtx.ExecContext(ctx, query, args)
	}
	values, err := legacyArgs(ctx, args)
	if err != nil {
		return nil, err
	}
	return sc.ci.(driver.Execer).Exec(query, values)
}

// QueryContext is as ExecContext. A statement that it prepares is closed with
// the rows.
func (sc *serverConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := sc.queryDirect(ctx, query, args)
	if err != driver.ErrSkip {
		return rows, err
	}
	ss, err := sc.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	rows, err = ss.QueryContext(ctx, args)
	if err != nil {
		ss.Close()
		return nil, err
	}
	return wrapRows(rows, func() { ss.Close() }), nil
}

func (sc *serverConn) queryDirect(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	queryerCtx, ok := sc.ci.(driver.QueryerContext)
	if !ok {
		if _, ok := sc.ci.(driver.Queryer); !ok {
			return nil, driver.ErrSkip
		}
	}
	args, err := sc.convert(nil, args)
	if err != nil {
		return nil, err
	}
	if queryerCtx != nil {
		return queryerCtx.QueryContext(ctx, query, args)
	}
	values, err := legacyArgs(ctx, args)
	if err != nil {
		return nil, err
	}
	return sc.ci.(driver.Queryer).Query(query, values)
}

// queryText returns what a query of our own finds, as text.
func (sc *serverConn) queryText(ctx context.Context, query string) ([][]string, error) {
	rows, err := sc.QueryContext(ctx, query, nil)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all [][]string
	values := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(values); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		row := make([]string, len(values))
		for i, v := range values {
			if b, ok := v.([]byte); ok {
				v = string(b)
			}
			row[i] = fmt.Sprint(v)
		}
		all = append(all, row)
	}
}

// convert converts the arguments of a call.
func (sc *serverConn) convert(si driver.Stmt, args []driver.NamedValue) ([]driver.NamedValue, error) {
	sc.converting = true
	args, err := convertArgs(sc.ci, si, args)
	sc.converting = false
	return args, err
}

// stopConverting reports whether the connection was converting arguments, and so has sent
// nothing.
func (sc *serverConn) stopConverting() (was bool) {
	if sc == nil {
		return false
	}
	was, sc.converting = sc.converting, false
	return was
}

// legacyArgs are the arguments for a method that takes no context: the context
// can only be asked beforehand.
func legacyArgs(ctx context.Context, args []driver.NamedValue) ([]driver.Value, error) {
	values, err := plainValues(args)
	if err != nil {
		return nil, err
	}
	return values, ctx.Err()
}

// PrepareContext implements [driver.ConnPrepareContext].
func (sc *serverConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	ss, err := sc.prepare(ctx, query)
	if err != nil {
		return nil, err // not a nil *serverStmt in a driver.Stmt
	}
	return ss, nil
}

func (sc *serverConn) prepare(ctx context.Context, query string) (*serverStmt, error) {
	if p, ok := sc.ci.(driver.ConnPrepareContext); ok {
		si, err := p.PrepareContext(ctx, query)
		if err != nil {
			return nil, err
		}
		return &serverStmt{sc: sc, si: si}, nil
	}
	si, err := sc.ci.Prepare(query)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		si.Close()
		return nil, err
	}
	return &serverStmt{sc: sc, si: si}, nil
}

// BeginTx implements [driver.ConnBeginTx].
func (sc *serverConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := sc.begin(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &serverTx{tx, sc, ctx}, nil
}

func (sc *serverConn) begin(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if begin := sc.cfg.dialect.begin; begin != nil {
		return begin(ctx, sc, opts)
	}
	if b, ok := sc.ci.(driver.ConnBeginTx); ok {
		return b.BeginTx(ctx, opts)
	}
	if opts.Isolation != 0 {
		return nil, errors.New("sql: driver does not support non-default isolation level")
	}
	if opts.ReadOnly {
		return nil, errors.New("sql: driver does not support read-only transactions")
	}
	tx, err := sc.ci.Begin()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		tx.Rollback()
		return nil, err
	}
	return tx, nil
}

// serverTx is a transaction of the inner driver.
type serverTx struct {
	driver.Tx
	sc  *serverConn
	ctx context.Context // of its Begin
}

// Rollback also does what database/sql does when the transaction's context has
// ended: it goes on to use the connection only if the driver can both reset and
// validate it.
func (tx *serverTx) Rollback() error {
	if tx.ctx.Err() != nil {
		_, resets := tx.sc.ci.(driver.SessionResetter)
		_, validates := tx.sc.ci.(driver.Validator)
		tx.sc.broken = tx.sc.broken || !resets || !validates
	}
	return tx.Tx.Rollback()
}

// heed returns err, and looks whether it makes connections suspect.
func (sc *serverConn) heed(err error) error {
	if err != nil && sc.trust != nil && sc.suspect(err) {
		sc.trust.Add(1)
	}
	return err
}

func (sc *serverConn) isSuspect() bool { return sc.trust != nil && sc.trust.Load() != sc.madeAt }

// ResetSession implements [driver.SessionResetter], for the inner pool. See reset.
func (sc *serverConn) ResetSession(context.Context) error {
	if sc.isSuspect() {
		return driver.ErrBadConn
	}
	return nil
}

// reset resets the session of a connection that comes from the inner pool. It is not for that
// to call: it would lose count of the connection if the driver panicked.
func (sc *serverConn) reset(ctx context.Context) (err error) {
	if sc.isSuspect() {
		return driver.ErrBadConn
	}
	r, ok := sc.ci.(driver.SessionResetter)
	if !ok {
		return nil
	}
	if sc.cfg.contain(func() { err = r.ResetSession(ctx) }) != nil {
		return driver.ErrBadConn
	}
	return err
}

// IsValid implements [driver.Validator], for the inner pool. See validate.
func (sc *serverConn) IsValid() bool { return !sc.broken && !sc.isSuspect() }

// validate is asked before the connection goes back to the inner pool, for the reason that
// reset is called after it has come from there. What is not valid is broken.
func (sc *serverConn) validate() (valid bool) {
	v, ok := sc.ci.(driver.Validator)
	if !ok || !sc.IsValid() {
		return sc.IsValid()
	}
	was := sc.broken
	sc.broken = true // also if the driver ends the goroutine
	sc.cfg.contain(func() { valid = v.IsValid() })
	sc.broken = was || !valid
	return !sc.broken
}

// lost tells whether the connection can no longer be used, so that how its
// session fares is to be learned from the server only. It must not be asked while
// rows are open.
func (sc *serverConn) lost() bool {
	if sc.session == (session{}) {
		return false
	}
	if sc.isClosed != nil {
		return sc.isClosed()
	}
	v, ok := sc.ci.(driver.Validator)
	return ok && !v.IsValid()
}

// CheckNamedValue implements [driver.NamedValueChecker]; the calls convert their
// arguments themselves.
func (sc *serverConn) CheckNamedValue(nv *driver.NamedValue) error { return acceptAll(nv) }

// add and remove keep the list of the rows that are open.
func (sc *serverConn) add(r *rows) { r.server, r.below, sc.open = sc, sc.open, r }

func (sc *serverConn) remove(r *rows) {
	if sc == nil {
		return
	}
	for p := &sc.open; *p != nil; p = &(*p).below {
		if *p == r {
			*p, r.below, r.server = r.below, nil, nil
			return
		}
	}
}

// goHome returns a borrowed connection, unless it is bad.
func (sc *serverConn) goHome() error {
	if sc.broken {
		sc.home.Raw(func(any) error { return driver.ErrBadConn })
	}
	return sc.home.Close()
}

// Close implements [driver.Conn], for the inner pool, which would go on to count the connection
// if the driver panicked.
func (sc *serverConn) Close() (err error) {
	if sc.closed {
		return nil
	}
	if thrown := apart(sc.cfg.logger, func() { err = sc.shut() }); thrown != nil {
		return thrown
	}
	return err
}

// shut closes the connection. The second time it does nothing. A panic of the driver is an error.
func (sc *serverConn) shut() (err error) {
	if sc.closed {
		return nil
	}
	sc.closed = true
	if panicked := sc.cfg.contain(func() { err = sc.close() }); panicked != nil {
		return panicked
	}
	return err
}

func (sc *serverConn) close() error {
	defer sc.attachments.closed(sc)
	if sc.home != nil {
		return sc.goHome()
	}
	if sc.cfg.dialect.stmtsOutliveConns {
		sc.cache.clear()
	}
	if sc.sqlite != nil {
		sc.sqlite.letGo()
	}
	return sc.conns.Disconnect(sc.closeInner)
}

// closeInner may be called for another connection, which had to wait for this one.
func (sc *serverConn) closeInner() (err error) {
	if panicked := sc.cfg.contain(func() { err = sc.ci.Close() }); panicked != nil {
		return panicked
	}
	return err
}

// Prepare implements [driver.Conn].
func (sc *serverConn) Prepare(query string) (driver.Stmt, error) {
	return sc.PrepareContext(context.Background(), query)
}

// Begin implements [driver.Conn].
func (sc *serverConn) Begin() (driver.Tx, error) {
	return sc.BeginTx(context.Background(), driver.TxOptions{})
}
