package dblocker

import (
	"context"
	"database/sql/driver"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

var (
	_ RawConn                   = (*conn)(nil)
	_ driver.Pinger             = (*conn)(nil)
	_ driver.ConnPrepareContext = (*conn)(nil)
	_ driver.ConnBeginTx        = (*conn)(nil)
	_ driver.ExecerContext      = (*conn)(nil)
	_ driver.QueryerContext     = (*conn)(nil)
	_ driver.NamedValueChecker  = (*conn)(nil)
	_ driver.SessionResetter    = (*conn)(nil)
	_ driver.Validator          = (*conn)(nil)
)

// A RawConn is what [sql.Conn.Raw] passes to its callback for a handle opened
// through dblocker.
type RawConn interface {
	driver.Conn

	// Raw calls f with the connection of the inner driver. What f does is behind
	// no user's lock.
	Raw(f func(driverConn any) error) error
}

// A conn is a client connection: what database/sql holds of us. It costs nothing
// until an operation draws a server connection, which happens once the operation
// has its lock. From then on it keeps that one until database/sql takes it back
// (IsValid) or throws it away (Close), so a session on a sql.Conn, a Tx or Rows
// is one session on the server. (A connection that was drawn to prepare a
// statement goes back when the statement then has to wait for a lock.)
//
// database/sql calls its methods one at a time. Only the end of a wait (the lock
// table) and the end of a Tx by its context (database/sql, which then has the
// mutex) come from other goroutines; and the end of a section, which mu keeps apart
// from the calls.
type conn struct {
	db    *Connector
	pool  *pool    // whose shared parts it retains until Close
	bound *section // that all its work is inside; nil if it is as each context says

	mu   sync.Mutex  // held during each call; guards what follows
	due  atomic.Bool // a section has ended that may have left something open here
	gone bool        // bound has ended
	lent bool        // Raw shows the inner connection to the program

	life     membership // in bound, while there may be something to close
	attached membership // in the section of drawn.pin
	using    *pin       // whose turn the call has; else nil
	visit    membership // in the section of using, while the call lasts

	drawn draw        // has no sc unless a server connection is drawn
	slot  rwlock.Hold // held while it is, if their number is limited
	stmts []*stmt     // those with an inner statement on it

	scope *scope   // the innermost open transaction, or nil
	raw   *rawTx   // the one that is written in SQL, or nil
	leaf  userHold // of the Exec that is running

	// busy means that the drawn connection has done more than to prepare
	// statements and to answer pings, so that it cannot be exchanged for another.
	busy usage

	// changesSchema means that a statement of the open transaction does: others see
	// it when that has ended.
	changesSchema bool

	// spent means that the connection has returned a Result. Its methods lock
	// the connection even after it went back to database/sql's pool. If the next
	// to use it then waited for a lock of the one who still reads the Result,
	// neither would ever get on: so it is not used again.
	spent bool

	pooled bool // database/sql has it in its pool, or is about to close it
}

// Ping implements [driver.Pinger]. It takes no user's lock.
func (c *conn) Ping(ctx context.Context) error {
	if err := c.enterFor(ctx); err != nil {
		return err
	}
	defer c.leave()
	if err := c.passGate(ctx, &c.leaf); err != nil {
		return err
	}
	defer c.leaf.release()
	return c.onServer(ctx, idle, func(sc *serverConn) error { return sc.Ping(ctx) })
}

// ExecContext implements [driver.ExecerContext].
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.exec(ctx, nil, query, args)
}

// exec executes a statement, prepared as s or else given as text, under an exclusive
// lock, on a server connection.
func (c *conn) exec(ctx context.Context, s *stmt, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.enterFor(ctx); err != nil {
		return nil, err
	}
	defer c.leave()
	statement, raw, err := c.admit(ctx, query, &c.leaf, rwlock.Leaf)
	if err != nil {
		return nil, err
	}
	defer c.release(&c.leaf)
	defer func() { c.settle(raw, statement, err) }()
	ctx, limit := c.limitStatement(ctx)
	defer limit.end()
	var res driver.Result
	snd := c.sending(statement, query, args)
	err = c.onServer(ctx, busy, func(sc *serverConn) (err error) {
		if err := raw.guard(ctx, sc); err != nil {
			return err
		}
		if s != nil {
			res, err = s.exec(ctx, sc, &snd)
		} else {
			res, err = sc.exec(ctx, &snd)
		}
		return err
	})
	c.noteEffects(&snd)
	c.pool.gate.afterStatement(ctx, c.drawn.sc, statement, query)
	if err != nil {
		return nil, limit.explain(c.scopeOnServer().explainReadOnly(err))
	}
	c.spent = true
	return readResult(res), nil
}

