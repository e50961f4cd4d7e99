//go:build unix

package processes

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/lib/pq"
	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker"
	own "github.com/calmdocs/dblocker/internal/mysql"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// An engine is what the processes and the faults must know of a kind of database.
type engine struct {
	name    string
	drivers []string // by turns, of the processes

	server *ownServer                // nil where there is none
	file   func(t testing.TB) string // of the database, where there is no server

	trigger string // enters the ID of each write in the journal
	marks   bool   // arguments are $1, $2
	levels  []sql.IsolationLevel
	begins  []string // of transactions in SQL

	returning string // writes with a Query: user, ID
	slow      string // is true, after a while

	sessions string // the sessions of the database
	kill     string // ends one
	locks    func(db *sql.DB, database string) (int, error)
	byHand   [2]string // takes and gives up a lock of the engine's own, of the session
}

var engines = []*engine{postgres, mariaDB, sqlite}

var postgres = &engine{
	name:      "postgres",
	drivers:   []string{"postgres", "pgx"},
	server:    &ownServer{engine: testdb.PostgreSQL},
	trigger:   "CREATE FUNCTION enter() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO journal VALUES (new.last); RETURN NULL; END $$; CREATE TRIGGER enter AFTER UPDATE ON registers FOR EACH ROW EXECUTE FUNCTION enter()",
	marks:     true,
	levels:    []sql.IsolationLevel{sql.LevelDefault, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable},
	begins:    []string{"BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION ISOLATION LEVEL SERIALIZABLE", "BEGIN"},
	returning: "UPDATE registers SET n = n + 1, last = '%[2]s' WHERE id = %[1]d RETURNING n, last",
	slow:      " AND pg_sleep(0.05)::text = ''",
	sessions:  "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
	kill:      "SELECT pg_terminate_backend(%d)",
	locks: func(db *sql.DB, _ string) (n int, err error) {
		err = db.QueryRow("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&n)
		return n, err
	},
	byHand: [2]string{"SELECT pg_advisory_lock(%d)", "SELECT pg_advisory_unlock(%d)"},
}

var mariaDB = &engine{
	name:    "mysql",
	drivers: []string{"mysql"},
	server:  &ownServer{engine: testdb.MariaDB},
	trigger: "CREATE TRIGGER enter AFTER UPDATE ON registers FOR EACH ROW INSERT INTO journal VALUES (new.last)",
	levels:  []sql.IsolationLevel{sql.LevelDefault, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable},
	begins:  []string{"START TRANSACTION", "BEGIN"},
	returning: "INSERT INTO registers (id, n, last) VALUES (%[1]d, 0, '') " +
		"ON DUPLICATE KEY UPDATE n = n + 1, last = '%[2]s' RETURNING n, last",
	slow:     " AND SLEEP(0.05) = 0",
	sessions: "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
	kill:     "KILL CONNECTION %d",
	locks: func(db *sql.DB, database string) (n int, err error) {
		names := own.LockNames(database, scope.KeyOfAll(""), own.DefaultReaders, true)
		for user := range users {
			names = append(names, own.LockNames(database, scope.Key("", tag(user)), own.DefaultReaders, false)...)
		}
		err = db.QueryRow("SELECT (IS_USED_LOCK('" + strings.Join(names, "') IS NOT NULL) + (IS_USED_LOCK('") + "') IS NOT NULL)").Scan(&n)
		return n, err
	},
	byHand: [2]string{"SELECT GET_LOCK('by hand %d', 10)", "SELECT RELEASE_LOCK('by hand %d')"},
}

var sqlite = &engine{
	name:    "sqlite",
	drivers: []string{"sqlite3"},
	file: func(t testing.TB) string {
		// SQLite itself waits for who repairs the log after a process was killed, and for a reader who looks again at an index that was half
		// written: longer than a process is frozen.
		return testdb.SQLite(t) + "?_journal_mode=WAL&_synchronous=off&_busy_timeout=5000"
	},
	trigger:   "CREATE TRIGGER enter AFTER UPDATE ON registers BEGIN INSERT INTO journal VALUES (new.last); END",
	levels:    []sql.IsolationLevel{sql.LevelDefault},
	begins:    []string{"BEGIN IMMEDIATE", "BEGIN"},
	returning: "UPDATE registers SET n = n + 1, last = '%[2]s' WHERE id = %[1]d RETURNING n, last",
	slow:      " AND (WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 100000) SELECT COUNT(*) FROM c) > 0",
}

// schema makes a register for each user. Whatever writes to one is, in the same transaction, entered in the journal.
func (e *engine) schema() []string {
	statements := []string{
		"CREATE TABLE registers (id INTEGER PRIMARY KEY, n BIGINT NOT NULL, last VARCHAR(10) NOT NULL)",
		"CREATE TABLE items (i INTEGER PRIMARY KEY)",
		"INSERT INTO items VALUES (1), (2), (3), (4)",
		"CREATE TABLE journal (id VARCHAR(10) NOT NULL)",
		e.trigger,
	}
	for user := range users {
		statements = append(statements, fmt.Sprintf("INSERT INTO registers VALUES (%d, 0, '')", user))
	}
	return statements
}

// tag is a user as dblocker is told.
func tag(user int) string { return fmt.Sprintf("u%d", user) }

// arguments writes those of a text as the engine wants them.
func (e *engine) arguments(query string) string {
	for i := 1; e.marks && strings.Contains(query, "?"); i++ {
		query = strings.Replace(query, "?", fmt.Sprintf("$%d", i), 1)
	}
	return query
}

// reason names the reason of an error that faults explain; "" if they do not.
func reason(err error) string {
	var le *dblocker.LockError
	switch {
	case err == nil, errors.Is(err, sql.ErrTxDone):
		return "ok" // a Rollback behind a Commit, or behind the end of the context
	case errors.Is(err, dblocker.ErrDeadlock):
		return "deadlock"
	case errors.Is(err, dblocker.ErrLockTimeout):
		return "lock_timeout"
	case errors.Is(err, dblocker.ErrLockLost):
		return "lock lost"
	case errors.As(err, &le):
		return "context ended while waiting"
	case isContexts(err), errors.Is(err, dblocker.ErrReleased):
		return "context ended"
	case errors.Is(err, dblocker.ErrRolledBack):
		return "transaction ended before"
	}
	return faultOf(err)
}

func faultOf(err error) string {
	var (
		pe *pq.Error
		pg *pgconn.PgError
		me *mysql.MySQLError
		se sqlite3.Error
		ne net.Error
	)
	switch {
	case errors.As(err, &se):
		return sqliteCode(se)
	case errors.As(err, &pe):
		return sqlState(string(pe.Code))
	case errors.As(err, &pg):
		return sqlState(pg.Code)
	case errors.As(err, &me):
		return mysqlNumber(me.Number)
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &ne),
		errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed), errors.Is(err, mysql.ErrInvalidConn),
		err.Error() == "bad connection", strings.HasSuffix(err.Error(), "conn closed"):
		return "connection lost"
	}
	return ""
}

func sqlState(code string) string {
	switch code {
	case "57014": // query_canceled
		return "statement cancelled"
	case "57P01", "57P02", "57P03": // admin_shutdown, crash_shutdown, cannot_connect_now
		return "connection lost"
	case "25P02": // in_failed_sql_transaction
		return "transaction ended before"
	case "40001": // of SERIALIZABLE, which also sees what the locks exclude
		return "serialization"
	}
	return ""
}

// sqliteCode knows above all no "database is locked".
func sqliteCode(err sqlite3.Error) string {
	switch {
	case err.Code == sqlite3.ErrInterrupt:
		return "statement cancelled"
	case strings.HasSuffix(err.Error(), "no transaction is active"): // a cancelled statement has ended it
		return "transaction ended before"
	}
	return ""
}

func mysqlNumber(n uint16) string {
	switch n {
	case 1317: // ER_QUERY_INTERRUPTED
		return "statement cancelled"
	case 1053, 1927: // ER_SERVER_SHUTDOWN, ER_CONNECTION_KILLED
		return "connection lost"
	}
	return ""
}
