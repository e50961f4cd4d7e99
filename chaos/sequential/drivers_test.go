package sequential

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"

	"github.com/mattn/go-sqlite3"
	_ "modernc.org/sqlite"
)

const driverPanic = "of the driver"

// hookedConn is what the two drivers' connections are.
type hookedConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
}

// A panicking connection panics before or after a statement whose text says so.
type panicking struct{ hookedConn }

// A panickingMattn has AutoCommit too, as mattn/go-sqlite3.
type panickingMattn struct {
	panicking
	mattn *sqlite3.SQLiteConn
}

func (c panickingMattn) AutoCommit() bool { return c.mattn.AutoCommit() }

func (c panicking) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	_, when, asked := strings.Cut(query, ofPanic)
	asked = asked && armed.Load()
	if asked && strings.HasPrefix(when, "before") {
		panic(driverPanic)
	}
	res, err := c.hookedConn.ExecContext(ctx, query, args)
	if asked && err == nil {
		panic(driverPanic)
	}
	return res, err
}

// A hooked driver makes connections of another one's.
type hooked struct {
	driver.Driver
	panics bool
	begin  string // statements for each connection
}

func (d hooked) Open(dsn string) (driver.Conn, error) {
	c, err := d.Driver.Open(dsn)
	if err != nil {
		return nil, err
	}
	if d.begin != "" {
		if _, err := c.(driver.ExecerContext).ExecContext(context.Background(), d.begin, nil); err != nil {
			c.Close()
			return nil, err
		}
	}
	if !d.panics {
		return c, nil
	}
	p := panicking{c.(hookedConn)}
	if mattn, ok := c.(*sqlite3.SQLiteConn); ok {
		return panickingMattn{p, mattn}, nil
	}
	return p, nil
}

func init() {
	for _, name := range []string{"sqlite3", "sqlite"} {
		db, _ := sql.Open(name, "")
		d := db.Driver()
		db.Close()
		sql.Register(name+"-panics", hooked{d, true, ""})
		sql.Register(name+"-small", hooked{d, false, "PRAGMA max_page_count = 60"})
	}
}
