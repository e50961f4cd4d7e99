// Package backend opens what stands behind the client connections of a handle: its server connections, and the
// locks in front of them.
package backend

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/combine"
	"github.com/calmdocs/dblocker/internal/databases"
	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/lost"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
	"github.com/calmdocs/dblocker/internal/walsync"
)

// A Config is what there is to open.
type Config struct {
	Inner     driver.Connector
	Driver    driver.Driver // of that
	DSN       *string       // nil if it is not known
	Lockspace string        // whose locks are used; "" for those of the database
	Reaches   bool          // the locks reach beyond the process

	// Of a handle with a database for each user, Pattern names what is the same for all of them, whose users' locks are
	// in one table, User is the one whose database it is, and Slots, if it is not nil, bounds the server connections of all.
	Pattern, User string
	Slots         *rwlock.Lock
	Room          Room // nil if nobody counts the connections of all

	GroupSync bool // calls on a SQLite file share the syncs of their commits

	Servers server.Config
	Limits  server.Limits

	LockTimeout, ConnTimeout, SelfWait time.Duration   // of waits
	Closed                             <-chan struct{} // closed with the handle

	// ExplainConns says in the words of the program which wait has ended before a connection to a
	// SQLite file could be opened, and ExplainTimeout that the inner driver has not returned from Connect.
	// ExplainDial, if it is not nil, says what an error of the inner driver's Connect means.
	ExplainConns   func(*gate.ConnsError) error
	ExplainDial    func(error) error
	ExplainTimeout func(waited time.Duration) error
}

// A Room counts the server connections of several backends that are open.
type Room interface {
	Come() // before one is opened
	Gone() // when it is closed, or was not opened
}

// A Backend is the server connections of an open handle, and the locks in front of
// them.
type Backend struct {
	Servers  server.Pool
	Users    *locks.Table        // the locks that the handle uses
	Database *databases.Database // that it has open
	Gate     *gate.Gate          // of that; nil if the handle needs none
	ReadOnly bool                // the handle cannot write, so it passes the gate as a reader

	Attached  databases.Attached // the files that connections have attached
	Combining combine.Env        // of writes to one SQLite file
	WALReader *sqlite.WALReader  // nil if there is to be none
	WAL       *walsync.Log       // of the file, whose syncs calls share; nil if they do not
	Scope     *scope.Scope       // by which the locks reach beyond the process; nil if they do not
	Lost      *lost.Sessions     // what lost connections have left on the server; nil if its engine knows no sessions

	cfg       Config
	sqlite    *sqlite.Connector // that the inner connector is; nil if it is another
	connector server.Connector
	walReader sqlite.WALReader    // that WALReader is
	lockspace *databases.Database // that Users are of
	leaveGate func()              // of the database, where the handle is a visitor

	forgotten     atomic.Bool // see Forget
	conns         *gate.Conns // to the file; nil if they are not opened here, from a DSN of SQLite
	reaches       bool        // the locks of a SQLite file reach beyond the process
	unreach       func()      // ends that for a single user; nil if they do not, or for all
	stopListening func()      // to who waits for these; nil if they do not
	opensAttached bool        // connections may have files attached from the start
}

// SlotsNamePrefix begins the name of the lock that bounds the number of server connections.
const SlotsNamePrefix = "one of the server connections that are allowed by max_open_conns"

// Open returns what cfg says. It opens no connection.
func Open(cfg Config) (*Backend, error) {
	if cfg.Reaches && (server.IsBorrowed(cfg.Inner) || drivers.IsPgxPool(cfg.Inner)) {
		return nil, errBorrowed
	}
	b := &Backend{cfg: cfg, sqlite: sqlite.Of(cfg.Inner)}
	if err := b.openDatabases(); err != nil {
		return nil, err
	}
	b.Users = b.lockspace.Users()
	if err := b.openReach(); err != nil {
		b.Release()
		return nil, err
	}
	if cfg.Reaches && !cfg.Servers.Engine.Gated {
		b.Scope = scope.New(cfg.Servers.Locks(), &b.lockspace.Scope, cfg.Lockspace)
		b.Scope.Limit(cfg.Limits.MaxOpenConns)
	}
	b.useGate()
	b.Attached.Open(b.Database, (*visitor)(b), b.Gate != nil)
	b.useGroupSync()
	b.openServers()
	b.useWALReader()
	if cfg.Servers.Engine.Identify != nil {
		b.Lost = lost.New((*lostServer)(b), b.Users, cfg.Servers.CancelGrace, cfg.Servers.Logger)
	}
	b.leaveGate = b.Database.Gate.Register((*visitor)(b))
	return b, nil
}

var errBorrowed = errors.New("dblocker: lock_scope=database is not to be had on connections of another pool, which others use too: open the database by its driver and DSN")

// openDatabases opens the database, and the one whose locks are used. If that is the same it is retained twice,
// for Release to be the same.
func (b *Backend) openDatabases() (err error) {
	if b.Database, err = b.openDatabase(drivers.Package(b.cfg.Driver)); err != nil {
		return err
	}
	b.lockspace = b.Database
	name := b.cfg.locksOf()
	if name == "" {
		b.Database.Retain()
	} else if b.lockspace, err = databases.Open(name, ""); err != nil {
		b.Database.Release()
	}
	return err
}

