package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// Statistics say what a handle has in front of its database. The counters are the
// handle's own, and count only what had to wait: what was granted at once leaves no
// trace.
type Statistics struct {
	Held    int // holds of users' locks now, of all handles on the database
	Waiting int // waits for them

	Locks       WaitStatistics // for users' locks
	Connections WaitStatistics // for a server connection, where max_open_conns bounds their number

	ConnectionsWaiting int // calls that wait for a server connection now

	// With lock_scope=database on a server, Processes are waits for users' locks among processes: at the server and, for the turn to wait there,
	// without a connection. Of a call that asks once, the server does not say whether it had to wait: it counts if its answer came
	// 5 ms later than the fastest. HandOvers are the locks that were had after such a wait: of another process, or what this one was about to give up.
	// On a SQLite file they are waits for users' locks that another process had, or waited for; those at the gate of the file are not counted.
	Processes WaitStatistics
	HandOvers int64

	Spills int64 // sql.Rows that were read into memory to make way for others

	// Batches are the transactions of SQLite in which one caller ran statements of others
	// that waited, Combined how many of those statements it ran, and Alone how many ran by
	// themselves after all, since their transaction could not be committed. See Combine.
	Batches, Combined, Alone int64

	// With durability=group, Syncs are those of the write-ahead log of the file, of all handles on it, and
	// SyncWaits how many calls of this handle have waited for one.
	Syncs, SyncWaits int64

	Statements StatementStatistics // that server connections keep prepared

	Databases DatabaseStatistics // of users who have one each

	// Server are those of the server connections, but for the few of dblocker's own that a
	// busy SQLite file has. What db.Stats counts are client connections. MaxIdle is how many are kept unused at most: 0 if none are, and
	// with {user} in the DSN, unless max_idle_conns is set.
	Server  sql.DBStats
	MaxIdle int
}

// DatabaseStatistics are of the databases of a handle with {user} in its DSN. The other statistics are of all of these together, also of those
// that are closed.
type DatabaseStatistics struct {
	Open    int            // now
	Opened  int64          // since the handle was opened
	Evicted int64          // closed, for want of use or to make room
	Waiting int            // calls that wait for max_open_databases now
	Waits   WaitStatistics // for it
}

// StatementStatistics are of the statements that server connections keep prepared, see [StmtCache]. A statement that could be one of them is
// looked for when it is sent as text, or when the program's own is first used on a connection. What a connection counts while it is in use may come up to 64 lookups later.
type StatementStatistics struct {
	Hits   int64 // it was there
	Misses int64 // it was not: it was sent as text, or prepared first
	Kept   int   // now, on all connections
}

// WaitStatistics count waits that have ended.
type WaitStatistics struct {
	Waits     int64
	Time      time.Duration // of all of them
	Timeouts  int64         // ended by lock_timeout
	Deadlocks int64         // ended with ErrDeadlock
}

// Stats returns the statistics of a handle that was opened through dblocker.
func Stats(db Handle) (Statistics, error) {
	c, b, err := backendOf(db)
	if err != nil {
		return Statistics{}, err
	}
	defer b.Release()
	st := Statistics{
		Locks:       waitStatistics(&c.lockWaits),
		Connections: waitStatistics(&c.connWaits),
		Processes:   waitStatistics(&c.reachStats.WaitStats),
		HandOvers:   c.reachStats.handOvers.Load(),
		Spills:      c.spills.Load(),
		SyncWaits:   c.syncWaits.Load(),
	}
	if c.tenancy == nil {
		st.add(b, b.Servers.Stats())
	} else {
		c.tenancy.addStats(&st)
	}
	if c.tenancy == nil || c.maxIdleConnsSet {
		st.MaxIdle = max(c.limits.MaxIdleConns, 0)
	}
	if b.Servers.Slots != nil {
		st.ConnectionsWaiting = b.Servers.Slots.Waiting()
	}
	st.Held, st.Waiting = b.Users.Count()
	return st, nil
}

// add adds what is of one database.
func (st *Statistics) add(b *backend.Backend, servers sql.DBStats) {
	st.Batches += b.Combining.Batches.Load()
	st.Combined += b.Combining.Calls.Load()
	st.Alone += b.Combining.Alone.Load()
	if b.WAL != nil {
		st.Syncs += b.WAL.Syncs()
	}
	stmts := b.Servers.Stmts()
	st.Statements.Hits += stmts.Hits.Load()
	st.Statements.Misses += stmts.Misses.Load()
	st.Statements.Kept += int(stmts.Kept.Load())
	all := &st.Server
	all.MaxOpenConnections = max(all.MaxOpenConnections, servers.MaxOpenConnections) // the same for all
	all.OpenConnections += servers.OpenConnections
	all.InUse += servers.InUse
	all.Idle += servers.Idle
	all.WaitCount += servers.WaitCount
	all.WaitDuration += servers.WaitDuration
	all.MaxIdleClosed += servers.MaxIdleClosed
	all.MaxIdleTimeClosed += servers.MaxIdleTimeClosed
	all.MaxLifetimeClosed += servers.MaxLifetimeClosed
}

func waitStatistics(w *rwlock.WaitStats) WaitStatistics {
	return WaitStatistics{w.Waits.Load(), time.Duration(w.Time.Load()), w.Timeouts.Load(), w.Deadlocks.Load()}
}

// Inner returns the pool of server connections behind a handle. It is for its statistics
// and limits: what is done with it passes by all locks. Once a program has it, a small read
// takes a little longer, since no connection is kept ready beside that pool any more. [Stats] has the
// same statistics without that.
func Inner(db Handle) (*sql.DB, error) {
	c, b, err := backendOf(db)
	if err != nil {
		return nil, err
	}
	defer b.Release()
	if c.tenancy != nil {
		return nil, errors.New("dblocker: Inner: a handle with a database for each user has a pool for each of them; Stats has the sums, and the options set the limits")
	}
	return b.Servers.DB(), nil
}

// backendOf returns what is behind a handle. It is to be released.
func backendOf(db Handle) (*Connector, *backend.Backend, error) {
	c, _, err := connectorOf(context.Background(), db)
	if err != nil {
		return nil, nil, err
	}
	b, err := c.retainBackend()
	return c, b, err
}
