package dblocker

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

var postgresDialect = &dialect{
	name:     "postgres",
	text:     sqltext.PostgreSQL,
	marks:    []string{"postgres", "pgx", "lib/pq", "pgdriver"},
	bindType: sqlx.DOLLAR,
	limits: poolLimits{
		// The server's max_connections is 100 by default, three of which are
		// kept for superusers: leave some to other programs.
		// https://www.postgresql.org/docs/current/runtime-config-connection.html
		maxOpenConns: 80,
		maxIdleConns: defaultIdleConns,
		// Every connection is a process of the server.
		connMaxIdleTime: 5 * time.Minute,
	},
	database: postgres.Database,
	limitStatements: func(ctx context.Context, sc *serverConn, d time.Duration) error {
		// In milliseconds; 0 would turn the limit off.
		// https://www.postgresql.org/docs/current/runtime-config-client.html
		value := "DEFAULT"
		if d > 0 {
			value = fmt.Sprint(max(1, d.Milliseconds()))
		}
		_, err := sc.ExecContext(ctx, "SET statement_timeout = "+value, nil)
		return err
	},
	identify:         postgresIdentify,
	survivors:        postgresSurvivors,
	tellsTx:          postgres.TellsTx,
	enforcesReadOnly: true,

	stmtCache: defaultStmtCache,
	keepFrom: func(ci driver.Conn) int {
		// Without arguments lib/pq uses the simple protocol, which takes several
		// statements; with binary_parameters it has one round trip as it is. pgx has a
		// cache of its own.
		if drivers.Package(ci) != "github.com/lib/pq" || drivers.Flag(ci, "BinaryParameters") {
			return neverKeep
		}
		return 1
	},
	// The server does not tell of a table, function or type that another program makes
	// earlier in the search path, nor of a trigger that changes the session.
	keepsFor:    time.Minute,
	staleStmt:   postgres.StaleStmt,
	unknownStmt: postgres.UnknownStmt,
	isPooled:    postgresIsPooled,
}

// postgresIsPooled compares the process that the connection was said to be served
// by, when it was opened, with the one that serves it.
func postgresIsPooled(ctx context.Context, sc *serverConn) (bool, error) {
	if sc.keepFrom == neverKeep {
		return false, nil
	}
	rows, err := sc.queryText(ctx, "SELECT pg_backend_pid()")
	if err != nil || len(rows) != 1 {
		return true, err
	}
	return rows[0][0] != postgres.Process(sc.ci), nil
}

// postgresIdentify has the process ID that the server sent at connect from the
// driver, lib/pq or pgx, by reflection: pgx is not among our dependencies. To ask pg_backend_pid() would be wrong behind pgbouncer,
// which may run each transaction in another process.
func postgresIdentify(_ context.Context, sc *serverConn) error {
	if pgx, ok := postgres.Pgx(sc.ci); ok {
		sc.session.ID = fmt.Sprint(pgx.PID())
		sc.isClosed = pgx.IsClosed
	} else if sc.session.ID = postgres.Process(sc.ci); sc.session.ID != "" {
		sc.distrust()
	}
	return nil
}

// postgresSurvivors only looks. lib/pq waits for the server's answer to a cancel
// request; pgx sends one in the background when it closes the connection; and the
// server ends a session that has no client and nothing to do. A process that got
// the ID of one that is gone is waited for in vain, but is not harmed.
func postgresSurvivors(ctx context.Context, sc *serverConn, lost []server.Session) ([]server.Session, error) {
	rows, err := sc.queryText(ctx, "SELECT pid FROM pg_stat_activity")
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
