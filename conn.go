package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"

	"github.com/calmdocs/dblocker/internal/rwlock"
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
// is one session on the server.
//
// database/sql calls its methods one at a time. Only the end of a wait (the lock
// table) and the end of a Tx by its context (database/sql, which then has the
// mutex) come from other goroutines.
type conn struct {
	db   *Connector
	pool *pool // whose shared parts it retains until Close

	drawn draw        // has no sc unless a server connection is drawn
	slot  rwlock.Hold // held while it is, if their number is limited
	stmts []*stmt     // those with an inner statement on it

	tx   *tx         // the open transaction, or nil
	leaf rwlock.Hold // of the Exec that is running

	// spent means that the connection has returned a Result. Its methods lock
	// the connection even after it went back to database/sql's pool. If the next
	// to use it then waited for a lock of the one who still reads the Result,
	// neither would ever get on: so it is not used again.
	spent bool
}

// Ping implements [driver.Pinger]. It takes no user's lock.
func (c *conn) Ping(ctx context.Context) error {
	return c.onServer(ctx, func(sc *serverConn) error { return sc.Ping(ctx) })
}

// ExecContext implements [driver.ExecerContext].
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.exec(ctx, func(ctx context.Context, sc *serverConn) (driver.Result, error) {
		return sc.ExecContext(ctx, query, args)
	})
}

// exec runs call under an exclusive lock, on a server connection.
func (c *conn) exec(ctx context.Context, call func(context.Context, *serverConn) (driver.Result, error)) (driver.Result, error) {
	if err := c.lock(ctx, &c.leaf, rwlock.Leaf, Exclusive); err != nil {
		return nil, err
	}
	defer c.leaf.Release()
	ctx, cancel := c.db.limitStatement(ctx)
	if cancel != nil {
		defer cancel()
	}
	var res driver.Result
	err := c.onServer(ctx, func(sc *serverConn) (err error) {
		res, err = call(ctx, sc)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.spent = true
	return readResult(res), nil
}

// QueryContext implements [driver.QueryerContext].
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.query(ctx, query, func(ctx context.Context, sc *serverConn) (driver.Rows, error) {
		return sc.QueryContext(ctx, query, args)
	})
}

// query runs call, on a server connection, under the lock that the text of the
// statement asks for. The rows take the lock with them.
func (c *conn) query(ctx context.Context, text string, call func(context.Context, *serverConn) (driver.Rows, error)) (driver.Rows, error) {
	r := new(rows)
	if err := c.lock(ctx, &r.hold, rwlock.Rows, c.db.modeOf(text)); err != nil {
		return nil, err
	}
	opened := false
	defer func() {
		if !opened { // also when the inner driver panics
			r.release()
		}
	}()
	ctx, r.done = c.db.limitStatement(ctx)
	err := c.onServer(ctx, func(sc *serverConn) (err error) {
		r.Rows, err = call(ctx, sc)
		return err
	})
	if err != nil {
		return nil, err
	}
	opened = true
	return r.public(), nil
}

// PrepareContext implements [driver.ConnPrepareContext]. It takes no user's lock.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	s := &stmt{conn: c, query: query}
	err := c.onServer(ctx, func(sc *serverConn) error {
		_, err := s.on(ctx, sc)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// BeginTx implements [driver.ConnBeginTx].
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	t := &tx{conn: c, outer: c.tx, readOnly: opts.ReadOnly}
	mode := Exclusive
	if opts.ReadOnly {
		mode = Shared
	}
	if err := c.lock(ctx, &t.hold, rwlock.Tx, mode); err != nil {
		return nil, err
	}
	t.tagged = t.hold.Held()
	defer func() {
		if t.Tx == nil { // also when the inner driver panics
			t.release()
		}
	}()
	err := c.onServer(ctx, func(sc *serverConn) (err error) {
		t.Tx, err = sc.BeginTx(ctx, opts)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.tx = t
	return t, nil
}

// Raw implements [RawConn].
func (c *conn) Raw(f func(driverConn any) error) error {
	if err := c.draw(context.Background()); err != nil {
		return err
	}
	return f(c.drawn.sc.ci)
}

// onServer runs call on the server connection that c has, or else on one that it
// draws. After a restart of the server the pool may be full of stale connections,
// more than database/sql has tries; those that turn out so before they did any
// work are replaced while the lock is held.
func (c *conn) onServer(ctx context.Context, call func(*serverConn) error) error {
	if sc := c.drawn.sc; sc != nil {
		if sc.broken { // as database/sql, which would no longer let it be used
			return driver.ErrBadConn
		}
		return call(sc)
	}
	for tries := 0; ; tries++ {
		if err := c.draw(ctx); err != nil {
			return err
		}
		mayBeStale := c.drawn.sc.used
		c.drawn.sc.used = true
		err := c.first(call)
		if !errors.Is(err, driver.ErrBadConn) || !mayBeStale || tries >= c.db.limits.maxIdleConns {
			return err
		}
		c.discard()
	}
}

// first runs the call that a server connection was drawn for. If the inner driver
// panics there, database/sql may forget the client connection, so the server
// connection is closed here.
func (c *conn) first(call func(*serverConn) error) error {
	returned := false
	defer func() {
		if !returned {
			c.discard()
		}
	}()
	err := call(c.drawn.sc)
	returned = true
	return err
}

// draw makes sure that c has a server connection.
func (c *conn) draw(ctx context.Context) error {
	if c.drawn.sc != nil {
		return nil
	}
	var err error
	c.drawn, err = c.pool.draw(ctx, &c.slot, c.db.wait())
	return c.db.connectError(err)
}

// giveBack returns the server connection, if any, to the inner pool.
func (c *conn) giveBack() { c.undraw(draw.giveBack) }

// discard closes the server connection, if any.
func (c *conn) discard() { c.undraw(draw.discard) }

func (c *conn) undraw(end func(draw)) {
	if c.drawn.sc == nil {
		return
	}
	defer c.slot.Release()
	for _, s := range slices.Clone(c.stmts) {
		s.Close()
	}
	d := c.drawn
	c.drawn = draw{}
	end(d)
}

// ResetSession implements [driver.SessionResetter]. The inner pool resets server
// connections when they are drawn.
func (c *conn) ResetSession(context.Context) error { return nil }

// IsValid implements [driver.Validator]. database/sql asks when it takes the
// connection back into its pool: the moment at which the session ends.
func (c *conn) IsValid() bool {
	c.giveBack()
	return !c.spent
}

// Close implements [driver.Conn]. A connection that still has its server
// connection is closed because that one is bad.
func (c *conn) Close() error {
	for c.tx != nil {
		c.tx.release()
	}
	c.discard()
	if c.pool != nil {
		c.pool.release()
		c.pool = nil
	}
	return nil
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
