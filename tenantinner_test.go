package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A closingDriver is SQLite's, and counts its connectors that are not closed.
type closingDriver struct {
	sqlite3.SQLiteDriver
	open atomic.Int64
}

func (d *closingDriver) OpenConnector(dsn string) (driver.Connector, error) {
	d.open.Add(1)
	return closingConnector{d, dsn}, nil
}

type closingConnector struct {
	d   *closingDriver
	dsn string
}

func (c closingConnector) Connect(context.Context) (driver.Conn, error) { return c.d.Open(c.dsn) }
func (c closingConnector) Driver() driver.Driver                        { return c.d }
func (c closingConnector) Close() error                                 { c.d.open.Add(-1); return nil }

// TestConnectorsOfUsersWithoutAFile are closed.
func TestConnectorsOfUsersWithoutAFile(t *testing.T) {
	d := new(closingDriver)
	must(t, Register("sqlite3-closing", d, Dialect("sqlite"), CreateDatabases(false)))
	db, err := sql.Open("sqlite3-closing", filepath.Join(t.TempDir(), "{user}.db"))
	must(t, err)
	defer db.Close()
	before := d.open.Load()
	for user := range 5 {
		if _, err := db.ExecContext(asUser(user+1), "SELECT 1"); !errors.Is(err, ErrNoDatabase) {
			t.Errorf("%v", err)
		}
	}
	if n := d.open.Load(); n != before {
		t.Errorf("%d connectors are open, %d before", n, before)
	}
}

// TestWaitForAPlaceIsOfNoUser in the log.
func TestWaitForAPlaceIsOfNoUser(t *testing.T) {
	if what := new(handle).describeWait(rwlock.SlowWait{Key: placesName}); strings.Contains(what, "user") {
		t.Error(what)
	}
}
