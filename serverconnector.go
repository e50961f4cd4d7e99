package dblocker

//lint:file-ignore SA1019 database/sql still obeys the deprecated interfaces of older drivers, and so do we.

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/mysql"
	"github.com/calmdocs/dblocker/internal/redact"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

var (
	_ driver.Connector = (*serverConnector)(nil)
	_ io.Closer        = (*serverConnector)(nil)
)

// serverConnector makes the connections of the inner pool.
type serverConnector struct {
	inner  driver.Connector
	cfg    *serverConfig
	dsn    *string       // nil if it is not known
	schema *atomic.Int64 // of the database
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
		return nil, redact.DialError(err, *c.dsn, mysql.ErrorNumber(err) != 0)
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
	_, isSQLite := c.inner.(*sqlite.Connector)
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
		sc.sqlite, _ = c.inner.(*sqlite.Connector)
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

func (c *serverConnector) Driver() driver.Driver { return c.inner.Driver() }

func (c *serverConnector) Close() error { return drivers.Close(c.inner) }
