package callers

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"

	"github.com/calmdocs/dblocker/internal/fakedriver"
)

// A lookout notes what Taker and EntryPoint say where database/sql calls.
type lookout struct {
	driver.Connector
	taken, called Entry
}

func (l *lookout) Connect(ctx context.Context) (driver.Conn, error) {
	l.taken = Taker()
	c, err := l.Connector.Connect(ctx)
	return &lookoutConn{c, l}, err
}

type lookoutConn struct {
	driver.Conn
	l *lookout
}

// look is as far from the program as what asks in dblocker.
func (c *lookoutConn) look() { c.l.called = EntryPoint() }

func (c *lookoutConn) ResetSession(context.Context) error {
	c.l.taken = Taker()
	return nil
}

func (c *lookoutConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	c.look()
	return driver.RowsAffected(1), nil
}

func (c *lookoutConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	c.look()
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}

func (c *lookoutConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.look()
	return c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
}

// TestEntries: where database/sql takes a connection, be it a new one or one of its pool, Taker knows as much of what the
// program has called as EntryPoint knows later, in the call.
func TestEntries(t *testing.T) {
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for what, do := range map[string]struct {
		call func(db *sql.DB)
		want Entry
	}{
		"DB.Exec":    {func(db *sql.DB) { must(db.ExecContext(ctx, "x")) }, Handle},
		"DB.Prepare": {func(db *sql.DB) { must(db.PrepareContext(ctx, "x")) }, Handle},
		"DB.BeginTx": {func(db *sql.DB) {
			tx, err := db.BeginTx(ctx, nil)
			must(tx, err)
			tx.Rollback()
		}, Handle},
		"Conn.Exec": {func(db *sql.DB) {
			c, err := db.Conn(ctx)
			must(c, err)
			must(c.ExecContext(ctx, "x"))
			c.Close()
		}, Other},
		"Conn.BeginTx": {func(db *sql.DB) {
			c, err := db.Conn(ctx)
			must(c, err)
			must(c.BeginTx(ctx, nil))
		}, Other},
	} {
		t.Run(what, func(t *testing.T) {
			l := &lookout{Connector: fakedriver.NewServer(fakedriver.Full()).Connector()}
			db := sql.OpenDB(l)
			defer db.Close()
			must(nil, db.PingContext(ctx)) // which makes a connection
			for _, made := range []bool{false, true} {
				l.taken, l.called = Unknown, Unknown
				if made {
					db.SetMaxIdleConns(-1) // which closes it
				}
				do.call(db)
				if l.taken != do.want || l.called != do.want {
					t.Errorf("connection made %v: it is %d where the connection is taken, %d in the call; want %d", made, l.taken, l.called, do.want)
				}
			}
		})
	}
}
