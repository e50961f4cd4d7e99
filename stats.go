package dblocker

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"

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
	Spills      int64          // sql.Rows that were read into memory to make way for a write

	// Server are those of the server connections, but for the few of dblocker's own that a
	// busy SQLite file has. What db.Stats counts are client connections.
	Server sql.DBStats
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
	c, p, err := poolOf(db)
	if err != nil {
		return Statistics{}, err
	}
	defer p.release()
	st := Statistics{
		Locks:       waitStatistics(&c.lockWaits),
		Connections: waitStatistics(&c.connWaits),
		Spills:      c.spills.Load(),
		Server:      p.db.Stats(),
	}
	for _, i := range p.users.users.Snapshot() {
		if i.Waiting {
			st.Waiting++
		} else {
			st.Held++
		}
	}
	return st, nil
}

func waitStatistics(w *rwlock.WaitStats) WaitStatistics {
	return WaitStatistics{w.Waits.Load(), time.Duration(w.Time.Load()), w.Timeouts.Load(), w.Deadlocks.Load()}
}

// A HoldInfo describes who has a user's lock, or waits for it.
type HoldInfo struct {
	User    string // "" for the lock of all users
	Mode    Mode
	Waiting bool
	Kind    string // statement, rows, transaction, session (a transaction written in SQL) or section
	Tag     string

	// Since is when the hold, or the wait, began, and For how long it has lasted. They
	// are zero for a statement that nobody has had to wait for.
	Since time.Time
	For   time.Duration
}

// Holds returns a snapshot of those who have a user's lock in the database of a handle,
// or wait for it, the oldest first.
func Holds(db Handle) ([]HoldInfo, error) {
	_, p, err := poolOf(db)
	if err != nil {
		return nil, err
	}
	defer p.release()
	var holds []HoldInfo
	for _, i := range append(p.users.users.Snapshot(), p.users.all.Snapshot()...) {
		h := HoldInfo{i.Key, Mode(i.Mode), i.Waiting, i.Kind.String(), i.Tag, i.Since, i.For}
		if i.Key == allUsers {
			h.User = ""
		}
		holds = append(holds, h)
	}
	slices.SortStableFunc(holds, func(a, b HoldInfo) int { return cmp.Compare(b.For, a.For) })
	return holds, nil
}

// Inner returns the pool of server connections behind a handle. It is for its statistics
// and limits: what is done with it passes by all locks.
func Inner(db Handle) (*sql.DB, error) {
	_, p, err := poolOf(db)
	if err != nil {
		return nil, err
	}
	defer p.release()
	return p.db, nil
}

// poolOf returns what is behind a handle. The pool is to be released.
func poolOf(db Handle) (*Connector, *pool, error) {
	c, _, err := connectorOf(context.Background(), db)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.open()
	return c, p, err
}
