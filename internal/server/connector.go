package server

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
	"github.com/calmdocs/dblocker/internal/rwlock"
)

var (
	_ driver.Connector = (*Connector)(nil)
	_ io.Closer        = (*Connector)(nil)
)

// A Host has the pool of a connector, and knows what is around its connections: a gate, files that
// they have attached, how to say what went wrong.
type Host interface {
	// Connect calls connect when a connection may be opened, and tells whether it is beside others.
	// Disconnect is the same for one that is to be closed.
	Connect(ctx context.Context, w rwlock.Wait, connect func(beside bool) error) error
	Disconnect(disconnect func() error) error

	// LeaveOpening is called if the one who waits for a connection leaves before it is opened. It returns
	// what is to be called then.
	LeaveOpening() (opened func())

	SetUp(ctx context.Context, sc *Conn, beside bool) error // a new connection, before all else
	Drawn()                                                 // a new connection is
	Closing()                                               // a connection is about to be closed
	Closed(sc *Conn)

	ExplainConnect(err error) error            // of the inner driver
	ExplainTimeout(waited time.Duration) error // of its Connect
}

// A Connector makes the connections of the inner pool.
type Connector struct {
	Inner  driver.Connector
	Config Config
	Host   Host
	Schema *atomic.Int64 // counts the changes of the schema of the database

	Wait    rwlock.Wait   // of the host's Connect
	Timeout time.Duration // of the inner driver's Connect
	Limited bool          // the number of connections is
	IsLocal bool          // to open one asks no server: SQLite, with a DSN that is known

	opened atomic.Pointer[Conn] // what the next Connect returns, instead of a new one; else nil

	stmts Stmts // of all its connections

	warnOfPooler sync.Once
}

// dial makes a connection of the inner driver.
func (c *Connector) dial(ctx context.Context) (driver.Conn, error) {
	ci, err := c.Inner.Connect(ctx)
	if err != nil {
		return nil, c.Host.ExplainConnect(err)
	}
	return ci, nil
}

// Connect implements [driver.Connector]. The inner pool, which calls it, would go on to count
// a connection that a panic keeps from being made: so that is an error here, see Raise.
func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) {
	if sc := c.opened.Swap(nil); sc != nil {
		return sc, nil
	}
	if ctx.Value(idleOnly{}) != nil {
		return nil, errNoneIdle
	}
	open := func(ctx context.Context) (*Conn, error) { return c.Open(ctx, c.Wait, c.setUp) }
	var sc *Conn
	var err error
	if c.dialsHere(ctx) {
		if panicked := c.Config.contain(func() { sc, err = open(ctx) }); panicked != nil {
			return nil, panicked
		}
	} else {
		sc, err = awaitDial(ctx, c.Config.Logger, c.Timeout, c.Host, open)
	}
	if err != nil {
		return nil, err
	}
	return sc, nil
}

// closeOpened closes what no Connect has returned.
func (c *Connector) closeOpened() {
	if sc := c.opened.Swap(nil); sc != nil {
		sc.Close()
	}
}

// dialsHere tells whether to open a connection on the caller's goroutine, which is cheaper: a
// SQLite file that nobody can leave waiting for. What it takes is bounded by SQLite's
// busy timeout, and to count a connection too many does no harm where there is no limit.
func (c *Connector) dialsHere(ctx context.Context) bool {
	return c.IsLocal && ctx.Done() == nil && !c.Limited
}

// Open makes a server connection, and lets setUp prepare it for its work.
func (c *Connector) Open(ctx context.Context, w rwlock.Wait, setUp func(ctx context.Context, sc *Conn, beside bool) error) (*Conn, error) {
	if c.Config.Opened == nil {
		return c.open(ctx, w, setUp)
	}
	began := time.Now()
	sc, err := c.open(ctx, w, setUp)
	took := time.Since(began)
	if err == nil {
		sc.born = began.Add(took)
	}
	c.Config.Opened(took, err)
	return sc, err
}

func (c *Connector) open(ctx context.Context, w rwlock.Wait, setUp func(ctx context.Context, sc *Conn, beside bool) error) (*Conn, error) {
	var sc *Conn
	err := c.Host.Connect(ctx, w, func(beside bool) error {
		ci, err := c.dial(ctx)
		if err != nil {
			return err
		}
		sc = NewConn(ci, &c.Config)
		sc.host = c.Host
		ready := false
		defer func() {
			if !ready { // also when the inner driver panics
				sc.Close()
			}
		}()
		if err := setUp(ctx, sc, beside); err != nil {
			return err
		}
		sc.counted, ready = true, true
		return nil
	})
	if err != nil {
		return nil, err
	}
	return sc, nil
}

// setUp prepares a connection for the inner pool.
func (c *Connector) setUp(ctx context.Context, sc *Conn, beside bool) error {
	sc.schema = c.Schema
	if err := c.Host.SetUp(ctx, sc, beside); err != nil {
		return err
	}
	if c.Config.StatementTimeout > 0 {
		if err := sc.LimitStatements(ctx, c.Config.StatementTimeout); err != nil {
			return fmt.Errorf("dblocker: setting statement_timeout on a new connection: %w", err)
		}
	}
	if identify := c.Config.Engine.Identify; identify != nil && c.Config.CancelGrace > 0 && !c.Config.TxPooler {
		// A server that cannot tell is no worse than the bare driver.
		var err error
		if sc.Peer, err = identify(ctx, sc); err != nil && ctx.Err() != nil {
			return err
		}
	}
	if c.Config.StmtCache > 0 && !c.Config.TxPooler {
		if err := c.keepStmts(ctx, sc); err != nil {
			return err
		}
	}
	return nil
}

// keepStmts lets a new connection keep statements. Behind a pooler that may run
// each transaction on another server connection, what lib/pq calls statement 1 may be
// anybody's: there none are kept, unless the program has asked for it by the option.
func (c *Connector) keepStmts(ctx context.Context, sc *Conn) error {
	sc.keepFrom = NeverKeep
	if from := c.Config.Engine.KeepFrom; from != nil {
		sc.keepFrom = from(sc.ci)
	}
	if isPooled := c.Config.Engine.IsPooled; isPooled != nil && sc.keepFrom != NeverKeep && !c.Config.StmtCacheSet && !c.Config.SessionPooler {
		pooled, err := isPooled(ctx, sc)
		if pooled && err == nil {
			c.warnOfPooler.Do(func() {
				c.Config.Logger.Warn("dblocker: there seems to be a connection pooler between this program and the server, so prepared statements " +
					"are not kept; say so with stmt_cache=0, or, if it serves each client by one server connection, keep them with stmt_cache=64")
			})
		}
		if pooled || err != nil {
			return ctx.Err() // a server that cannot tell is taken for pooled
		}
	}
	sc.cache.size, sc.cache.maxAge, sc.cache.sum = c.Config.StmtCache, c.Config.Engine.KeepsFor, &c.stmts
	return nil
}

func (c *Connector) Driver() driver.Driver { return c.Inner.Driver() }

func (c *Connector) Close() error { return drivers.Close(c.Inner) }
