package dblocker

import (
	"context"
	"database/sql/driver"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A walReader makes the reads of a SQLite file in WAL mode cheaper. A read locks the part
// of the WAL that it needs by one system call and unlocks it by another, unless a
// connection of the same process has that lock already: then SQLite only counts
// (unixShmLock in os_unix.c). For a small query these two calls are half of the time. So,
// while the program reads, a connection of the walReader's own stays inside a read of
// the newest state.
//
// That read is in the way of others as any read that takes long: a checkpoint gets no
// further than it, so that the WAL grows (https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files).
// Therefore it ends, and begins no sooner than with a later read of the program:
//
//   - before one of walReaderWrites of our own writes, which can then make the checkpoint
//   - before statements that do more than to write rows, such as a PRAGMA
//   - after walReaderTime, for other processes
//
// A nil walReader does nothing.
type walReader struct {
	gate      *gate
	connector *serverConnector

	// seen is the count of the gate's writes that the read has seen; noRead while
	// there is none.
	seen atomic.Int64

	mu    sync.Mutex // guards what follows; what is called with it waits for nothing
	last  int64      // the count of writes that the last read of the program has seen
	reads int        // of the program that found none, up to after
	after int        // reads from which on a connection is worth it
	off   bool       // for good

	conn *serverConn // not of the pool; nil until it is needed
	stmt *serverStmt // on conn
	rows driver.Rows // of stmt, neither read to their end nor closed; nil while there is no read
	row  [1]driver.Value
	ends bool // a timer runs that ends the read
}

const (
	walReaderAfter  = 100
	walReaderWrites = 64
	walReaderTime   = 50 * time.Millisecond

	noRead = -1
)

// useWALReader gives the pool a walReader if its handle may have one: a limit of
// connections leaves none for it, nor does a locking_mode that lets in only one; and what
// cannot write may not be let near the WAL.
func (p *pool) useWALReader(c *Connector) {
	if p.gate == nil || p.readOnly || p.sharedCache || c.limits.maxOpenConns > 0 {
		return
	}
	if c.dsn == nil || strings.Contains(strings.ToLower(*c.dsn), "locking_mode") {
		return
	}
	p.walReader = &walReader{gate: p.gate, connector: p.connector, last: noRead, after: walReaderAfter}
	p.walReader.seen.Store(noRead)
}

// note is called by a read of the program while it is open, and has its lock. The first
// read after a write changes nothing: the next write may follow.
func (w *walReader) note() {
	if w == nil {
		return
	}
	writes := w.gate.writes.Load()
	if w.seen.Load() == writes || !w.mu.TryLock() {
		return
	}
	defer w.mu.Unlock()
	first := w.last != writes
	w.last = writes
	switch {
	case w.reads < w.after:
		w.reads++
	case first || w.off || w.gate.barred.Load() || w.gate.wal.Load() != walOn:
	case w.renew() == nil:
		w.seen.Store(writes)
	default: // the program does as well without
		w.closeConn()
		w.reads, w.after = 0, 2*w.after
	}
}

// renew begins the read anew.
func (w *walReader) renew() error {
	w.endRead()
	if w.conn == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	rows, err := w.stmt.QueryContext(context.Background(), nil)
	if err != nil {
		return err
	}
	w.rows = rows
	// Where there is no table there is no row either, and no read.
	if err := rows.Next(w.row[:]); err != nil {
		return err
	}
	if !w.ends {
		w.ends = true
		time.AfterFunc(walReaderTime, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ends = false
			w.endRead()
		})
	}
	return nil
}

func (w *walReader) open() error {
	ctx := context.Background()
	ci, err := w.connector.dial(ctx)
	if err != nil {
		return err
	}
	w.conn = newServerConn(ci, w.connector.cfg)
	if _, err := w.conn.ExecContext(ctx, "PRAGMA busy_timeout = 0", nil); err != nil {
		return err
	}
	w.stmt, err = w.conn.prepare(ctx, "SELECT 1 FROM sqlite_master")
	return err
}

// rest ends the read, if there is one.
func (w *walReader) rest() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endRead()
}

func (w *walReader) endRead() {
	if w.rows != nil {
		w.seen.Store(noRead)
		w.rows.Close()
		w.rows = nil
	}
}

// close closes the connection; with off, for good.
func (w *walReader) close(off bool) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = w.off || off
	w.closeConn()
}

func (w *walReader) closeConn() {
	w.endRead()
	if w.stmt != nil {
		w.stmt.Close()
		w.stmt = nil
	}
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

// makeWay ends the reads of the walReaders, and lets none begin, while h has the gate
// for itself, if those would be in the way of the statement.
func (c *conn) makeWay(h *userHold, ordinary bool) {
	g := h.alone
	if g == nil || ordinary && g.writes.Load()%walReaderWrites != walReaderWrites-1 {
		return
	}
	g.barred.Store(true)
	for _, p := range c.pool.database.openPools() {
		p.walReader.rest()
	}
}

// endWrite notes that what had the gate for itself is over.
func (h *userHold) endWrite() {
	if g := h.alone; g != nil {
		h.alone = nil
		g.barred.Store(false)
		g.writes.Add(1)
	}
}
