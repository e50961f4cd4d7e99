package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/leftovers"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/outerpool"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/seen"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A Connector is one handle on a database: what [sql.OpenDB] makes a sql.DB of.
// It is opened by its first Connect and closed for good by Close.
type Connector struct {
	handle
	driver *Driver
	inner  driver.Connector
	dsn    *string // nil if it is not known

	mu      sync.Mutex       // guards backend, and the closing of closed; no connection is opened or closed under it
	backend *backend.Backend // set by the first Connect

	tenancy *tenancy // of a handle with a database for each user; else nil
}

func newConnector(d Driver, cfg *config, inner driver.Connector, dsn *string) *Connector {
	c := &Connector{driver: &d, inner: inner, dsn: dsn}
	c.handle = handle{
		config:    cfg,
		connector: c,
		texts:     sqltext.CacheOf(cfg.engine.Text, dsn != nil && cfg.engine.HidesBackslashes != nil && cfg.engine.HidesBackslashes(*dsn)),
		closed:    make(chan struct{}),

		copiesRows:   !slices.Contains(drivers.FreshRows, drivers.Package(d.opened)),
		plainValuers: slices.Contains(drivers.PlainValuers, drivers.Package(d.opened)),
	}
	c.rows.SkipsNoSet = slices.Contains(drivers.EndedSets, drivers.Package(d.opened))
	c.rows.CloseTells = cfg.engine.CloseTells
	c.driver.handle = c
	c.slow = c.tellSlow
	c.observe()
	c.outer.Logger = cfg.logger
	return c
}

// Driver implements [driver.Connector]. It returns our driver, so that wrappers
// can be stacked; its Unwrap gives the inner one.
func (c *Connector) Driver() driver.Driver { return c.driver }

// Connect returns a client connection, which costs nothing on the server. It
// does not look at the context: when a sql.DB is full, another caller's
// connection may be made here.
func (c *Connector) Connect(context.Context) (driver.Conn, error) {
	if c.tenancy != nil {
		return c.tenancy.connect()
	}
	b, err := c.retainBackend()
	if err != nil {
		return nil, err
	}
	c.outer.Opened()
	cn := c.newConn(b)
	if cn.mayNeedCalled() {
		cn.called = callers.Taker()
	}
	return cn, nil
}

// newConn returns a client connection that has the backend, which is retained for it.
func (c *Connector) newConn(b *backend.Backend) *conn {
	cn := &conn{db: &c.handle, backend: b}
	cn.resident.Conn = (*sweptConn)(cn)
	cn.noteTaken()
	return cn
}

// retainBackend returns the pool, which it makes if there is none, and whose shared parts it
// retains for the caller.
func (c *Connector) retainBackend() (*backend.Backend, error) {
	if c.tenancy != nil {
		return c.tenancy.retainNobody()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closed:
		return nil, errClosed
	default:
	}
	if c.backend == nil {
		b, err := c.open()
		if err != nil {
			return nil, err
		}
		c.backend = b
	}
	c.backend.Retain()
	return c.backend, nil
}

// open opens what the handle is of. It opens no connection.
func (c *Connector) open() (*backend.Backend, error) {
	return c.openAs(backend.Config{Inner: c.inner, DSN: c.dsn, Limits: c.limits})
}

// openAs opens what cfg says, with the options of the handle.
func (c *Connector) openAs(cfg backend.Config) (*backend.Backend, error) {
	b, err := backend.Open(backend.Config{
		Inner:     cfg.Inner,
		Driver:    c.driver.Unwrap(),
		DSN:       cfg.DSN,
		Lockspace: c.lockspace,
		Pattern:   cfg.Pattern,
		User:      cfg.User,
		Slots:     cfg.Slots,
		Room:      cfg.Room,
		Reaches:   c.lockScope == DatabaseScope,
		GroupSync: c.durability == GroupDurability,

		Servers: c.toldServers(),
		Limits:  cfg.Limits,

		LockTimeout: c.lockTimeout,
		ConnTimeout: c.connTimeout,
		SelfWait:    c.selfWait,
		Closed:      c.closed,

		ExplainConns:   connsError,
		ExplainDial:    cfg.ExplainDial,
		ExplainTimeout: dialTimeout,
	})
	if err != nil {
		return nil, err
	}
	b.Combining.Texts, b.Combining.Logger, b.Combining.Users = c.texts, c.logger, b.Users
	b.Combining.Longest, b.Combining.Long = longestLead, longCall
	c.observeBackend(b)
	return b, nil
}

