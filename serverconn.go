package dblocker

//lint:file-ignore SA1019 database/sql still obeys the deprecated interfaces of older drivers, and so do we.

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

var (
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

// newServerConn wraps a connection of the inner driver.
func newServerConn(ci driver.Conn, cfg *serverConfig) *serverConn {
	sc := &serverConn{ci: ci, cfg: cfg}
	if b, ok := ci.(*borrowedConn); ok {
		sc.ci, sc.home = b.Conn, b.home
	}
	sc.tellsTx = tellsTxFrom(cfg.dialect, sc.ci)
	return sc
}

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

	conns  *gate.Conns       // that it is one of; nil if it is not counted
	sqlite *sqlite.Connector // that has made it; else nil

	// session is the server's side of the connection, if the dialect knows it.
	// Together with isClosed it is set when the connection is made.
	session  server.Session
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
	open *serverRows

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
	return (&ownRows{serverRows: serverRows{inner: rows}, ss: ss}).public(), nil
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
	args, err := server.ConvertArgs(sc.ci, si, args)
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
	values, err := server.PlainValues(args)
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

// CheckNamedValue implements [driver.NamedValueChecker]; the calls convert their
// arguments themselves.
func (sc *serverConn) CheckNamedValue(nv *driver.NamedValue) error { return server.AcceptAll(nv) }

// add and remove keep the list of the rows that are open.
func (sc *serverConn) add(r *serverRows) { r.server, r.below, sc.open = sc, sc.open, r }

func (sc *serverConn) remove(r *serverRows) {
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

// Prepare implements [driver.Conn].
func (sc *serverConn) Prepare(query string) (driver.Stmt, error) {
	return sc.PrepareContext(context.Background(), query)
}

// Begin implements [driver.Conn].
func (sc *serverConn) Begin() (driver.Tx, error) {
	return sc.BeginTx(context.Background(), driver.TxOptions{})
}
