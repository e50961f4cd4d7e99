package chaos

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/lib/pq"
	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// An engine is what the requests and the faults must know of a kind of database.
type engine struct {
	name    string
	driver  string
	options string // of dblocker's
	server  bool   // not in this process
	journal string // in which readers and writers wait for each other; else ""
	waits   bool   // its driver returns no earlier than the server has ended a cancelled statement

	// open makes a new database. server is nil where there is none.
	open func(t testing.TB) (dsn string, server *testdb.PrivateServer)

	trigger   string // enters the ID of each write in the journal
	begin     string // of a read-write transaction in SQL
	mark      string // for the first argument of a statement
	bound     string // is bump, with ID and user as arguments; "" if that is not easily said
	returning string // writes, and returns the register; with user and ID
	slow      string // is true after some 50 ms; to be added to a WHERE

	sessions string // lists the IDs of the database's other sessions
	idle     string // leaves those that are at work out of the list
	kill     string // ends the session %d

	// allowed names the error of a fault if it is one of this engine's.
	allowed func(err error) string
}

// bump is a write without a read: with user and ID.
const bump = "UPDATE registers SET n = n + 1, trail = concat('%[2]s', substr(trail, 1, 186)) WHERE id = '%[1]d'"

var engines = []*engine{
	sqlite("sqlite", "", ""),
	sqlite("sqlite without WAL", "DELETE", ""),
	sqlite("sqlite with group sync", "", "&durability=group"),
	{
		name:   "postgres",
		driver: "postgres",
		server: true,
		waits:  true,
		open: func(t testing.TB) (string, *testdb.PrivateServer) {
			server := testdb.PrivatePostgres(t)
			return server.NewDatabase(t).URL(), server
		},
		trigger: `CREATE FUNCTION enter() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN INSERT INTO journal VALUES (substr(new.trail, 1, 6)); RETURN new; END';
			CREATE TRIGGER enter AFTER UPDATE ON registers FOR EACH ROW EXECUTE FUNCTION enter()`,
		begin:     "BEGIN",
		mark:      "$1",
		returning: bump + " RETURNING n, trail",
		slow:      " AND pg_sleep(0.05)::text = ''",
		sessions:  "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
		kill:      "SELECT pg_terminate_backend(%d)",
		allowed:   postgresFault,
	},
	{
		name:   "mysql",
		driver: "mysql",
		server: true,
		open: func(t testing.TB) (string, *testdb.PrivateServer) {
			server := testdb.PrivateMySQL(t)
			return server.NewDatabase(t).DSN() + "?multiStatements=true", server
		},
		trigger: "CREATE TRIGGER enter AFTER UPDATE ON registers FOR EACH ROW INSERT INTO journal VALUES (substr(new.trail, 1, 6))",
		begin:   "START TRANSACTION",
		mark:    "?",
		returning: "INSERT INTO registers (id, n, trail) VALUES ('%[1]d', 0, '') " +
			"ON DUPLICATE KEY UPDATE n = n + 1, trail = concat('%[2]s', substr(trail, 1, 186)) RETURNING n, trail",
		slow:     " AND SLEEP(0.05) = 0",
		sessions: "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
		idle:     " AND command = 'Sleep'",
		kill:     "KILL CONNECTION %d",
		allowed:  mysqlFault,
	},
}

// sqlite is the engine with a journal mode, "" is the default, WAL; and with options.
func sqlite(name, journal, options string) *engine {
	return &engine{
		name:    name,
		driver:  "sqlite3",
		options: options,
		journal: journal,
		waits:   true,
		open: func(t testing.TB) (string, *testdb.PrivateServer) {
			// SQLite waits for nothing: all waiting is dblocker's. In WAL mode it waits 100 ms, since a
			// reader who finds the index of the WAL half written takes the write lock for a moment.
			params := "?_busy_timeout=100"
			if journal != "" {
				params = "?_busy_timeout=0&_journal_mode=" + journal
			}
			if options == "" {
				params += "&_synchronous=off"
			}
			return testdb.SQLite(t) + params, nil
		},
		trigger:   "CREATE TRIGGER enter AFTER UPDATE ON registers BEGIN INSERT INTO journal VALUES (substr(new.trail, 1, 6)); END",
		begin:     "BEGIN IMMEDIATE",
		mark:      "?",
		bound:     "UPDATE registers SET n = n + 1, trail = concat(?, substr(trail, 1, 186)) WHERE id = ?",
		returning: bump + " RETURNING n, trail",
		slow:      " AND (WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 100000) SELECT COUNT(*) FROM c) > 0",
		allowed:   sqliteFault,
	}
}