func (c *conn) sending(st sqltext.Statement, query string, args []driver.NamedValue) sending {
	return sending{st, query, args, c.scopeOnServer() != nil}
}

// admit takes the lock for a statement: into h, which is a leaf for an Exec and
// rows for a Query, or for the transaction that the statement may begin, raw.
func (c *conn) admit(ctx context.Context, text string, h *userHold, kind rwlock.Kind) (st sqltext.Statement, raw *rawTx, err error) {
	st = c.db.texts.Classify(text)
	if err := c.settleEnded(st); err != nil {
		return st, nil, err
	}
	c.forgetLost(st)
	if err := c.refusal(ctx, st); err != nil {
		return st, nil, err
	}
	if err := c.clearConnection(ctx, st); err != nil {
		return st, nil, err
	}
	if raw, err = c.beginRaw(ctx, st); raw != nil || err != nil {
		return st, raw, err
	}
	mode := Exclusive
	if kind == rwlock.Rows {
		mode = modeOf(st)
	}
	req := request{kind: kind, mode: mode, session: st.Kind == sqltext.Session}
	if err := c.lock(ctx, h, req); err != nil {
		return st, nil, err
	}
	h.makeWay(writesRows(st))
	if err := c.clearDatabase(ctx, h, req, st, text); err != nil {
		h.release()
		return st, nil, err
	}
	return st, c.mayBeginRaw(st, h), nil
}

// QueryContext implements [driver.QueryerContext].
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.query(ctx, nil, query, args)
}

// query runs a query, prepared as s or else given as text, on a server connection,
// under the lock that the text asks for. The rows take the lock with them.
func (c *conn) query(ctx context.Context, s *stmt, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.enterFor(ctx); err != nil {
		return nil, err
	}
	defer c.leave()
	r := &rows{conn: c}
	statement, raw, err := c.admit(ctx, query, &r.hold, rwlock.Rows)
	if err != nil {
		return nil, err
	}
	r.inside = r.hold.inside.section
	r.guarded = r.inside != nil || c.scope.isInside()
	snd := c.sending(statement, query, args)
	r.writes = statement.Kind != sqltext.Read
	if !r.writes && r.hold.gate.Held() {
		mode, _ := modeFrom(ctx, Shared)
		r.writes = mode == Exclusive
	}
	opened := false
	defer func() {
		if !opened { // also when the inner driver panics
			c.settle(raw, statement, err) // while the rows have their lock
			r.release()
		}
	}()
	ctx, r.limit = c.limitStatement(ctx)
	err = c.onServer(ctx, busy, func(sc *serverConn) (err error) {
		if err := raw.guard(ctx, sc); err != nil {
			return err
		}
		if s != nil {
			r.Rows, err = s.query(ctx, sc, &snd)
		} else {
			r.Rows, r.kept, err = sc.query(ctx, &snd)
		}
		return err
	})
	c.noteEffects(&snd)
	c.pool.gate.afterQuery(ctx, r, statement, query)
	if err != nil {
		return nil, r.limit.explain(c.scopeOnServer().explainReadOnly(err))
	}
	c.drawn.sc.add(r)
	c.settleRows(r, raw, statement)
	opened = true
	if r.hold.passed != nil {
		c.pool.walReader.note()
	}
	r.copies = c.db.copiesRows && (r.hold.owner != nil || c.pool.gate != nil)
	if r.hold.owner != nil && (r.hold.Held() || r.hold.gate.Held()) {
		r.hold.owner.add(r)
	}
	return r.public(), nil
}

// settle finds out what a statement that has been executed, or has failed with
// err, did to the transaction that it ran in, or began: raw is what beginRaw or
// mayBeginRaw returned for it.
func (c *conn) settle(raw *rawTx, st sqltext.Statement, err error) {
	if s := c.scopeOnServer(); s != nil {
		s.noticeLoss(st, err)
	}
	c.settleRaw(raw, st, err)
}

// settleRows is settle for a statement with rows.
func (c *conn) settleRows(r *rows, raw *rawTx, st sqltext.Statement) {
	switch {
	case raw != nil && raw.from != nil:
		c.settleRaw(raw, st, nil) // while the rows have their lock
	case raw != nil || c.raw != nil:
		// Some drivers execute the statement no earlier than its rows are read.
		r.onClose(func() { c.settleRaw(raw, st, nil) })
	}
}

