package dblocker

import (
	"context"
	"database/sql/driver"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/mysql"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/seen"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A Connector is one handle on a database: what [sql.OpenDB] makes a sql.DB of.
// It is opened by its first Connect and closed for good by Close.
type Connector struct {
	*config
	driver *Driver
	inner  driver.Connector
	dsn    *string // nil if it is not known
	texts  *sqltext.Cache
	calls  seen.Set // places in the program that were warned of
	closed chan struct{}

	outer outerPool
	slow  func(rwlock.SlowWait) // tellSlow, made once

	lockWaits, connWaits rwlock.WaitStats
	spills               atomic.Int64

	rows handleRows

	copiesRows   bool // whether the inner driver reuses the bytes of a row
	plainValuers bool // whether the inner driver leaves a driver.Valuer to database/sql

	mu   sync.Mutex // guards pool, and the closing of closed; no connection is opened or closed under it
	pool *pool      // set by the first Connect
}

func newConnector(d Driver, cfg *config, inner driver.Connector, dsn *string) *Connector {
	c := &Connector{
		config: cfg,
		driver: &d,
		inner:  inner,
		dsn:    dsn,
		texts:  textsOf(cfg.dialect.text, dsn != nil && cfg.dialect == mysqlDialect && mysql.HidesBackslashes(*dsn)),
		closed: make(chan struct{}),

		copiesRows:   !slices.Contains(drivers.FreshRows, drivers.Package(d.opened)),
		plainValuers: slices.Contains(drivers.PlainValuers, drivers.Package(d.opened)),
	}
	c.rows.skipsNoSet = slices.Contains(drivers.EndedSets, drivers.Package(d.opened))
	c.rows.closeTells = cfg.dialect == postgresDialect || cfg.dialect == mysqlDialect
	c.driver.handle = c
	c.slow = c.tellSlow
	return c
}

// textsOf returns the cache of the judgements of a dialect's texts, which is one for all
// handles: a handle may be opened for one request.
func textsOf(d sqltext.Dialect, ascii bool) *sqltext.Cache {
	key := textsKey{d, ascii}
	c, ok := textCaches.Load(key)
	if !ok {
		newCache := sqltext.NewCache
		if ascii {
			newCache = sqltext.NewASCIICache
		}
		c, _ = textCaches.LoadOrStore(key, newCache(d))
	}
	return c.(*sqltext.Cache)
}

type textsKey struct {
	dialect sqltext.Dialect
	ascii   bool
}

// Driver implements [driver.Connector]. It returns our driver, so that wrappers
// can be stacked; its Unwrap gives the inner one.
func (c *Connector) Driver() driver.Driver { return c.driver }

// Connect returns a client connection, which costs nothing on the server. It
// does not look at the context: when a sql.DB is full, another caller's
// connection may be made here.
func (c *Connector) Connect(context.Context) (driver.Conn, error) {
	p, err := c.open()
	if err != nil {
		return nil, err
	}
	c.outer.noteOpened(c)
	cn := &conn{db: c, pool: p}
	cn.resident.Conn = (*sweptConn)(cn)
	return cn, nil
}

// open returns the pool, which it makes if there is none, and whose shared parts it
// retains for the caller.
func (c *Connector) open() (*pool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closed:
		return nil, errClosed
	default:
	}
	if c.pool == nil {
		p, err := newPool(c)
		if err != nil {
			return nil, err
		}
		c.pool = p
	}
	c.pool.retain()
	return c.pool, nil
}

// Close closes the handle: those who wait for a lock or a connection get
// "sql: database is closed", running calls finish.
func (c *Connector) Close() error {
	c.mu.Lock()
	select {
	case <-c.closed:
		c.mu.Unlock()
		return nil
	default:
	}
	close(c.closed)
	p := c.pool
	c.mu.Unlock() // to close connections may take as long as a server wants
	if p == nil {
		return drivers.Close(c.inner)
	}
	return p.close()
}

// wait is how the handle's operations wait for a user's lock.
func (c *Connector) wait() rwlock.Wait {
	return rwlock.Wait{Timeout: c.lockTimeout, Self: c.selfWait, Closed: c.closed, Stats: &c.lockWaits, Slow: c.slow, Quiet: locks.Quiet}
}

// lockTable returns the users' locks of an open handle; nil if it has not been used yet.
func (c *Connector) lockTable() *locks.Table {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pool == nil {
		return nil
	}
	return c.pool.users
}
