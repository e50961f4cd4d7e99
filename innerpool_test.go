package dblocker

import (
	"context"
	"database/sql"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// innerOf returns the server connections of a handle, which it opens.
func innerOf(t *testing.T, handle any) *server.Pool {
	t.Helper()
	b, err := connectorIn(t, handle).retainBackend()
	must(t, err)
	b.Release()
	return &b.Servers
}

func wantConns(t *testing.T, when string, st sql.DBStats, inUse, idle int) {
	t.Helper()
	if st.InUse != inUse || st.Idle != idle || st.OpenConnections != inUse+idle {
		t.Errorf("%s: %d server connections are in use and %d idle of %d; want %d and %d", when, st.InUse, st.Idle, st.OpenConnections, inUse, idle)
	}
}

// TestLoneConnection: work on a SQLite file that needs one connection at a time has one, without a
// sql.DB. When that is there, it has the connection, be it in use or idle, and no other was opened.
func TestLoneConnection(t *testing.T) {
	ctx := context.Background()
	for _, inUse := range []bool{false, true} {
		opened := 0
		db := openHooked(t, "file:"+testdb.SQLite(t)+"?_journal_mode=WAL", func() error { opened++; return nil }, MaxIdleConns(2))
		inner := innerOf(t, db)
		mustExec(t, db, "CREATE TABLE t (v)")
		mustExec(t, db, "INSERT INTO t VALUES (1)")
		conn, err := db.Conn(ctx)
		must(t, err)
		must(t, second(conn.ExecContext(ctx, "CREATE TEMP TABLE own (v)")))
		if !inUse {
			must(t, conn.Close())
		}
		if opened != 1 || inner.HasDB() {
			t.Fatalf("%d connections were opened for one after the other; a sql.DB is there: %v", opened, inner.HasDB())
		}
		st, err := Stats(db)
		must(t, err)
		if !inUse {
			wantConns(t, "idle", st.Server, 0, 1)
			continue
		}
		wantConns(t, "in use", st.Server, 1, 0)
		must(t, second(conn.ExecContext(ctx, "INSERT INTO own VALUES (1)")))
		rows, err := db.QueryContext(ctx, "SELECT v FROM t")
		must(t, err)
		wantConns(t, "two in use", inner.DB().Stats(), 2, 0)
		must(t, conn.Close())
		must(t, rows.Close())
		wantConns(t, "two idle", inner.DB().Stats(), 0, 2)
		if opened != 2 {
			t.Errorf("%d connections were opened for two at a time", opened)
		}
	}
}

// TestLoneConnectionWhileItIsOpened: a second connection that is wanted meanwhile is not kept waiting,
// and then both are in the sql.DB.
func TestLoneConnectionWhileItIsOpened(t *testing.T) {
	testdb.NoLeaks(t)
	dsn := "file:" + testdb.SQLite(t) + "?_journal_mode=WAL"
	mustExec(t, openSQLite(t, "sqlite3-dblocker", dsn), "CREATE TABLE t (v)")
	hook := newSlowHook()
	db := openHooked(t, dsn, hook.hook)
	inner := innerOf(t, db)
	hook.closed.Store(true)
	done := make(chan error, 1)
	go func() { done <- db.Ping() }()
	<-hook.entered
	hook.closed.Store(false)
	rows, err := db.Query("SELECT v FROM t")
	must(t, err)
	wantConns(t, "beside the opening", inner.DB().Stats(), 1, 0)
	close(hook.free)
	must(t, <-done)
	wantConns(t, "after it", inner.DB().Stats(), 1, 1)
	must(t, rows.Close())
	wantConns(t, "at the end", inner.DB().Stats(), 0, 2)
	must(t, db.Close())
	wantConns(t, "closed", inner.DB().Stats(), 0, 0)
}

// TestLoneConnectionIsClosed with the handle, or when it is given back after that, also if the sql.DB
// is asked for in between; and when it is broken.
func TestLoneConnectionIsClosed(t *testing.T) {
	ctx := context.Background()
	dsn := "file:" + testdb.SQLite(t) + "?_journal_mode=WAL"
	var last *sqlite3.SQLiteConn
	isClosed := func() bool { return last.Ping(ctx) != nil }
	open := func() (*Connector, *server.Pool) {
		d := &Driver{name: "sqlite3", inner: &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error { last = c; return nil }}}
		ci, err := d.OpenConnector(dsn)
		must(t, err)
		c := ci.(*Connector)
		return c, innerOf(t, c)
	}

	c, inner := open()
	d, err := inner.Connect(ctx)
	must(t, err)
	d.GiveBack()
	must(t, c.Close())
	if !isClosed() {
		t.Error("an idle connection is open after the handle is closed")
	}

	for _, asked := range []bool{false, true} {
		c, inner = open()
		d, err = inner.Connect(ctx)
		must(t, err)
		must(t, c.Close())
		if isClosed() {
			t.Error("a connection is closed while it is in use")
		}
		if asked {
			inner.DB()
		}
		if _, err := inner.Connect(ctx); err == nil || err.Error() != errClosed.Error() {
			t.Errorf("a closed handle gives another connection: %v", err)
		}
		d.GiveBack()
		if !isClosed() {
			t.Errorf("a connection is open that was given back to a closed handle; the sql.DB was asked for: %v", asked)
		}
	}

	c, inner = open()
	d, err = inner.Connect(ctx)
	must(t, err)
	d.Conn.Fail()
	d.GiveBack()
	if !isClosed() {
		t.Error("a broken connection is open after it was given back")
	}
	first := last
	d, err = inner.Connect(ctx)
	must(t, err)
	d.GiveBack()
	if last == first || isClosed() {
		t.Error("no new connection replaces one that was broken")
	}
	must(t, c.Close())
}

// TestLimitsOfConnectionsNeedASQLDB: options that a sql.DB carries out make one at once.
func TestLimitsOfConnectionsNeedASQLDB(t *testing.T) {
	path := testdb.SQLite(t)
	for options, want := range map[string]bool{
		"":                       false,
		"max_open_conns=5":       true,
		"max_idle_conns=0":       true,
		"max_idle_conns=1":       false,
		"conn_max_lifetime=1h":   true,
		"conn_max_idle_time=30m": true,
	} {
		db := openSQLite(t, "dblocker", "sqlite3?"+options+":"+path)
		if got := innerOf(t, db).HasDB(); got != want {
			t.Errorf("%q: a sql.DB is there: %v; want %v", options, got, want)
		}
	}
}
