package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/databases"
	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

// Internal tests see the inside of a handle through what is in this file, so that a
// change there is not one of many tests. A handle is a Handle, or the driver.Connector
// that it was made of.

func connectorIn(t testing.TB, handle any) *Connector {
	t.Helper()
	if c, ok := handle.(*Connector); ok {
		return c
	}
	c, _, err := connectorOf(context.Background(), handle.(Handle))
	must(t, err)
	return c
}

// openBackend returns what the handle has open; nil if it has not been used yet.
func openBackend(t testing.TB, handle any) *backend.Backend {
	t.Helper()
	return backendIn(connectorIn(t, handle))
}

func backendIn(c *Connector) *backend.Backend {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.backend
}

// lockTableOf returns the users' locks.
func lockTableOf(t testing.TB, handle any) *locks.Table {
	t.Helper()
	return openBackend(t, handle).Users
}

// holdsOf returns who has or waits for a user's lock.
func holdsOf(t testing.TB, handle any) []rwlock.Info {
	t.Helper()
	if openBackend(t, handle) == nil {
		return nil
	}
	return lockTableOf(t, handle).Snapshot()
}

// gateOf returns the gate of the handle's database; nil if it needs none.
func gateOf(t testing.TB, handle any) *gate.Gate {
	t.Helper()
	return openBackend(t, handle).Gate
}

// walReaderOf returns the handle's; nil if there is to be none.
func walReaderOf(t testing.TB, handle any) *sqlite.WALReader {
	t.Helper()
	return openBackend(t, handle).WALReader
}

// statsOf returns the statistics of the inner pool.
func statsOf(t testing.TB, handle any) sql.DBStats {
	t.Helper()
	return openBackend(t, handle).Servers.DB().Stats()
}

// drawFrom takes a connection out of the inner pool, until it is closed.
func drawFrom(t testing.TB, handle any) *sql.Conn {
	t.Helper()
	conn, err := openBackend(t, handle).Servers.DB().Conn(context.Background())
	must(t, err)
	return conn
}

// onServerConn calls f with a connection of the inner pool.
func onServerConn(t testing.TB, handle any, f func(*server.Conn)) {
	t.Helper()
	conn := drawFrom(t, handle)
	defer conn.Close()
	must(t, conn.Raw(func(dc any) error {
		f(dc.(*server.Conn))
		return nil
	}))
}

// What internal/server goes by when it keeps statements.
const (
	customPlans = 5
	maxInVain   = 6
	admitOneOf  = 8
)

// onDrawn calls f with the server connection that a connection of the program has.
func onDrawn(t testing.TB, of *sql.Conn, f func(*server.Conn)) {
	t.Helper()
	must(t, of.Raw(func(dc any) error {
		f(dc.(*conn).drawn.Conn)
		return nil
	}))
}

// serverConnOn makes a server connection of one of the inner driver.
func serverConnOn(t testing.TB, handle any, ci driver.Conn) *server.Conn {
	t.Helper()
	cfg := connectorIn(t, handle).forServers()
	return server.NewConn(ci, &cfg)
}

// lostOf returns how many sessions the handle takes for lost, and barred tells whether
// a section waits for one.
func lostOf(t testing.TB, handle any) (n int, barred bool) {
	t.Helper()
	return openBackend(t, handle).Lost.InUse()
}

// databasesOpen returns those that the process has.
func databasesOpen() (all []*databases.Database) {
	databases.Each(func(d *databases.Database) { all = append(all, d) })
	return all
}

// locksInUse returns which locks, counts and connections of a handle are in use, and how many
// connections its inner pool counts beyond those that are open.
func locksInUse(b *backend.Backend, open int) string {
	var used []string
	add := func(what string, n int) {
		if n != 0 {
			used = append(used, fmt.Sprintf("%s: %d", what, n))
		}
	}
	add("users' locks", len(b.Users.Snapshot()))
	add("the lock of all users", len(b.Users.SnapshotAll()))
	add("slots", b.Servers.Slots.Len())
	if g := b.Gate; g != nil {
		g.InUse(add)
	}
	stats := b.Servers.DB().Stats()
	add("connections in use", stats.InUse)
	add("connections lost by the pool", stats.OpenConnections-open)
	return strings.Join(used, ", ")
}
