package postgres

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// Engine is PostgreSQL.
var Engine = &server.Engine{
	Name:     "postgres",
	Text:     sqltext.PostgreSQL,
	Marks:    []string{"postgres", "pgx", "lib/pq", "pgdriver"},
	BindType: sqlx.DOLLAR,
	Limits: server.Limits{
		// The server's max_connections is 100 by default, three of which are
		// kept for superusers: leave some to other programs.
		// https://www.postgresql.org/docs/current/runtime-config-connection.html
		MaxOpenConns: 80,
		MaxIdleConns: server.DefaultIdleConns,
		// Every connection is a process of the server.
		ConnMaxIdleTime: 5 * time.Minute,
	},
	Database: database,
	LimitStatements: func(ctx context.Context, sc *server.Conn, d time.Duration) error {
		// In milliseconds; 0 would turn the limit off.
		// https://www.postgresql.org/docs/current/runtime-config-client.html
		value := "DEFAULT"
		if d > 0 {
			value = fmt.Sprint(max(1, d.Milliseconds()))
		}
		_, err := sc.ExecContext(ctx, "SET statement_timeout = "+value, nil)
		return err
	},
	Locks:            locks,
	PooledLocks:      pooledLocks,
	PooledDSN:        pooledDSN,
	Identify:         identify,
	Survivors:        survivors,
	TellsTx:          tellsTx,
	EnforcesReadOnly: true,

	CloseTells:          true,
	SavepointBeginsNone: true, // it is refused
	ParamNames:          paramNames,
	OwnParams:           ownParams,
	Example:             "postgres?%s=%s:postgres://user@host/app",

	StmtCache: server.DefaultStmtCache,
	KeepFrom: func(ci driver.Conn) int {
		// Without arguments lib/pq uses the simple protocol, which takes several
		// statements; with binary_parameters it has one round trip as it is. pgx has a
		// cache of its own.
		if drivers.Package(ci) != "github.com/lib/pq" || drivers.Flag(ci, "BinaryParameters") {
			return server.NeverKeep
		}
		return 1
	},
	// The server does not tell of a table, function or type that another program makes
	// earlier in the search path, nor of a trigger that changes the session.
	KeepsFor:  time.Minute,
	IsStale:   isStale,
	IsUnknown: isUnknown,
	IsPooled:  isPooled,
}

// isPooled compares the process that the connection was said to be served
// by, when it was opened, with the one that serves it.
func isPooled(ctx context.Context, sc *server.Conn) (bool, error) {
	rows, err := sc.QueryText(ctx, "SELECT pg_backend_pid()")
	if err != nil || len(rows) != 1 {
		return true, err
	}
	return rows[0][0] != Process(sc.Inner()), nil
}

// identify has the process ID that the server sent at connect from the
// driver, lib/pq or pgx, by reflection: pgx is not among our dependencies. To ask pg_backend_pid() would be wrong behind pgbouncer,
// which may run each transaction in another process.
//
// Both answer [driver.ErrBadConn], that nothing was sent, also when the connection
// ends in the middle of a statement; pgx does so from version 5.12 on, for one without arguments. The server may go on with that, so it
// must not be sent again before the session has ended.
func identify(_ context.Context, sc *server.Conn) (peer server.Peer, err error) {
	if pgx, ok := pgxConn(sc.Inner()); ok {
		peer.Session.ID = fmt.Sprint(pgx.PID())
		peer.IsClosed = pgx.IsClosed
		peer.MayHaveSent = true
	} else if peer.Session.ID = Process(sc.Inner()); peer.Session.ID != "" {
		peer.MayHaveSent = true
		peer.Peek = peekIdle(sc.Inner())
	}
	return peer, nil
}

// survivors only looks. lib/pq waits for the server's answer to a cancel
// request; pgx sends one in the background when it closes the connection; and the
// server ends a session that has no client and nothing to do. A process that got
// the ID of one that is gone is waited for in vain, but is not harmed.
func survivors(ctx context.Context, sc *server.Conn, lost []server.Session) ([]server.Session, error) {
	rows, err := sc.QueryText(ctx, "SELECT pid FROM pg_stat_activity")
	if err != nil {
		return nil, err
	}
	var alive []server.Session
	for _, row := range rows {
		if s := (server.Session{ID: row[0]}); slices.Contains(lost, s) {
			alive = append(alive, s)
		}
	}
	return alive, nil
}
