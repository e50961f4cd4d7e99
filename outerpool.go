package dblocker

import (
	"database/sql"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// An outerPool watches, from inside, the sql.DB that the program has, which a connector never gets
// to see: the limits that the program has set there are for client connections, and do nothing, or
// harm. Each is logged once, with the option that is meant.
//
// The signs of them are in who opens and closes client connections. To look at the stack costs a
// microsecond, so after the first times it is done now and then only.
type outerPool struct {
	open atomic.Int64 // client connections now

	opened, closed atomic.Uint32
	alone          atomic.Int32 // how often in a row the only connection was not kept

	toldLimit, toldLifetime, toldIdle atomic.Bool
}

// noteOpened is called for each new client connection. database/sql has a goroutine that opens
// connections only for those who wait because of SetMaxOpenConns.
func (o *outerPool) noteOpened(c *handle) {
	const few = 2 // of a handle for one request: its first, and another after an Exec
	o.open.Add(1)
	if n := o.opened.Add(1); n > few && !o.toldLimit.Load() && isSampled(n) && calledBy(shallow, "connectionOpener") != "" {
		c.warnOfLimit(0)
	}
}

// noteClosed is called for each client connection that is closed though it could be used again.
func (o *outerPool) noteClosed(c *handle) {
	if o.toldLifetime.Load() && o.toldIdle.Load() || !isSampled(o.closed.Add(1)) {
		return
	}
	switch calledBy(deep, "connectionCleaner", "SetMaxIdleConns", "putConn", "conn") {
	case "connectionCleaner", "conn":
		if o.toldLifetime.CompareAndSwap(false, true) {
			c.logger.Warn("dblocker: SetConnMaxLifetime or SetConnMaxIdleTime is set on a handle of dblocker, where it closes client connections only, which cost nothing; " +
				"for the connections to the server use the options conn_max_lifetime and conn_max_idle_time")
		}
	case "SetMaxIdleConns":
		o.tellIdle(c)
	case "putConn":
		// Without SetMaxIdleConns two are kept.
		const inARow = 3
		if o.open.Load() > 1 {
			o.alone.Store(0)
		} else if o.alone.Add(1) >= inARow {
			o.tellIdle(c)
		}
	}
}

func (o *outerPool) tellIdle(c *handle) {
	if o.toldIdle.CompareAndSwap(false, true) {
		c.logger.Warn("dblocker: SetMaxIdleConns, or a very short SetConnMaxLifetime, is set on a handle of dblocker, where it is for client connections only, which cost nothing; " +
			"for the connections to the server use the options max_idle_conns and conn_max_lifetime")
	}
}

// lookAt looks at a handle that the program has shown.
func (o *outerPool) lookAt(c *handle, st sql.DBStats) {
	const kept = 2 // by default
	if st.MaxOpenConnections > 0 {
		c.warnOfLimit(st.MaxOpenConnections)
	}
	if st.Idle > kept {
		o.tellIdle(c)
	}
}

// warnOfLimit warns, once, of SetMaxOpenConns.
func (c *handle) warnOfLimit(n int) {
	if !c.outer.toldLimit.CompareAndSwap(false, true) {
		return
	}
	args := []any{}
	if n > 0 {
		args = append(args, "max_open_conns", n)
	}
	c.logger.Warn("dblocker: SetMaxOpenConns is set on a handle of dblocker, so that those who wait for a lock take its connections away from others, "+
		"and can block each other for ever; remove it, and use the option max_open_conns", args...)
}

// isSampled tells whether the n-th time is one of those at which the stack is looked at.
func isSampled(n uint32) bool {
	const always, oneOf = 64, 16
	return n <= always || n%oneOf == 0
}

// calledBy returns which of these methods of sql.DB, or of functions that they have, is nearest up
// the stack; "" if none is.
func calledBy(depth int, methods ...string) string {
	var pcs stack
	runtime.Callers(3, pcs[:depth])
	names, ok := seenStacks.Load(pcs)
	if !ok {
		names = pcs.methods()
		if seenStacks.count.Add(1) <= maxSeenStacks {
			seenStacks.Store(pcs, names)
		}
	}
	for _, name := range names.([]string) {
		if slices.Contains(methods, name) {
			return name
		}
	}
	return ""
}

// A stack is the innermost calls of a goroutine.
type stack [deep]uintptr

// How far up database/sql is found from where a client connection is opened, and closed.
const shallow, deep = 4, 10

// seenStacks has the methods of the stacks that were looked at, since to find out names costs
// more than the rest.
var seenStacks struct {
	sync.Map // of []string by stack
	count    atomic.Int64
}

const maxSeenStacks = 1000

// methods returns the methods of sql.DB on the stack, the innermost first.
func (s stack) methods() (names []string) {
	frames := runtime.CallersFrames(s[:slices.Index(append(s[:], 0), 0)])
	for {
		frame, more := frames.Next()
		if name, ok := strings.CutPrefix(frame.Function, "database/sql.(*DB)."); ok {
			name, _, _ = strings.Cut(name, ".")
			names = append(names, name)
		}
		if !more {
			return names
		}
	}
}
