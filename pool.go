package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/lost"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

// A pool is the server connections of an open handle, and the locks in front of
// them.
type pool struct {
	connector *serverConnector
	inner     innerPool
	slots     *rwlock.Lock // one for each connection that may be drawn; nil: no limit
	database  *database    // that the handle has open
	lockspace *database    // whose locks it uses
	users     *locks.Table // of that
	gate      *gate.Gate   // of that database; nil if the handle needs none
	readOnly  bool         // the handle cannot write, so it passes the gate as a reader
	leaveGate func()       // of the database, where it is a visitor

	attached attachments // the files that connections have attached

	walReader *sqlite.WALReader // nil if there is to be none

	connected atomic.Bool // the first connection has been drawn, or is being opened

	lost *lost.Sessions // what lost connections have left on the server
}

const slotsNamePrefix = "one of the server connections that are allowed by max_open_conns"

func newPool(c *Connector) (*pool, error) {
	var p pool
	library := drivers.Package(c.driver.Unwrap())
	database, err := c.openDatabase(library)
	if err != nil {
		return nil, err
	}
	p.database, p.lockspace = database, database
	if c.lockspace != "" {
		if p.lockspace, err = openDatabase("lockspace:"+c.lockspace, ""); err != nil {
			database.release()
			return nil, err
		}
	} else {
		database.retain() // as lockspace, for close to be the same
	}
	p.users = p.lockspace.users
	p.useGate(c.dialect, c.inner)
	limits := c.limits
	p.connector = &serverConnector{inner: c.inner, cfg: &c.serverConfig, dsn: c.dsn, schema: &database.schema, gate: p.gate,
		timeout: max(c.connTimeout, c.selfWait), limited: limits.maxOpenConns > 0}
	if isPgxPool(c.inner) {
		limits.maxIdleConns, p.connector.timeout = 0, c.connTimeout
	}
	_, isSQLite := c.inner.(*sqlite.Connector)
	if isSQLite && p.gate != nil { // another may wait for what we close
		p.connector.conns = &p.gate.Conns
		p.connector.wait = rwlock.Wait{Timeout: max(c.lockTimeout, c.selfWait), Closed: c.closed}
	}
	p.attached.pool = &p
	p.connector.attached = &p.attached
	p.connector.opensAttached = p.gate != nil && sqlite.OpensAttached(c.driver.Unwrap())
	p.useWALReader(c.config, c.dsn)
	p.lost = lost.New((*lostServer)(&p), p.users, c.cancelGrace, c.logger)
	p.inner.connector, p.inner.limits = p.connector, limits
	if !isSQLite || !limits.mayBeLone() {
		p.inner.db()
	}
	if limits.maxOpenConns > 0 {
		p.slots = rwlock.NewLock(fmt.Sprintf("%s=%d", slotsNamePrefix, limits.maxOpenConns), limits.maxOpenConns)
	}
	p.leaveGate = database.gate.Register(&p)
	return &p, nil
}

// openDatabase returns the handle's database, which it retains for the pool.
func (c *Connector) openDatabase(library string) (*database, error) {
	if s, ok := c.inner.(*sqlite.Connector); ok {
		if path := s.Path(); path != "" {
			return openFile(path, library)
		}
	}
	return openDatabase(c.databaseID(library), library)
}

// databaseID is the identity that the handles on one database have in common,
// or "" if it is not known.
func (c *Connector) databaseID(library string) string {
	if c.dsn == nil {
		return ""
	}
	dsn := *c.dsn
	if s, ok := c.inner.(*sqlite.Connector); ok {
		dsn = s.GivenDSN()
	}
	id := c.dialect.database(dsn)
	if id == "" {
		return ""
	}
	if c.dialect == generic || sqlite.InMemory(id) {
		id += " of " + library // nothing that another driver could open
	}
	return c.dialect.name + ":" + id
}

// retain keeps what handles share for as long as a client connection lives, which
// may be longer than its handle. The caller has a reference already, so it cannot
// be gone.
func (p *pool) retain() {
	p.database.retain()
	p.lockspace.retain()
}

func (p *pool) release() {
	p.database.release()
	p.lockspace.release()
}

func (p *pool) close() error {
	defer p.release()
	p.leaveGate()
	p.walReader.Close(true)
	if s, ok := p.connector.inner.(*sqlite.Connector); ok {
		s.Stop()
	}
	defer p.attached.close()
	return p.inner.close()
}

// Rest implements [gate.Visitor].
func (p *pool) Rest() { p.walReader.Rest() }

// CloseIdle implements [gate.Visitor].
func (p *pool) CloseIdle() (left int) {
	left = p.walReader.Close(false)
	db := p.inner.db()
	db.SetMaxIdleConns(0)
	left += db.Stats().OpenConnections
	db.SetMaxIdleConns(p.inner.limits.maxIdleConns)
	return left
}

// A draw is a server connection that is taken out of the pool.
type draw struct {
	conn *sql.Conn
	lone *innerPool // that sc is the lone connection of; then conn is nil
	sc   *serverConn

	// mayBeStale tells that the connection has been in the pool, where it may
	// have gone bad.
	mayBeStale bool
}

// draw takes a server connection out of the pool, for the holder of slot.
func (p *pool) draw(ctx context.Context, slot *rwlock.Hold, w rwlock.Wait) (d draw, err error) {
	if p.slots != nil {
		slot.Kind = rwlock.Session // until it is given back, whatever it is used for
		if err := p.slots.Acquire(ctx, rwlock.Shared, slot, w); err != nil {
			return draw{}, err
		}
	}
	defer func() {
		if d.sc == nil { // also when the inner driver panics
			slot.Release()
		}
	}()
	return p.connect(ctx)
}

// connect relies on the pool to leave a connection alone while it is out, so
// that it may be used after the callback in which Raw shows it; to enter Raw for
// every row would cost more than many a driver needs to fetch one.
func (p *pool) connect(ctx context.Context) (draw, error) {
	for {
		d, err := p.drawOne(ctx)
		if err != nil || !d.mayBeStale {
			return d, err
		}
		if err := d.reset(ctx); !errors.Is(err, driver.ErrBadConn) {
			return d, nil // as database/sql, to which no other error matters
		}
	}
}

func (p *pool) drawOne(ctx context.Context) (draw, error) {
	d, err := p.inner.draw(ctx)
	if err != nil {
		server.Raise(err)
		return draw{}, err
	}
	if !p.connected.Load() {
		p.connected.Store(true)
	}
	if d.mayBeStale, d.sc.used = d.sc.used, true; !d.mayBeStale {
		p.database.look()
	}
	return d, nil
}

// reset resets the session of a connection that has been in the pool. One that is bad it discards.
func (d draw) reset(ctx context.Context) error {
	err := driver.ErrBadConn
	defer func() {
		if errors.Is(err, driver.ErrBadConn) { // also if the driver ends the goroutine
			d.discard()
		}
	}()
	err = d.sc.reset(ctx)
	return err
}

// giveBack returns the connection to the pool, if it is still good.
func (d draw) giveBack() {
	defer d.goBack()
	if d.sc.validate() {
		d.sc.leaveTransaction()
	}
}

// goBack puts the connection back into the pool, which closes it if it is broken.
func (d draw) goBack() {
	if d.lone != nil {
		d.lone.putLone(d.sc)
		return
	}
	d.conn.Close()
}

// discard closes the connection.
func (d draw) discard() {
	d.sc.broken = true
	defer d.goBack()
	d.sc.shut() // so that nothing of the driver's is called in the middle of the pool
}
