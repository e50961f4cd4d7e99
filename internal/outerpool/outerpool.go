// Package outerpool watches the sql.DB that a program has of dblocker.
package outerpool

import (
	"database/sql"
	"log/slog"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/callers"
)

// A Watch watches the sql.DB of the program from inside, which a connector never gets
// to see: the limits that the program has set there are for client connections, and do nothing, or
// harm. Each is logged once, with the option that is meant.
//
// The signs of them are in who opens and closes client connections. To look at the stack costs a
// microsecond, so after the first times it is done now and then only.
type Watch struct {
	Logger *slog.Logger

	open atomic.Int64 // client connections now

	opened, closed atomic.Uint32
	alone          atomic.Int32 // how often in a row the only connection was not kept

	toldLimit, toldLifetime, toldIdle atomic.Bool
}

// How far up database/sql is found from where a client connection is opened, and closed.
const shallow, deep = 4, 10

// Opened is called for each new client connection, by the function that database/sql calls. database/sql has a
// goroutine that opens connections only for those who wait because of SetMaxOpenConns.
func (w *Watch) Opened() {
	const few = 2 // of a handle for one request: its first, and another after an Exec
	w.open.Add(1)
	if n := w.opened.Add(1); n > few && !w.toldLimit.Load() && isSampled(n) && callers.Method(shallow, "connectionOpener") != "" {
		w.tellLimit(0)
	}
}

// ClosedUnused is called for each client connection that is closed though it could be used again. firsts counts the
// first ones of all handles on the database: a program may open a handle for each request.
func (w *Watch) ClosedUnused(firsts *atomic.Uint32) {
	n := w.closed.Add(1)
	if n == 1 {
		n = firsts.Add(1)
	}
	if w.toldLifetime.Load() && w.toldIdle.Load() || !isSampled(n) {
		return
	}
	switch callers.Method(deep, "connectionCleaner", "SetMaxIdleConns", "putConn", "conn") {
	case "connectionCleaner", "conn":
		if w.toldLifetime.CompareAndSwap(false, true) {
			w.Logger.Warn("dblocker: SetConnMaxLifetime or SetConnMaxIdleTime is set on a handle of dblocker, where it closes client connections only, which cost nothing; " +
				"for the connections to the server use the options conn_max_lifetime and conn_max_idle_time")
		}
	case "SetMaxIdleConns":
		w.tellIdle()
	case "putConn":
		// Without SetMaxIdleConns two are kept.
		const inARow = 3
		if w.open.Load() > 1 {
			w.alone.Store(0)
		} else if w.alone.Add(1) >= inARow {
			w.tellIdle()
		}
	}
}

// Gone is called for each client connection that is no more.
func (w *Watch) Gone() { w.open.Add(-1) }

// Open is how many client connections there are.
func (w *Watch) Open() int64 { return w.open.Load() }

// LookAt looks at a handle that the program has shown.
func (w *Watch) LookAt(db any) {
	h, ok := db.(interface{ Stats() sql.DBStats })
	if !ok || w.toldLimit.Load() && w.toldIdle.Load() {
		return
	}
	const kept = 2 // by default
	st := h.Stats()
	if st.MaxOpenConnections > 0 {
		w.tellLimit(st.MaxOpenConnections)
	}
	if st.Idle > kept {
		w.tellIdle()
	}
}

// HasToldLimit tells whether the program was told of a SetMaxOpenConns.
func (w *Watch) HasToldLimit() bool { return w.toldLimit.Load() }

func (w *Watch) tellIdle() {
	if w.toldIdle.CompareAndSwap(false, true) {
		w.Logger.Warn("dblocker: SetMaxIdleConns, or a very short SetConnMaxLifetime, is set on a handle of dblocker, where it is for client connections only, which cost nothing; " +
			"for the connections to the server use the options max_idle_conns and conn_max_lifetime")
	}
}

// tellLimit is for a SetMaxOpenConns; n is 0 if it is not known.
func (w *Watch) tellLimit(n int) {
	if !w.toldLimit.CompareAndSwap(false, true) {
		return
	}
	args := []any{}
	if n > 0 {
		args = append(args, "max_open_conns", n)
	}
	w.Logger.Warn("dblocker: SetMaxOpenConns is set on a handle of dblocker, so that those who wait for a lock take its connections away from others, "+
		"and can block each other for ever; remove it, and use the option max_open_conns", args...)
}

// isSampled tells whether the n-th time is one of those at which the stack is looked at.
func isSampled(n uint32) bool {
	const always, oneOf = 64, 16
	return n <= always || n%oneOf == 0
}
