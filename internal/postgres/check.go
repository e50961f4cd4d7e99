package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/calmdocs/dblocker/internal/server"
)

// checkLocks refuses what keeps no locks for us, and sets up what ends a session whose client is gone.
func checkLocks(ctx context.Context, sc *server.Conn) error {
	session := sessionOf(sc)
	if session == "" {
		return errors.New("dblocker: lock_scope=database needs lib/pq or pgx, by its package stdlib, as the driver: of another it is not known which session of the server a connection is")
	}
	rows, err := sc.QueryText(ctx, "SELECT pg_backend_pid(), pg_is_in_recovery(), current_setting('server_version_num')::int >= 140000")
	switch {
	case err != nil:
		return fmt.Errorf("dblocker: lock_scope=database: asking the server about a new connection: %w", err)
	case len(rows) != 1 || len(rows[0]) != 3:
		return errors.New("dblocker: lock_scope=database: the server does not tell about a new connection what PostgreSQL does")
	case !isFalse(rows[0][1]):
		return errReplica
	case rows[0][0] != session && !sc.HasSessionPooler():
		return errPooler
	}
	if rows[0][0] != session {
		if err := checkSteady(ctx, sc, rows[0][0]); err != nil {
			return err
		}
	}
	sc.LockState = rows[0][0] // a pooler says another number, of its own

	if isFalse(rows[0][2]) || !trySet(ctx, sc, setChecks+" UNION ALL "+setKeepalives) { // a server on some systems cannot look
		trySet(ctx, sc, setKeepalives)
	}
	return nil
}

var errReplica = errors.New("dblocker: lock_scope=database cannot be had on a replica, which only reads: its locks are its own, and no other server's; connect to the primary server")

// setChecks and setKeepalives let the server see that a client is gone: within half a second while a statement runs, from PostgreSQL 14
// on, and after 25 s without an answer of its machine. What is set to less stays.
const (
	setChecks     = "SELECT set_config('client_connection_check_interval', '500', false) WHERE current_setting('client_connection_check_interval') = '0'"
	setKeepalives = "SELECT set_config('tcp_keepalives_' || name, most::text, false) FROM (VALUES ('idle', 10), ('interval', 5), ('count', 3)) AS mosts (name, most) " +
		"WHERE current_setting('tcp_keepalives_' || name)::int > most"
)

func trySet(ctx context.Context, sc *server.Conn, set string) bool {
	_, err := sc.QueryText(ctx, set)
	return err == nil
}

var errPooler = errors.New("dblocker: lock_scope=database cannot be had through a connection pooler such as pgbouncer, which may run each transaction in another session of the server: connect to the server itself; " +
	"or, if it serves each client by one session (pool_mode=session), say pooler=session; or, for single statements and transactions only, pooler=transaction")

// steadyTries is how often the session of a connection behind a pooler is asked for.
const steadyTries = 4

// checkSteady refuses a pooler that has other sessions for the statements of a connection. One that nobody else uses may show that only when
// two connections do.
func checkSteady(ctx context.Context, sc *server.Conn, session string) error {
	for range steadyTries {
		rows, err := sc.QueryText(ctx, "SELECT pg_backend_pid()")
		if err != nil {
			return fmt.Errorf("dblocker: lock_scope=database: asking the server about a new connection: %w", err)
		}
		if len(rows) != 1 || rows[0][0] != session {
			return errNoSession
		}
	}
	return nil
}

var errNoSession = errors.New("dblocker: lock_scope=database: the handle says pooler=session, but the pooler runs the statements of a connection in several sessions of the server: set it to pool_mode=session, or connect to the server itself")

// isFalse reads a value of QueryText.
func isFalse(value string) bool { return value == "false" || value == "f" }
