package dblocker

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/calmdocs/dblocker/internal/combine"
	"github.com/calmdocs/dblocker/internal/databases"
	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/lost"
	"github.com/calmdocs/dblocker/internal/redact"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

// A pool is the server connections of an open handle, and the locks in front of
// them.
type pool struct {
	config    *config
	inner     driver.Connector
	sqlite    *sqlite.Connector // that inner is; nil if it is another
	dsn       *string           // nil if it is not known
	connector server.Connector
	servers   server.Pool
	database  *databases.Database // that the handle has open
	lockspace *databases.Database // whose locks it uses
	users     *locks.Table        // of that
	gate      *gate.Gate          // of that database; nil if the handle needs none
	readOnly  bool                // the handle cannot write, so it passes the gate as a reader
	leaveGate func()              // of the database, where it is a visitor

	attached databases.Attached // the files that connections have attached

	combining combine.Env // of writes to one SQLite file

	conns         *gate.Conns // to the file; nil if they are not opened here, from a DSN of SQLite
	opensAttached bool        // connections may have files attached from the start

	walReader *sqlite.WALReader // nil if there is to be none

	lost *lost.Sessions // what lost connections have left on the server
}

const slotsNamePrefix = "one of the server connections that are allowed by max_open_conns"

func newPool(c *Connector) (*pool, error) {
	p := pool{config: c.config, inner: c.inner, sqlite: sqlite.Of(c.inner), dsn: c.dsn}
	library := drivers.Package(c.driver.Unwrap())
	database, err := c.openDatabase(library)
	if err != nil {
		return nil, err
	}
	p.database, p.lockspace = database, database
	if c.lockspace != "" {
		if p.lockspace, err = databases.Open("lockspace:"+c.lockspace, ""); err != nil {
			database.Release()
			return nil, err
		}
	} else {
		database.Retain() // as lockspace, for close to be the same
	}
	p.users = p.lockspace.Users
	p.useGate(c.dialect)
	p.attached.Open(database, &p, p.gate != nil)
	c.prepareServers(&p)
	p.useWALReader(c.config, c.dsn)
	p.combining.Texts, p.combining.Logger, p.combining.Longest = c.texts, c.logger, longestLead
	p.lost = lost.New((*lostServer)(&p), p.users, c.cancelGrace, c.logger)
	p.leaveGate = database.Gate.Register(&p)
	return &p, nil
}

// prepareServers prepares the server connections of the pool.
func (c *Connector) prepareServers(p *pool) {
	limits := c.limits
	p.connector = server.Connector{Inner: c.inner, Config: c.forServers(), Host: p, Schema: &p.database.Schema,
		Timeout: max(c.connTimeout, c.selfWait), Limited: limits.MaxOpenConns > 0, IsLocal: p.sqlite != nil}
	if drivers.IsPgxPool(c.inner) {
		limits.MaxIdleConns, p.connector.Timeout = 0, c.connTimeout
	}
	if p.sqlite != nil && p.gate != nil { // another may wait for what we close
		p.conns = &p.gate.Conns
		p.connector.Wait = rwlock.Wait{Timeout: max(c.lockTimeout, c.selfWait), Closed: c.closed}
	}
	p.opensAttached = p.gate != nil && sqlite.OpensAttached(c.driver.Unwrap())
	if limits.MaxOpenConns > 0 {
		p.servers.Slots = rwlock.NewLock(fmt.Sprintf("%s=%d", slotsNamePrefix, limits.MaxOpenConns), limits.MaxOpenConns)
	}
	p.servers.Open(&p.connector, limits)
}

// openDatabase returns the handle's database, which it retains for the pool.
func (c *Connector) openDatabase(library string) (*databases.Database, error) {
	if path := sqlite.Of(c.inner).Path(); path != "" {
		return databases.OpenFile(path, library)
	}
	return databases.Open(c.databaseID(library), library)
}

// databaseID is the identity that the handles on one database have in common,
// or "" if it is not known.
func (c *Connector) databaseID(library string) string {
	if c.dsn == nil {
		return ""
	}
	id := c.dialect.Database(sqlite.Of(c.inner).GivenDSN(*c.dsn))
	if id == "" {
		return ""
	}
	if c.dialect == engines.Generic || sqlite.InMemory(id) {
		id += " of " + library // nothing that another driver could open
	}
	return c.dialect.Name + ":" + id
}

// retain keeps what handles share for as long as a client connection lives, which
// may be longer than its handle. The caller has a reference already, so it cannot
// be gone.
func (p *pool) retain() {
	p.database.Retain()
	p.lockspace.Retain()
}

func (p *pool) release() {
	p.database.Release()
	p.lockspace.Release()
}

func (p *pool) close() error {
	defer p.release()
	p.leaveGate()
	p.walReader.Close(true)
	p.sqlite.Stop()
	defer p.attached.Close()
	return p.servers.Close()
}

// Rest implements [gate.Visitor].
func (p *pool) Rest() { p.walReader.Rest() }

// CloseIdle implements [gate.Visitor].
func (p *pool) CloseIdle() (left int) {
	return p.walReader.Close(false) + p.servers.CloseIdle()
}

// gateNamed returns the gate of the handle, or of an attached file, that has the name; else nil.
func (p *pool) gateNamed(name string) *gate.Gate {
	if p.gate != nil && p.gate.Name() == name {
		return p.gate
	}
	return p.attached.GateNamed(name)
}

var _ server.Host = (*pool)(nil)

// Connect implements [server.Host].
func (p *pool) Connect(ctx context.Context, w rwlock.Wait, connect func(beside bool) error) error {
	return explainConns(p.conns.Connect(ctx, w, connect))
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

// Disconnect implements [server.Host].
func (p *pool) Disconnect(disconnect func() error) error { return p.conns.Disconnect(disconnect) }

// LeaveOpening implements [server.Host]: what the caller has of the gate is kept until the connection
// is open.
func (p *pool) LeaveOpening() (opened func()) { return p.gate.LeaveOpening() }

// SetUp implements [server.Host].
func (p *pool) SetUp(ctx context.Context, sc *server.Conn, beside bool) error {
	if setUp := p.config.dialect.SetUp; setUp != nil {
		journal := ""
		if beside {
			journal = p.sqlite.JournalBeside(p.gate)
		}
		journal, err := setUp(ctx, p.inner, sc, journal)
		if err != nil {
			return err
		}
		p.gate.Opened(journal)
	}
	if p.opensAttached {
		if err := p.attached.Look(ctx, sc); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// Drawn implements [server.Host].
func (p *pool) Drawn() { p.database.Look() }

// Closing implements [server.Host].
func (p *pool) Closing() { p.sqlite.LetGo() }

// Closed implements [server.Host].
func (p *pool) Closed(sc *server.Conn) { p.attached.Closed(sc) }

// ExplainConnect implements [server.Host]. No error shows the DSN's password.
func (p *pool) ExplainConnect(err error) error {
	err = explainStub(err)
	if dsn := p.dsn; dsn != nil {
		return redact.DialError(err, *dsn, engines.FromServer(err))
	}
	return err
}

// ExplainTimeout implements [server.Host].
func (p *pool) ExplainTimeout(waited time.Duration) error {
	return &LockError{Waited: waited, Err: ErrLockTimeout, what: "a new connection, for which the inner driver has not returned from Connect"}
}

// A lostServer is a pool as a [lost.Server].
type lostServer pool

func (p *lostServer) Reserve() lost.Reserved { return p.connector.Reserve() }
func (p *lostServer) Retain()                { (*pool)(p).retain() }
func (p *lostServer) Release()               { (*pool)(p).release() }