// forServers is what server connections know of the options.
func (c *config) forServers() server.Config {
	return server.Config{
		Engine:           c.engine,
		Logger:           c.logger,
		StatementTimeout: c.statementTimeout,
		CancelGrace:      c.cancelGrace,
		StmtCache:        c.stmtCache,
		StmtCacheSet:     c.stmtCacheSet,
		LockReaders:      c.lockReaders,
		SessionPooler:    c.pooler == SessionPooler,
		TxPooler:         c.isPooled(),
	}
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
	b := c.backend
	c.mu.Unlock() // to close connections may take as long as a server wants
	if c.tenancy != nil {
		c.tenancy.close()
	}
	if b == nil {
		return drivers.Close(c.inner)
	}
	return b.Close()
}

// lockTable returns the users' locks of an open handle; nil if it has not been used yet.
func (c *Connector) lockTable() *locks.Table {
	if c.tenancy != nil {
		return c.tenancy.lockTable()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.backend == nil {
		return nil
	}
	return c.backend.Users
}

// connectorOf finds the Connector behind a handle, and the section that the handle is
// bound to, if it is one of a Store. It draws no server connection.
func connectorOf(ctx context.Context, db Handle) (c *Connector, bound *section, err error) {
	if x, ok := db.(*sqlx.DB); ok && x != nil && x.DB == nil || db == nil || isNilPointer(db) {
		return nil, nil, errors.New("dblocker: the database handle is nil; pass the *sql.DB or *sqlx.DB that was opened through dblocker")
	}
	if h, ok := db.(interface{ Driver() driver.Driver }); ok {
		if d, ok := h.Driver().(*Driver); ok && d.handle != nil {
			d.handle.outer.LookAt(db)
			return d.handle, d.bound, nil
		}
	}
	return connectorBehind(ctx, db)
}

func isNilPointer(id any) bool {
	v := reflect.ValueOf(id)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// connectorBehind looks at a connection of a handle whose driver is not ours, since
// that may be a wrapper around ours.
func connectorBehind(ctx context.Context, db Handle) (found *Connector, bound *section, err error) {
	dc, err := db.Conn(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer dc.Close()
	err = dc.Raw(func(ci any) error {
		for {
			switch c := ci.(type) {
			case *conn:
				found, bound = c.db.connector.(*Connector), c.bound
				return nil
			case *tenantConn:
				found = c.tenancy.c
				return nil
			case interface{ Raw() driver.Conn }:
				ci = c.Raw()
			case interface{ Unwrap() driver.Conn }:
				ci = c.Unwrap()
			default:
				return fmt.Errorf(`dblocker: the database was not opened through dblocker, or is wrapped so that its connections, which are %T, cannot be unwrapped; `+
					`open it with sql.Open("dblocker", ...), %s, and put dblocker outermost, with other wrappers between it and the driver`, ci, dsnExample)
			}
		}
	})
	if found != nil {
		found.outer.LookAt(db)
	}
	return found, bound, err
}

// A Handle is a database handle that was opened through dblocker: a *[sql.DB], a
// *sqlx.DB, or whatever else has their method. Of an ORM take the *sql.DB.
type Handle interface {
	Conn(ctx context.Context) (*sql.Conn, error)
}

// A handle is what the client connections of a Connector have in common, but for what it has open.
type handle struct {
	*config
	connector driver.Connector // the Connector
	texts     *sqltext.Cache
	calls     seen.Set      // places in the program that were warned of
	closed    chan struct{} // closed with the Connector

	leftovers leftovers.Place // empty while no test looks

	outer outerpool.Watch       // of the program's sql.DB
	slow  func(rwlock.SlowWait) // tellSlow, made once
	told  *rwlock.Told          // of holds; nil if nobody observes the handle

	tellsCalls bool // at the server, to who asks for it

	lockWaits, connWaits rwlock.WaitStats
	reachStats           reachStats
	sight                reachSight
	slowReach            slowReach
	spills, syncWaits    atomic.Int64

	rows server.HandleRows

	copiesRows   bool // whether the inner driver reuses the bytes of a row
	plainValuers bool // whether the inner driver leaves a driver.Valuer to database/sql
}

// wait is how the handle's operations wait for a user's lock.
func (c *handle) wait() rwlock.Wait {
	return rwlock.Wait{Timeout: c.lockTimeout, Self: c.selfWait, Closed: c.closed, Stats: &c.lockWaits, Slow: c.slow, Quiet: locks.Quiet}
}
