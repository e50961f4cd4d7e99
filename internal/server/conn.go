package server

//lint:file-ignore SA1019 database/sql still obeys the deprecated interfaces of older drivers, and so do we.

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"iter"
	"sync/atomic"
	"time"
)

var (
	_ driver.Conn               = (*Conn)(nil)
	_ driver.Pinger             = (*Conn)(nil)
	_ driver.ConnPrepareContext = (*Conn)(nil)
	_ driver.ConnBeginTx        = (*Conn)(nil)
	_ driver.ExecerContext      = (*Conn)(nil)
	_ driver.QueryerContext     = (*Conn)(nil)
	_ driver.NamedValueChecker  = (*Conn)(nil)
	_ driver.SessionResetter    = (*Conn)(nil)
	_ driver.Validator          = (*Conn)(nil)
)

// NewConn wraps a connection of the inner driver.
func NewConn(ci driver.Conn, cfg *Config) *Conn {
	sc := &Conn{ci: ci, cfg: cfg}
	if b, ok := ci.(*borrowedConn); ok {
		sc.ci, sc.home = b.Conn, b.home
	}
	sc.tellsTx = tellsTxFrom(cfg.Engine, sc.ci)
	return sc
}

// A Conn is a connection of the inner driver with all the optional
// interfaces of a connection: where the inner one lacks an interface, it does
// what database/sql does for such a driver.
//
// The pool owns it. Only who has drawn it uses it, one call at a time. If those are several, they take turns.
type Conn struct {
	calls calls // each is noted before it is made

	ci   driver.Conn
	home *sql.Conn // of another pool that it is borrowed from; else nil
	cfg  *Config

	// cache has the statements that are kept. A text is, if it comes with at least
	// keepFrom arguments. schema is the database's.
	cache    cache
	keepFrom int
	schema   *atomic.Int64

	host    Host      // of the connector that has made it; nil if it was made beside
	counted bool      // by the host, which is to close it
	born    time.Time // when it was opened, if Config.Closed is told of that

	Peer

	statementTimeout time.Duration // that the server has been told, if it can be
	ServerVersion    string        // that the server has told, if its engine has asked

	// trust is counted up when an error of one connection makes all that are open
	// suspect; nil if the engine has no such errors. Those made at an earlier count
	// are not used again.
	trust   *atomic.Int64
	madeAt  int64
	suspect func(error) bool

	// Attached are the files that a SQLite connection has attached, as its host counts them.
	Attached []string

	// Of a SQLite connection. Relaxed: it does not sync its commits itself. Unsynced: it may have written, in its transaction or
	// before that, what nobody has been asked to sync yet.
	Relaxed, Unsynced bool

	// open are the rows that are open on it, the last first. While there are any, some
	// drivers say of a good connection that it is not valid.
	open *Rows

	// Memo is what the client knows of the session. It forgets that when it may have changed.
	Memo any

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

	// inDB is what it is in the sql.DB of its pool, and shelfRound the round of the shelf in which it was
	// drawn there; passing is the last passage to there.
	inDB       *sql.Conn
	shelfRound uint32
	passing    *passage

	// broken keeps the connection from being used again.
	broken bool
	closed bool

	// settling is closed when those whom Later has let are done; nil if there are none. Locked counts the locks of the
	// engine that the session has: with any the connection does not go back.
	settling chan struct{}
	Locked   int
	kept     []KeptLock // of these, those that stay for others: see Keep

	// rest has a lock that nobody relies on any more, beside those. Pinned: it is to have none, since the connection is a section's.
	rest   rest
	Pinned bool
	lies   bool  // it is to lie down when the sql.DB has asked whether it is valid
	owed   *Owed // that the statement has to have which comes next; nil if nothing

	// LockState is what the engine keeps for these. TxLevel is the level of isolation that the last transaction was begun with, by
	// BeginTx; TxSent that statements have been sent since. They are kept only if locks reach beyond the process.
	LockState any
	TxLevel   driver.IsolationLevel
	TxSent    bool

	own map[string]*Stmt // statements of ours, by their texts: see QueryOwn; whoever has the connection uses it

	// converting tells that arguments are converted, by functions of the program among
	// others, and nothing has been sent.
	converting bool
}

// Ping implements [driver.Pinger].
func (sc *Conn) Ping(ctx context.Context) error {
	if sc.isDue() {
		if err := sc.doDue(ctx); err != nil {
			return err
		}
	}
	sc.calls.note()
	if p, ok := sc.ci.(driver.Pinger); ok {
		return p.Ping(ctx)
	}
	return nil
}

// ExecContext executes query, preparing it where the inner driver cannot do
// without. It never answers driver.ErrSkip.
func (sc *Conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	res, err := sc.execDirect(ctx, query, args)
	if err != driver.ErrSkip {
		return res, err
	}
	ss, err := sc.PrepareStmt(ctx, query)
	if err != nil {
		return nil, err
	}
	defer ss.Close()
	return ss.ExecContext(ctx, args)
}

