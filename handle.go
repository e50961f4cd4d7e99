package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/seen"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A Handle is a database handle that was opened through dblocker: a *[sql.DB], a
// *sqlx.DB, or whatever else has their method. Of an ORM take the *sql.DB.
type Handle interface {
	Conn(ctx context.Context) (*sql.Conn, error)
}

// A handle is what the client connections of a Connector have in common, but for what it has open.
type handle struct {
	*config
	connector driver.Connector // the Connector
	texts     *sqltext.Cache
	calls     seen.Set      // places in the program that were warned of
	closed    chan struct{} // closed with the Connector

	outer outerPool
	slow  func(rwlock.SlowWait) // tellSlow, made once

	lockWaits, connWaits rwlock.WaitStats
	spills               atomic.Int64

	rows server.HandleRows

	copiesRows   bool // whether the inner driver reuses the bytes of a row
	plainValuers bool // whether the inner driver leaves a driver.Valuer to database/sql
}

// wait is how the handle's operations wait for a user's lock.
func (c *handle) wait() rwlock.Wait {
	return rwlock.Wait{Timeout: c.lockTimeout, Self: c.selfWait, Closed: c.closed, Stats: &c.lockWaits, Slow: c.slow, Quiet: locks.Quiet}
}
