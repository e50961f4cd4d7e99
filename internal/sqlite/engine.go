package sqlite

import (
	"database/sql/driver"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/dsnparts"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// Engine is SQLite.
var Engine = &server.Engine{
	Name:     Name,
	Text:     sqltext.SQLite,
	Marks:    []string{"sqlite"},
	BindType: sqlx.QUESTION,
	// A connection is a few file descriptors: there is no server to protect, and
	// a program that works with many on the bare driver must go on to work.
	Limits:       server.Limits{MaxIdleConns: server.DefaultIdleConns},
	Database:     database,
	NewConnector: newConnector,
	SetUp:        setUp,

	StmtCache: server.DefaultStmtCache,
	KeepFrom: func(ci driver.Conn) int {
		switch drivers.Package(ci) {
		case "github.com/mattn/go-sqlite3", "modernc.org/sqlite":
			return 0
		}
		return server.NeverKeep
	},
	IsOutdated: openedReadOnly,

	// https://www.sqlite.org/c3ref/close.html
	StmtsOutliveConns: true,

	LeavesRows: func(st sqltext.Statement, query string) bool {
		return st.Kind == sqltext.Read || sqltext.Contains(query, "RETURNING")
	},

	ParamNames: dsnparts.QueryNames,
	Example:    "sqlite3?%s=%s:app.db",

	Gated:      true,
	Begin:      begin,
	Autocommit: autocommit,
}