func (sc *Conn) execDirect(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if sc.isDue() {
		if err := sc.doDue(ctx); err != nil {
			return nil, err
		}
	}
	sc.calls.note()
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
func (sc *Conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := sc.queryDirect(ctx, query, args)
	if err != driver.ErrSkip {
		return rows, err
	}
	ss, err := sc.PrepareStmt(ctx, query)
	if err != nil {
		return nil, err
	}
	rows, err = ss.QueryContext(ctx, args)
	if err != nil {
		ss.Close()
		return nil, err
	}
	return (&ownRows{Rows: Rows{Inner: rows}, ss: ss}).public(), nil
}

func (sc *Conn) queryDirect(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if sc.isDue() {
		if err := sc.doDue(ctx); err != nil {
			return nil, err
		}
	}
	sc.calls.note()
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

// convert converts the arguments of a call.
func (sc *Conn) convert(si driver.Stmt, args []driver.NamedValue) ([]driver.NamedValue, error) {
	sc.converting = true
	sc.calls.note()
	args, err := convertArgs(sc.ci, si, args)
	sc.converting = false
	return args, err
}

// StopConverting reports whether the connection was converting arguments, and so has sent
// nothing.
func (sc *Conn) StopConverting() (was bool) {
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
func (sc *Conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	ss, err := sc.PrepareStmt(ctx, query)
	if err != nil {
		return nil, err // not a nil *Stmt in a driver.Stmt
	}
	return ss, nil
}

func (sc *Conn) PrepareStmt(ctx context.Context, query string) (*Stmt, error) {
	if sc.isDue() {
		if err := sc.doDue(ctx); err != nil {
			return nil, err
		}
	}
	sc.calls.note()
	if p, ok := sc.ci.(driver.ConnPrepareContext); ok {
		si, err := p.PrepareContext(ctx, query)
		if err != nil {
			return nil, err
		}
		return &Stmt{sc: sc, si: si}, nil
	}
	si, err := sc.ci.Prepare(query)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		si.Close()
		return nil, err
	}
	return &Stmt{sc: sc, si: si}, nil
}

// CheckNamedValue implements [driver.NamedValueChecker]; the calls convert their
// arguments themselves.
func (sc *Conn) CheckNamedValue(nv *driver.NamedValue) error { return acceptAll(nv) }

// Inner returns the connection of the inner driver.
func (sc *Conn) Inner() driver.Conn {
	sc.calls.note()
	return sc.ci
}

// IsBorrowed tells whether the connection is of another pool.
func (sc *Conn) IsBorrowed() bool { return sc.home != nil }

// Fail keeps the connection from being used again: it is closed when it goes back.
func (sc *Conn) Fail() { sc.broken = true }

// HasFailed tells whether it is not to be used again.
func (sc *Conn) HasFailed() bool { return sc.broken }

// DistrustOn makes the connection suspect when another one of those with the same count has an error
// for which suspect reports true.
func (sc *Conn) DistrustOn(count *atomic.Int64, suspect func(error) bool) {
	sc.trust, sc.madeAt, sc.suspect = count, count.Load(), suspect
}

// HasRows tells whether rows are open on it, hasOnly whether these are the only ones that may be.
func (sc *Conn) HasRows() bool { return sc.open != nil }
func (sc *Conn) HasOnly(r *Rows) bool {
	return sc.open == nil || sc.open == r && r.below == nil
}

// OpenRows are the rows that are open, the last first. These may be closed meanwhile.
func (sc *Conn) OpenRows() iter.Seq[*Rows] {
	return func(yield func(*Rows) bool) {
		for r := sc.open; r != nil; {
			below := r.below
			if !yield(r) {
				return
			}
			r = below
		}
	}
}

// LimitStatements tells the server to end statements after d, if it can be told and was told
// another limit.
func (sc *Conn) LimitStatements(ctx context.Context, d time.Duration) error {
	limit := sc.cfg.Engine.LimitStatements
	if limit == nil || sc.cfg.TxPooler || sc.statementTimeout == d { // a session that is others' too is told nothing
		return nil
	}
	if err := limit(ctx, sc, d); err != nil {
		return err
	}
	sc.statementTimeout = d
	return nil
}

// add and remove keep the list of the rows that are open.
func (sc *Conn) add(r *Rows) { r.server, r.below, sc.open = sc, sc.open, r }

func (sc *Conn) remove(r *Rows) {
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
func (sc *Conn) Prepare(query string) (driver.Stmt, error) {
	return sc.PrepareContext(context.Background(), query)
}

// Begin implements [driver.Conn].
func (sc *Conn) Begin() (driver.Tx, error) {
	return sc.BeginTx(context.Background(), driver.TxOptions{})
}
