//go:build ncruces

package compat

import (
	"context"
	"database/sql/driver"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"
	ncruces "github.com/ncruces/go-sqlite3/driver"
	_ "github.com/ncruces/go-sqlite3/vfs/memdb"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// With the tags ncruces and dblocker_noinner all tests have github.com/ncruces/go-sqlite3 in place of mattn/go-sqlite3: both are
// registered as "sqlite3".

var sqlite3Driver = testDriver{title: "ncruces", name: "sqlite3", engine: sqliteEngine, steps: ncrucesSteps,
	quirks: quirks{noEmptyQuery: true, noDoubleQuotes: true, noWeakLevels: true}}

const (
	sqlite3Library = "ncruces/go-sqlite3"
	sqlite3Params  = "_pragma=busy_timeout(%d)&_pragma=journal_mode(%s)" // behind "file:...?"
	sqlite3SyncOff = "_pragma=synchronous(off)"

	sqlite3Combines = false // it has functions that dblocker does not know
)

func sqlite3BadParameter(path string) string { return "file:" + path + "?_txlock=soon" }

type sqlite3Error = *sqlite3.Error

var (
	plainSQLite  = &ncruces.SQLite{}
	hookedSQLite = hookedDriver{}
)

// A hookedDriver is one of the program's own, around the library's.
type hookedDriver struct{ ncruces.SQLite }

func (d hookedDriver) Open(dsn string) (driver.Conn, error) {
	c, err := d.OpenConnector(dsn)
	if err != nil {
		return nil, err
	}
	return c.Connect(context.Background())
}

func (d hookedDriver) OpenConnector(dsn string) (driver.Connector, error) {
	c, err := d.SQLite.OpenConnector(dsn)
	return hookedConnector{c, d}, err
}

type hookedConnector struct {
	driver.Connector
	driver hookedDriver
}

func (c hookedConnector) Driver() driver.Driver { return c.driver }

func (c hookedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	hooked.Add(1)
	return conn, addShout(conn)
}

func addShout(conn any) error {
	return conn.(ncruces.Conn).Raw().CreateFunction("shout", 1, sqlite3.DETERMINISTIC, func(ctx sqlite3.Context, arg ...sqlite3.Value) {
		ctx.ResultText(strings.ToUpper(arg[0].Text()))
	})
}

var ncrucesSteps = []step{
	{"ncruces: a function of the connection", stepNcrucesFunction},
}

func stepNcrucesFunction(s *session) {
	conn := s.conn()
	defer conn.Close()
	s.inner(conn, func(inner any) {
		s.note("register: %s", describeError(addShout(inner)))
	})
	s.query(conn, "SELECT shout(?)", "quiet")
}

// TestNcrucesMemoryDatabase: with the library's VFS for it, all connections have one, as long as the handle is open.
func TestNcrucesMemoryDatabase(t *testing.T) {
	testdb.NoLeaks(t)
	db := open(t, "dblocker", "sqlite3?max_idle_conns=0:file:/ncruces?vfs=memdb")
	for _, text := range []string{"CREATE TABLE t (v)", "INSERT INTO t VALUES (1)", "UPDATE t SET v = v + 1"} {
		if _, err := conn(t, db).ExecContext(t.Context(), text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if got := one(t, db, "SELECT v FROM t"); got != "2" {
		t.Errorf("the row is %s, want 2", got)
	}
}
