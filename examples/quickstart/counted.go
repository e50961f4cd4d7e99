package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync/atomic"
)

// All columns run on the inner driver wrapped in a driver that counts its open
// connections: those that cost something, on a server or as file handles.
//
// The number that db.Stats() gives would not do. Through dblocker it counts
// client connections, of which there is one for each operation that runs or
// waits for a lock, and which cost nothing.

// countConnections registers a driver that passes everything on to t's driver
// and counts the connections. On each of them it runs the statement session,
// unless that is "". The name that it returns is for sql.Open.
func countConnections(t target, session string) (string, *gauge, error) {
	db, err := sql.Open(t.driver, t.dsn) // database/sql shows a driver only by way of a handle
	if err != nil {
		return "", nil, err
	}
	defer db.Close()
	d := countingDriver{db.Driver(), new(gauge), session}
	// dblocker recognizes the engine by the driver's name that this one contains.
	name := fmt.Sprintf("%s-counted-%d", t.driver, registered.Add(1))
	sql.Register(name, d)
	return name, d.open, nil
}

var registered atomic.Int64

// A gauge counts what is open now, and remembers the most.
type gauge struct{ now, most atomic.Int64 }

func (g *gauge) up() {
	for n := g.now.Add(1); ; {
		most := g.most.Load()
		if n <= most || g.most.CompareAndSwap(most, n) {
			return
		}
	}
}

func (g *gauge) down()     { g.now.Add(-1) }
func (g *gauge) peak() int { return int(g.most.Load()) }

type countingDriver struct {
	driver.Driver
	open    *gauge
	session string
}

func (d countingDriver) Open(dsn string) (driver.Conn, error) {
	inner, err := d.Driver.Open(dsn)
	if err != nil {
		return nil, err
	}
	conn, ok := inner.(contextConn)
	if !ok {
		inner.Close()
		return nil, fmt.Errorf("the connections of this driver, %T, cannot be counted: they lack methods of contextConn", inner)
	}
	if d.session != "" {
		if _, err := conn.ExecContext(context.Background(), d.session, nil); err != nil {
			inner.Close()
			return nil, err
		}
	}
	d.open.up()
	return countedConn{conn, d.open}, nil
}

// contextConn is what sqlite3, postgres and mysql have in common.
type contextConn interface {
	driver.Conn
	driver.Pinger
	driver.ConnPrepareContext
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
}

// A countedConn passes everything on. The methods that not every driver has give
// the answer that is the same as having none.
type countedConn struct {
	contextConn
	open *gauge
}

func (c countedConn) Close() error {
	c.open.down()
	return c.contextConn.Close()
}

func (c countedConn) CheckNamedValue(nv *driver.NamedValue) error {
	if checker, ok := c.contextConn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(nv)
	}
	return driver.ErrSkip
}

func (c countedConn) ResetSession(ctx context.Context) error {
	if resetter, ok := c.contextConn.(driver.SessionResetter); ok {
		return resetter.ResetSession(ctx)
	}
	return nil
}

func (c countedConn) IsValid() bool {
	validator, ok := c.contextConn.(driver.Validator)
	return !ok || validator.IsValid()
}
