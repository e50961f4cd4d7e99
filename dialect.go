package dblocker

import (
	"context"
	"database/sql/driver"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A dialect is what is special to an engine.
type dialect struct {
	name     string          // as the option dialect writes it
	text     sqltext.Dialect // how its statements are read
	marks    []string        // found in the names of its drivers and of their Go packages
	bindType int             // of sqlx
	limits   poolLimits      // the defaults

	// database returns the identity of the database that a DSN opens: handles
	// with the same one share their locks. "" is a database of its own.
	database func(dsn string) string

	// connector makes the inner connector of a handle whose DSN is known. If nil,
	// the driver's own does.
	connector func(l *slog.Logger, d driver.Driver, dsn string) (driver.Connector, error)

	// setUp is called for each new connection of the inner connector.
	setUp func(ctx context.Context, inner driver.Connector, sc *serverConn) error

	// limitStatements makes the server end the statements of a connection after d, or
	// as it is configured, if d is 0. If nil, contexts do that instead.
	limitStatements func(ctx context.Context, sc *serverConn, d time.Duration) error

	// identify finds out the session of a new connection; survivors tells which
	// of those that have lost their connections the server has not ended, and may
	// help to end them. If nil, no statement goes on without its connection.
	identify  func(ctx context.Context, sc *serverConn) error
	survivors func(ctx context.Context, sc *serverConn, lost []server.Session) ([]server.Session, error)

	// tellsTx finds in a connection of the driver, or in what wraps one, how it tells
	// whether it is in a transaction; nil if it does not. asksTx: after an error the
	// server must be asked.
	tellsTx func(ci reflect.Value) func() bool
	asksTx  bool

	// gated tells that a database of the engine has a gate. Then begin begins its
	// transactions, and autocommit tells whether a connection is in none. Of
	// other engines the driver does the one, and tellsTx or the texts tell the other.
	gated      bool
	begin      func(ctx context.Context, sc *serverConn, opts driver.TxOptions) (driver.Tx, error)
	autocommit func(sc *serverConn) bool

	// stmtCache is the default of the option. keepFrom returns with how many
	// arguments or more a text gives the same results on the connection when it is
	// prepared; if nil, never.
	// keepsFor bounds how long one is kept, if not 0.
	stmtCache int
	keepFrom  func(ci driver.Conn) int
	keepsFor  time.Duration

	// staleStmt tells whether an error says of a statement that it must be prepared
	// anew, unknownStmt that this is since the server does not know it, stmtsFull that the
	// server has too many. They may be nil.
	staleStmt   func(err error) bool
	unknownStmt func(err error) bool
	stmtsFull   func(err error) bool

	// stmtsOutliveConns: a connection does not end before its statements are closed,
	// which costs no round trip, nor are rows that are open in the way of it.
	stmtsOutliveConns bool

	// leavesRows tells whether a statement that was prepared and is executed may, with
	// some driver, stay at its first row, and hold the engine's locks until it is
	// used again. If nil, none does.
	leavesRows func(st sqltext.Statement, query string) bool

	// isPooled tells whether each transaction on a new connection may run on another
	// connection to the server. If nil, none does.
	isPooled func(ctx context.Context, sc *serverConn) (bool, error)

	// enforcesReadOnly tells whether the server itself refuses to write in a
	// read-only transaction.
	enforcesReadOnly bool
}

// open makes the inner connector of a handle.
func (d *dialect) open(l *slog.Logger, inner driver.Driver, dsn string) (driver.Connector, error) {
	if d.connector == nil {
		return drivers.Open(inner, dsn)
	}
	return d.connector(l, inner, dsn)
}

// bindsReadOnly tells whether a transaction of the engine that is begun read-only cannot
// write: the server sees to it, or we do, who begin it.
func (d *dialect) bindsReadOnly() bool { return d.enforcesReadOnly || d.begin != nil }

// generic stands for an engine that dblocker does not know.
var generic = &dialect{
	name:     "generic",
	text:     sqltext.Generic,
	bindType: sqlx.QUESTION,
	limits:   poolLimits{maxIdleConns: defaultIdleConns},
	database: func(dsn string) string { return dsn },
}

// defaultStmtCache is what the server connections of known drivers keep.
const defaultStmtCache = 64

// defaultIdleConns replaces the two idle connections that database/sql keeps:
// with more than two users at work it would open and close one for nearly every
// statement.
const defaultIdleConns = 16

var dialects = []*dialect{sqliteDialect, postgresDialect, mysqlDialect, generic}

func dialectNames() string {
	var names []string
	for _, d := range dialects {
		names = append(names, d.name)
	}
	return strings.Join(names, ", ")
}

// detectDialect recognizes the engine by the registered name of the driver, and
// else by its Go type: programs register variants under names of their own, and
// wrappers hide the type.
func detectDialect(d driver.Driver, name string) *dialect {
	for _, hint := range []string{name, drivers.Package(d)} {
		for _, dialect := range dialects {
			for _, mark := range dialect.marks {
				if strings.Contains(hint, mark) {
					return dialect
				}
			}
		}
	}
	return generic
}
