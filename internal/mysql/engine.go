package mysql

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// Engine is MySQL and MariaDB.
var Engine = &server.Engine{
	Name:     "mysql",
	Text:     sqltext.MySQL,
	Marks:    []string{"mysql", "mariadb"},
	BindType: sqlx.QUESTION,
	Limits: server.Limits{
		// The server's max_connections is 151 by default: leave some to others.
		// https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html
		MaxOpenConns: 120,
		MaxIdleConns: server.DefaultIdleConns,
		// Middleware closes connections after five minutes, says the driver:
		// https://github.com/go-sql-driver/mysql#important-settings
		ConnMaxLifetime: 3 * time.Minute,
		ConnMaxIdleTime: 5 * time.Minute,
	},
	Database:         database,
	LimitStatements:  limitStatements,
	Locks:            locks,
	Identify:         identify,
	Survivors:        survivors,
	TellsTx:          tellsTx,
	AsksTx:           true,
	EnforcesReadOnly: true,

	CloseTells:          true,
	SavepointBeginsNone: true,
	HidesBackslashes:    hidesBackslashes,
	ParamNames:          paramNames,
	Example:             "mysql?%s=%s:user@tcp(host:3306)/app",

	StmtCache: server.DefaultStmtCache,
	KeepFrom: func(ci driver.Conn) int {
		// Without arguments the driver uses the text protocol, which gives other
		// types; with interpolateParams always.
		if drivers.Package(ci) != "github.com/go-sql-driver/mysql" || drivers.Flag(ci, "InterpolateParams") {
			return server.NeverKeep
		}
		return 1
	},
	// ER_UNKNOWN_STMT_HANDLER, ER_NEED_REPREPARE; ER_MAX_PREPARED_STMT_COUNT_REACHED.
	// Nothing was executed then.
	// https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
	IsStale:  func(err error) bool { n := ErrorNumber(err); return n == 1243 || n == 1615 },
	IsFull:   func(err error) bool { return ErrorNumber(err) == 1461 },
	KeepsFor: time.Minute, // for a trigger that changes the session
}

// limitStatements sets the limit for all statements on MariaDB, which
// counts in seconds, and for SELECT on MySQL, which knows no other and counts in
// milliseconds:
// https://mariadb.com/docs/server/ha-and-performance/optimization-and-tuning/query-optimizations/aborting-statements
// https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html#sysvar_max_execution_time
func limitStatements(ctx context.Context, sc *server.Conn, d time.Duration) error {
	version, err := version(ctx, sc)
	if err != nil {
		return err
	}
	name, value := "max_execution_time", fmt.Sprint(max(1, d.Milliseconds()))
	if strings.Contains(version, "MariaDB") {
		name, value = "max_statement_time", fmt.Sprintf("%f", max(1e-6, d.Seconds()))
	}
	if d == 0 {
		value = "DEFAULT"
	}
	_, err = sc.ExecContext(ctx, "SET SESSION "+name+" = "+value, nil)
	return err
}

// version asks once for each connection.
func version(ctx context.Context, sc *server.Conn) (string, error) {
	if sc.ServerVersion != "" {
		return sc.ServerVersion, nil
	}
	rows, err := sc.QueryText(ctx, "SELECT VERSION()")
	if err != nil {
		return "", err
	}
	if len(rows) != 1 {
		return "", io.EOF
	}
	sc.ServerVersion = rows[0][0]
	return sc.ServerVersion, nil
}

// identify asks for the client's port besides the number: a server that was
// restarted gives the same numbers anew, and the other servers behind one address
// have them too.
func identify(ctx context.Context, sc *server.Conn) (peer server.Peer, err error) {
	rows, err := sc.QueryText(ctx, "SELECT id, host FROM information_schema.processlist WHERE id = CONNECTION_ID()")
	if err == nil && len(rows) == 1 && len(rows[0]) >= 2 {
		peer.Session = server.Session{ID: rows[0][0], Client: rows[0][1]}
	}
	return peer, err
}

// survivors kills what it finds: the server does not notice that a client is
// gone before the statement ends by itself. A session is in the list until it has
// been rolled back.
// https://mariadb.com/docs/server/reference/sql-statements/administrative-sql-statements/kill
func survivors(ctx context.Context, sc *server.Conn, lost []server.Session) ([]server.Session, error) {
	// Id, User, Host, and so on; information_schema would make a temporary table.
	rows, err := sc.QueryText(ctx, "SHOW PROCESSLIST")
	if err != nil {
		return nil, err
	}
	var alive []server.Session
	for _, row := range rows {
		if len(row) < 3 {
			return nil, fmt.Errorf("SHOW PROCESSLIST has %d columns", len(row))
		}
		s := server.Session{ID: row[0], Client: row[2]}
		if !slices.Contains(lost, s) {
			continue
		}
		alive = append(alive, s)
		if strings.Contains(s.Client, ":") { // else a Unix socket, and it may be a stranger
			// Should it fail, the session is still there at the next look.
			sc.ExecContext(ctx, "KILL "+s.ID, nil)
		}
	}
	return alive, nil
}
