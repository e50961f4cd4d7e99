//go:build !ncruces

package compat

import (
	"strings"

	"github.com/mattn/go-sqlite3"
)

// The driver that is registered as "sqlite3", and what differs with it. The tag ncruces has another: ncruces_test.go.

var sqlite3Driver = testDriver{title: "mattn", name: "sqlite3", params: "?_busy_timeout=5000", engine: sqliteEngine, steps: mattnSteps}

const (
	sqlite3Library = "mattn/go-sqlite3"
	sqlite3Params  = "_busy_timeout=%d&_journal_mode=%s" // behind "file:...?"
	sqlite3SyncOff = "_sync=OFF"

	sqlite3Combines = true
)

func sqlite3BadParameter(path string) string { return path + "?_busy_timeout=soon" }

type sqlite3Error = sqlite3.Error

var (
	plainSQLite  = &sqlite3.SQLiteDriver{}
	hookedSQLite = &sqlite3.SQLiteDriver{ConnectHook: func(conn *sqlite3.SQLiteConn) error {
		hooked.Add(1)
		return conn.RegisterFunc("shout", strings.ToUpper, true)
	}}
)

var mattnSteps = []step{
	{"mattn: a function of the connection", stepMattnFunction},
}

func stepMattnFunction(s *session) {
	conn := s.conn()
	defer conn.Close()
	s.inner(conn, func(inner any) {
		err := inner.(*sqlite3.SQLiteConn).RegisterFunc("shout", strings.ToUpper, true)
		s.note("register: %s", describeError(err))
	})
	s.query(conn, "SELECT shout(?)", "quiet")
}
