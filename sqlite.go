package dblocker

import (
	"database/sql/driver"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

var sqliteDialect = &dialect{
	name:     sqlite.Name,
	text:     sqltext.SQLite,
	marks:    []string{"sqlite"},
	bindType: sqlx.QUESTION,
	// A connection is a few file descriptors: there is no server to protect, and
	// a program that works with many on the bare driver must go on to work.
	limits:    poolLimits{maxIdleConns: defaultIdleConns},
	database:  sqlite.Database,
	connector: sqlite.NewConnector,
	setUp:     setUpSQLite,

	stmtCache: defaultStmtCache,
	keepFrom: func(ci driver.Conn) int {
		switch drivers.Package(ci) {
		case "github.com/mattn/go-sqlite3", "modernc.org/sqlite":
			return 0
		}
		return neverKeep
	},
	// https://www.sqlite.org/c3ref/close.html
	stmtsOutliveConns: true,

	leavesRows: func(st sqltext.Statement, query string) bool {
		return st.Kind == sqltext.Read || sqltext.Contains(query, "RETURNING")
	},

	gated:      true,
	begin:      beginSQLite,
	autocommit: sqliteAutocommit,
}
