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

// A backend is the server connections of an open handle, and the locks in front of
// them.
type backend struct {
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

func newBackend(c *Connector) (*backend, error) {
	b := backend{config: c.config, inner: c.inner, sqlite: sqlite.Of(c.inner), dsn: c.dsn}
	library := drivers.Package(c.driver.Unwrap())
	database, err := c.openDatabase(library)
	if err != nil {
		return nil, err
	}
	b.database, b.lockspace = database, database
	if c.lockspace != "" {
		if b.lockspace, err = databases.Open("lockspace:"+c.lockspace, ""); err != nil {
			database.Release()
			return nil, err
		}
	} else {
		database.Retain() // as lockspace, for close to be the same
	}
	b.users = b.lockspace.Users
	b.useGate(c.engine)
	b.attached.Open(database, &b, b.gate != nil)
	c.prepareServers(&b)
	b.useWALReader(c.config, c.dsn)
	b.combining.Texts, b.combining.Logger, b.combining.Longest = c.texts, c.logger, longestLead
	b.lost = lost.New((*lostServer)(&b), b.users, c.cancelGrace, c.logger)
	b.leaveGate = database.Gate.Register(&b)
	return &b, nil
}

// prepareServers prepares the server connections of the backend.
func (c *Connector) prepareServers(b *backend) {
	limits := c.limits
	b.connector = server.Connector{Inner: c.inner, Config: c.forServers(), Host: b, Schema: &b.database.Schema,
		Timeout: max(c.connTimeout, c.selfWait), Limited: limits.MaxOpenConns > 0, IsLocal: b.sqlite != nil}
	if drivers.IsPgxPool(c.inner) {
		limits.MaxIdleConns, b.connector.Timeout = 0, c.connTimeout
	}
	if b.sqlite != nil && b.gate != nil { // another may wait for what we close
		b.conns = &b.gate.Conns
		b.connector.Wait = rwlock.Wait{Timeout: max(c.lockTimeout, c.selfWait), Closed: c.closed}
	}
	b.opensAttached = b.gate != nil && sqlite.OpensAttached(c.driver.Unwrap())
	if limits.MaxOpenConns > 0 {
		b.servers.Slots = rwlock.NewLock(fmt.Sprintf("%s=%d", slotsNamePrefix, limits.MaxOpenConns), limits.MaxOpenConns)
	}
	b.servers.Open(&b.connector, limits)
}

// openDatabase returns the handle's database, which it retains for the backend.
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
	id := c.engine.Database(sqlite.Of(c.inner).GivenDSN(*c.dsn))
	if id == "" {
		return ""
	}
	if c.engine == engines.Generic || sqlite.InMemory(id) {
		id += " of " + library // nothing that another driver could open
	}
	return c.engine.Name + ":" + id
}

// retain keeps what handles share for as long as a client connection lives, which
// may be longer than its handle. The caller has a reference already, so it cannot
// be gone.
func (b *backend) retain() {
	b.database.Retain()
	b.lockspace.Retain()
}

func (b *backend) release() {
	b.database.Release()
	b.lockspace.Release()
}

func (b *backend) close() error {
	defer b.release()
	b.leaveGate()
	b.walReader.Close(true)
	b.sqlite.Stop()
	defer b.attached.Close()
	return b.servers.Close()
}

// Rest implements [gate.Visitor].
func (b *backend) Rest() { b.walReader.Rest() }

// CloseIdle implements [gate.Visitor].
func (b *backend) CloseIdle() (left int) {
	return b.walReader.Close(false) + b.servers.CloseIdle()
}

// gateNamed returns the gate of the handle, or of an attached file, that has the name; else nil.
func (b *backend) gateNamed(name string) *gate.Gate {
	if b.gate != nil && b.gate.Name() == name {
		return b.gate
	}
	return b.attached.GateNamed(name)
}

var _ server.Host = (*backend)(nil)

// Connect implements [server.Host].
func (b *backend) Connect(ctx context.Context, w rwlock.Wait, connect func(beside bool) error) error {
	return explainConns(b.conns.Connect(ctx, w, connect))
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
func (b *backend) Disconnect(disconnect func() error) error { return b.conns.Disconnect(disconnect) }

// LeaveOpening implements [server.Host]: what the caller has of the gate is kept until the connection
// is open.
func (b *backend) LeaveOpening() (opened func()) { return b.gate.LeaveOpening() }

// SetUp implements [server.Host].
func (b *backend) SetUp(ctx context.Context, sc *server.Conn, beside bool) error {
	if setUp := b.config.engine.SetUp; setUp != nil {
		journal := ""
		if beside {
			journal = b.sqlite.JournalBeside(b.gate)
		}
		journal, err := setUp(ctx, b.inner, sc, journal)
		if err != nil {
			return err
		}
		b.gate.Opened(journal)
	}
	if b.opensAttached {
		if err := b.attached.Look(ctx, sc); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// Drawn implements [server.Host].
func (b *backend) Drawn() { b.database.Look() }

// Closing implements [server.Host].
func (b *backend) Closing() { b.sqlite.LetGo() }

// Closed implements [server.Host].
func (b *backend) Closed(sc *server.Conn) { b.attached.Closed(sc) }

// ExplainConnect implements [server.Host]. No error shows the DSN's password.
func (b *backend) ExplainConnect(err error) error {
	err = explainStub(err)
	if dsn := b.dsn; dsn != nil {
		return redact.DialError(err, *dsn, engines.FromServer(err))
	}
	return err
}

// ExplainTimeout implements [server.Host].
func (b *backend) ExplainTimeout(waited time.Duration) error {
	return &LockError{Waited: waited, Err: ErrLockTimeout, what: "a new connection, for which the inner driver has not returned from Connect"}
}

// A lostServer is a backend as a [lost.Server].
type lostServer backend

func (b *lostServer) Reserve() lost.Reserved { return b.connector.Reserve() }
func (b *lostServer) Retain()                { (*backend)(b).retain() }
func (b *lostServer) Release()               { (*backend)(b).release() }