// locksOf returns whose locks are used, if not those of the database.
func (cfg *Config) locksOf() string {
	switch {
	case cfg.Lockspace != "":
		return "lockspace:" + cfg.Lockspace
	case cfg.Pattern != "":
		return "pattern:" + cfg.Pattern
	}
	return ""
}

func (b *Backend) openDatabase(library string) (*databases.Database, error) {
	if path := b.sqlite.Path(); path != "" {
		return databases.OpenFile(path, library)
	}
	return databases.Open(b.databaseID(library), library)
}

// databaseID is the identity that the handles on one database have in common,
// or "" if it is not known.
func (b *Backend) databaseID(library string) string {
	engine := b.cfg.Servers.Engine
	if b.cfg.DSN == nil {
		return ""
	}
	id := engine.Database(b.sqlite.GivenDSN(*b.cfg.DSN))
	if id == "" {
		return ""
	}
	if engine == engines.Generic || sqlite.InMemory(id) {
		id += " of " + library // nothing that another driver could open
	}
	return engine.Name + ":" + id
}

// useGate takes the gate of the database, if the handle needs one.
func (b *Backend) useGate() {
	if !b.cfg.Servers.Engine.Gated {
		return
	}
	b.Gate = b.Database.Gate
	if b.sqlite.IsImmutable() {
		b.Gate = nil
	}
	b.ReadOnly = b.sqlite.OpensReadOnly()
}

// openServers prepares the server connections.
func (b *Backend) openServers() {
	cfg, limits := &b.cfg, b.cfg.Limits
	if b.Scope != nil {
		cfg.Servers.IsLeft = b.Scope.IsLeft
	}
	b.connector = server.Connector{Inner: cfg.Inner, Config: cfg.Servers, Host: (*host)(b), Schema: &b.Database.Schema,
		Timeout: max(cfg.ConnTimeout, cfg.SelfWait), Limited: limits.MaxOpenConns > 0, IsLocal: b.sqlite != nil}
	if drivers.IsPgxPool(cfg.Inner) {
		limits.MaxIdleConns, b.connector.Timeout = 0, cfg.ConnTimeout
	}
	if b.sqlite != nil && b.Gate != nil { // another may wait for what we close
		b.conns = &b.Gate.Conns
		b.connector.Wait = rwlock.Wait{Timeout: max(cfg.LockTimeout, cfg.SelfWait), Closed: cfg.Closed}
	}
	b.opensAttached = b.Gate != nil && sqlite.OpensAttached(cfg.Driver)
	if b.Servers.Slots = cfg.Slots; limits.MaxOpenConns > 0 && cfg.Slots == nil {
		b.Servers.Slots = rwlock.NewLock(fmt.Sprintf("%s=%d", SlotsNamePrefix, limits.MaxOpenConns), limits.MaxOpenConns)
	}
	if b.Scope != nil { // a connection that gives a lock up is not idle yet
		limits.MaxIdleConns *= 2
	}
	b.Servers.Open(&b.connector, limits)
}

// useWALReader makes a WALReader if the handle may have one: a limit of connections
// leaves none for it, nor does a locking_mode that lets in only one; and what cannot
// write may not be let near the WAL.
func (b *Backend) useWALReader() {
	if b.Gate == nil || b.ReadOnly || b.cfg.Limits.MaxOpenConns > 0 {
		return
	}
	if b.cfg.DSN == nil || sqltext.Contains(*b.cfg.DSN, "locking_mode") {
		return
	}
	b.WALReader = &b.walReader
	b.walReader.Open(b.Gate, &b.connector, b.cfg.Servers.Logger)
}

// Retain keeps what handles share for as long as a client connection lives, which
// may be longer than its handle. The caller has a reference already, so it cannot
// be gone.
func (b *Backend) Retain() {
	b.Database.Retain()
	b.lockspace.Retain()
}

// Release gives that up.
func (b *Backend) Release() {
	b.Database.Release()
	b.lockspace.Release()
}

// Close closes the server connections that are not in use, and the others when they are not any more. It
// releases what Open has retained.
func (b *Backend) Close() error {
	defer b.Release()
	b.leaveGate()
	if b.stopListening != nil {
		b.stopListening()
	}
	b.WALReader.Close(true)
	b.sqlite.Stop()
	defer b.Attached.Close()
	return b.Servers.Close()
}

// GateNamed returns the gate of the handle, or of an attached file, that has the name; else nil.
func (b *Backend) GateNamed(name string) *gate.Gate {
	if b.Gate != nil && b.Gate.Name() == name {
		return b.Gate
	}
	return b.Attached.GateNamed(name)
}

// Unused is called before Close where nobody uses the backend any more, while others use its users' locks.
func (b *Backend) Unused() {
	if b.unreach != nil {
		b.unreach()
	}
}

// CloseIdle closes the server connections that nobody uses.
func (b *Backend) CloseIdle() { b.Servers.CloseIdle() }

// Forget closes the server connections that nobody uses, and has none opened any more: whoever wants one gets
// driver.ErrBadConn, so that database/sql takes another client connection.
func (b *Backend) Forget() {
	b.forgotten.Store(true)
	b.WALReader.Close(false)
	b.Servers.CloseIdle()
}