// schema makes a register for each user, and rows to join them with, so that a
// query returns several. Whatever writes to a register is, in the same transaction,
// entered in the journal.
func (e *engine) schema() []string {
	statements := []string{
		"CREATE TABLE registers (id VARCHAR(10) PRIMARY KEY, n BIGINT NOT NULL, trail VARCHAR(200) NOT NULL)",
		"CREATE TABLE items (i INTEGER PRIMARY KEY)",
		"INSERT INTO items VALUES (1), (2), (3), (4)",
		"CREATE TABLE journal (id VARCHAR(10) PRIMARY KEY)",
		e.trigger,
	}
	for user := range users {
		statements = append(statements, fmt.Sprintf("INSERT INTO registers VALUES ('%d', 0, '')", user))
	}
	return statements
}

func readQuery(user int) string {
	return fmt.Sprintf("SELECT n, trail FROM registers WHERE id = '%d'", user)
}

// itemsQuery returns the register four times.
func itemsQuery(user int) string {
	return fmt.Sprintf("SELECT n, trail FROM registers, items WHERE id = '%d' ORDER BY i", user)
}

func writeQuery(user int, r register) string {
	return fmt.Sprintf("UPDATE registers SET n = %d, trail = '%s' WHERE id = '%d'", r.n, r.trail, user)
}

func sqliteFault(err error) string {
	if errors.Is(err, dblocker.ErrRolledBack) {
		return "transaction ended before"
	}
	var se sqlite3.Error
	if !errors.As(err, &se) {
		return ""
	}
	if strings.HasSuffix(se.Error(), "no transaction is active") {
		return "transaction ended before" // by the cancelled statement in it
	}
	if se.Code == sqlite3.ErrInterrupt {
		return "statement cancelled"
	}
	return "" // above all "database is locked"
}

func postgresFault(err error) string {
	var pe *pq.Error
	if !errors.As(err, &pe) {
		return networkFault(err)
	}
	switch pe.Code {
	case "57014": // query_canceled
		return "statement cancelled"
	case "57P01", "57P02", "57P03": // admin_shutdown, crash_shutdown, cannot_connect_now
		return "connection lost"
	}
	return ""
}

func mysqlFault(err error) string {
	var me *mysql.MySQLError
	switch {
	case errors.Is(err, mysql.ErrInvalidConn), err.Error() == "bad connection": // the driver's own words
		return "connection lost"
	case !errors.As(err, &me):
		return networkFault(err)
	}
	switch me.Number {
	case 1317: // ER_QUERY_INTERRUPTED
		return "statement cancelled"
	case 1053, 1927: // ER_SERVER_SHUTDOWN, ER_CONNECTION_KILLED
		return "connection lost"
	}
	return ""
}

// networkFault names the errors that do not come from the server but from the lack
// of it.
func networkFault(err error) string {
	var ne net.Error
	switch {
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &ne),
		strings.Contains(err.Error(), "that the section is pinned to was lost"):
		return "connection lost"
	}
	return ""
}

// killSession ends one of the sessions of the database, as an administrator would,
// and tells whether there was one. The server may just be down.
func (e *engine) killSession(dsn string, choose func(n int) int) bool {
	admin, err := sql.Open(e.driver, dsn)
	if err != nil {
		return false
	}
	defer admin.Close()
	query := e.sessions
	if !grace && !e.waits {
		query += e.idle
	}
	ids, err := column[int64](admin, query)
	if err != nil || len(ids) == 0 {
		return false
	}
	// An error means that the session has ended by itself.
	_, err = admin.Exec(fmt.Sprintf(e.kill, ids[choose(len(ids))]))
	return err == nil
}

// column is the result of a query with one column.
func column[T any](db *sql.DB, query string) (values []T, err error) {
	rows, err := db.Query(query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, rows.Err()
}