// PrepareContext implements [driver.ConnPrepareContext]. It takes no user's lock.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.enterFor(ctx); err != nil {
		return nil, err
	}
	defer c.leave()
	if err := c.passGate(ctx, &c.leaf); err != nil {
		return nil, err
	}
	defer c.leaf.release()
	s := &stmt{conn: c, text: query}
	snd := c.sending(c.db.texts.Classify(query), query, nil)
	err := c.onServer(ctx, idle, func(sc *serverConn) error {
		_, err := s.on(ctx, sc, &snd)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// BeginTx implements [driver.ConnBeginTx].
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.enterFor(ctx); err != nil {
		return nil, err
	}
	defer c.leave()
	if err := c.clearConnection(ctx, sqltext.Statement{Kind: sqltext.Begin}); err != nil {
		return nil, err
	}
	t := new(tx)
	if err := t.begin(ctx, c, rwlock.Tx, opts.ReadOnly); err != nil {
		return nil, err
	}
	opts.ReadOnly = opts.ReadOnly || t.inShared && c.db.dialect.bindsReadOnly()
	defer func() {
		if t.Tx == nil { // also when the inner driver panics
			t.release()
		}
	}()
	err := c.onServer(ctx, busy, func(sc *serverConn) (err error) {
		t.Tx, err = sc.BeginTx(ctx, opts)
		return err
	})
	if err != nil {
		return nil, err
	}
	t.tx = t.Tx
	t.open()
	return t, nil
}

// Raw implements [RawConn].
func (c *conn) Raw(f func(driverConn any) error) error {
	sc, err := c.lend()
	if err != nil {
		return err
	}
	defer func() {
		c.lockCall()
		c.lent = false
		c.leave()
	}()
	return f(sc.ci)
}

// lend draws a server connection for Raw, whose callback may call c again.
func (c *conn) lend() (*serverConn, error) {
	if err := c.enterFor(context.Background()); err != nil {
		return nil, err
	}
	defer c.leave()
	if err := c.drawForRaw(); err != nil {
		return nil, err
	}
	c.busy, c.lent = true, true
	return c.drawn.sc, nil
}

// drawForRaw passes the gate while a new connection may read the schema.
func (c *conn) drawForRaw() error {
	ctx := context.Background()
	if c.drawn.sc != nil {
		return nil
	}
	if err := c.passGate(ctx, &c.leaf); err != nil {
		return err
	}
	defer c.leaf.release()
	return c.draw(ctx)
}

// wait is how operations on c wait for a user's lock.
func (c *conn) wait() rwlock.Wait {
	w := c.db.wait()
	if c.bound != nil {
		w.Closed = c.bound.done
	}
	return w
}

// release ends what an operation holds, or leaves it to a lost session.
func (c *conn) release(h *userHold) {
	c.leaveToLost(h)
	h.release()
}

// leaveToLost moves the grant of h to the connection's session, if that has lost
// its connection: the server may still be at work under it.
func (c *conn) leaveToLost(h *userHold) {
	if sc := c.drawn.sc; sc != nil && sc.open == nil && sc.lost() {
		c.pool.orphans.adopt(sc.session, h)
	}
}

// ResetSession implements [driver.SessionResetter]. The inner pool resets server
// connections when they are drawn; here is one only if IsValid has kept it.
func (c *conn) ResetSession(ctx context.Context) error {
	c.lockCall()
	defer c.leave()
	c.pooled = false
	if c.drawn.sc != nil {
		return c.drawn.sc.ResetSession(ctx)
	}
	return nil
}

// IsValid implements [driver.Validator]. database/sql asks when it takes the
// connection back into its pool: the moment at which the session ends.
func (c *conn) IsValid() bool {
	c.lockCall()
	defer c.leave()
	if c.keepRaw() {
		return c.drawn.sc.IsValid()
	}
	c.endScopes()
	c.giveBack()
	c.pooled = !c.spent && !c.gone
	return c.pooled
}

// Close implements [driver.Conn]. A connection that still has its server
// connection is closed because that one is bad.
func (c *conn) Close() error {
	c.lockCall()
	defer c.leave()
	if c.pooled {
		c.db.outer.noteClosed(c.db)
	}
	for s := c.scope; s != nil; s = s.outer {
		s.leaveToLost()
	}
	c.discard()
	c.endScopes()
	c.life.leave()
	if c.pool != nil {
		c.pool.release()
		c.pool = nil
		c.db.outer.open.Add(-1)
	}
	return nil
}

// endScopes ends transactions that were not ended in their order, or not at all.
func (c *conn) endScopes() {
	for c.scope != nil {
		c.scope.release()
	}
	c.raw = nil
}

// CheckNamedValue implements [driver.NamedValueChecker]; server connections
// convert the arguments.
func (c *conn) CheckNamedValue(nv *driver.NamedValue) error { return acceptAll(nv) }

// Prepare implements [driver.Conn].
func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// Begin implements [driver.Conn].
func (c *conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}
