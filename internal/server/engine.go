package server

import (
	"context"
	"database/sql/driver"
	"log/slog"
	"reflect"
	"time"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// An Engine is what is special to an engine.
type Engine struct {
	Name     string          // as the option dialect writes it
	Text     sqltext.Dialect // how its statements are read
	Marks    []string        // found in the names of its drivers and of their Go packages
	BindType int             // of sqlx
	Limits   Limits          // the defaults

	// Database returns the identity of the database that a DSN opens: handles
	// with the same one share their locks. "" is a database of its own.
	Database func(dsn string) string

	// NewConnector makes the inner connector of a handle whose DSN is known. If nil,
	// the driver's own does.
	NewConnector func(l *slog.Logger, d driver.Driver, dsn string) (driver.Connector, error)

	// SetUp prepares each new connection of the inner connector, if the database has a gate. It returns
	// the journal mode: the given one, if that is not "".
	SetUp func(ctx context.Context, inner driver.Connector, sc *Conn, journal string) (string, error)

	// LimitStatements makes the server end the statements of a connection after d, or
	// as it is configured, if d is 0. If nil, contexts do that instead.
	LimitStatements func(ctx context.Context, sc *Conn, d time.Duration) error

	// Identify finds out the session of a new connection; Survivors tells which
	// of those that have lost their connections the server has not ended, and may
	// help to end them. If nil, no statement goes on without its connection.
	Identify  func(ctx context.Context, sc *Conn) (Peer, error)
	Survivors func(ctx context.Context, sc *Conn, lost []Session) ([]Session, error)

	// Locks are those that reach beyond the process; nil if there are none.
	Locks *Locks

	// PooledLocks are those behind a pooler that may run each transaction in another session; nil if there are none. PooledDSN is the DSN with
	// which a driver works there. Whoever has one has the other.
	PooledLocks *Locks
	PooledDSN   func(inner driver.Driver, dsn string) string

	// TellsTx finds in a connection of the driver, or in what wraps one, how it tells
	// whether it is in a transaction; nil if it does not. AsksTx: after an error the
	// server must be asked.
	TellsTx func(ci reflect.Value) func() bool
	AsksTx  bool

	// Gated tells that a database of the engine has a gate. Then Begin begins its
	// transactions, and Autocommit tells whether a connection is in none. Of
	// other engines the driver does the one, and TellsTx or the texts tell the other.
	Gated      bool
	Begin      func(ctx context.Context, sc *Conn, opts driver.TxOptions) (driver.Tx, error)
	Autocommit func(sc *Conn) bool

	// StmtCache is the default of the option. KeepFrom returns with how many
	// arguments or more a text gives the same results on the connection when it is
	// prepared; if nil, never.
	// KeepsFor bounds how long one is kept, if not 0.
	StmtCache int
	KeepFrom  func(ci driver.Conn) int
	KeepsFor  time.Duration

	// IsStale tells whether an error says of a statement that it must be prepared
	// anew, IsUnknown that this is since the server does not know it, IsFull that the
	// server has too many. They may be nil.
	IsStale   func(err error) bool
	IsUnknown func(err error) bool
	IsFull    func(err error) bool

	// IsOutdated tells of an error on a connection that it comes from the time at which that was opened, so
	// that nothing was done, and a new one may do it. If nil, none does.
	IsOutdated func(sc *Conn, err error) bool

	// StmtsOutliveConns: a connection does not end before its statements are closed,
	// which costs no round trip, nor are rows that are open in the way of it.
	StmtsOutliveConns bool

	// LeavesRows tells whether a statement that was prepared and is executed may, with
	// some driver, stay at its first row, and hold the engine's locks until it is
	// used again. If nil, none does.
	LeavesRows func(st sqltext.Statement, query string) bool

	// IsPooled tells whether each transaction on a new connection may run on another
	// connection to the server. If nil, none does.
	IsPooled func(ctx context.Context, sc *Conn) (bool, error)

	// EnforcesReadOnly tells whether the server itself refuses to write in a
	// read-only transaction.
	EnforcesReadOnly bool

	// CloseTells tells that Close of rows reads to their end, and returns the error with which
	// they end.
	CloseTells bool

	// SavepointBeginsNone tells that a SAVEPOINT outside a transaction begins none.
	SavepointBeginsNone bool

	// HidesBackslashes tells whether a DSN asks for a character set in which a letter may end
	// with the byte of a backslash. If nil, none does.
	HidesBackslashes func(dsn string) bool

	// ParamNames returns the names of the parameters in a DSN, if it is not nil. OwnParams are
	// those of the server's own that have the name of an option of dblocker. Example is the form
	// of a DSN with an option: its name, and its value.
	ParamNames func(dsn string) []string
	OwnParams  []string
	Example    string
}

// Open makes the inner connector of a handle.
func (d *Engine) Open(l *slog.Logger, inner driver.Driver, dsn string) (driver.Connector, error) {
	if d.NewConnector == nil {
		return drivers.Open(inner, dsn)
	}
	return d.NewConnector(l, inner, dsn)
}

// DefaultStmtCache is what the connections of known drivers keep.
const DefaultStmtCache = 64

// DefaultIdleConns replaces the two idle connections that database/sql keeps:
// with more than two users at work it would open and close one for nearly every
// statement.
const DefaultIdleConns = 16

// NeverKeep is an argument count that no query reaches.
const NeverKeep = 1 << 30

// BindsReadOnly tells whether a transaction of the engine that is begun read-only cannot
// write: the server sees to it, or we do, who begin it.
func (d *Engine) BindsReadOnly() bool { return d.EnforcesReadOnly || d.Begin != nil }
