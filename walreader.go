package dblocker

import (
	"cmp"
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A walReader makes the work on a SQLite file in WAL mode cheaper. Whatever reads or
// writes it has to lock one of the WAL's four read marks, by a system call, and to unlock it by
// another; and it takes two more to move a mark after a write. But if a connection of the
// same process has a mark locked already, SQLite only counts (unixShmLock in its
// os_unix.c), and if all four are locked, it takes one of them as it is (walTryBeginRead in
// wal.c). For a small query these calls are more than half of the time, for a small
// write a quarter. So while the program is busy, up to four connections of the
// walReader's own stay inside a read, each begun after another write, on another mark.
//
// Such reads are in the way of others as any read that takes long: a checkpoint gets no
// further than the oldest, and the WAL grows (https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files).
// Therefore they end:
//
//   - for one of walReaderWrites of our own writes, whose checkpoint is then not
//     held up, so that the write after it can use the WAL from its start
//   - for statements that do more than to write rows, such as a PRAGMA
//   - after walReaderTime, and then for walReaderPause, for other processes
//
// A nil walReader does nothing.
type walReader struct {
	gate      *gate.Gate
	connector *serverConnector

	// seen is the gate's count of writes when the last of the reads began; noRead if there
	// are none, allMarks if they are as many as there are marks.
	seen atomic.Int64

	mu         sync.Mutex // guards what follows; who has it calls SQLite, but opens no connection and waits for nobody
	from       time.Time  // since when calls are counted; it may be in the future, and nothing is done until then
	calls      int        // that found something to do
	timed      bool       // a timer runs that ends the reads
	off        bool       // for good
	connecting bool       // a connection is being opened; then nothing is begun
	open       int        // so many of reads are open, the first ones
	reads      [walMarks]walRead
}

// A walRead is a read of a walReader.
type walRead struct {
	conn *serverConn // not of the pool; nil until it is needed
	stmt *serverStmt // on conn
	rows driver.Rows // of stmt, neither read to their end nor closed
}

const (
	walMarks = 4 // https://www.sqlite.org/walformat.html: five, but the first stands for an empty WAL

	walReaderCalls  = 16 // within walReaderTime make it worth while
	walReaderTime   = 100 * time.Millisecond
	walReaderPause  = 10 * time.Millisecond
	walReaderWrites = 64

	noRead   = -1
	allMarks = -2
)

// useWALReader gives the pool a walReader if its handle may have one: a limit of
// connections leaves none for it, nor does a locking_mode that lets in only one; and what
// cannot write may not be let near the WAL.
func (p *pool) useWALReader(c *Connector) {
	if p.gate == nil || p.readOnly || c.limits.maxOpenConns > 0 {
		return
	}
	if c.dsn == nil || sqltext.Contains(*c.dsn, "locking_mode") {
		return
	}
	p.walReader = &walReader{gate: p.gate, connector: p.connector}
	p.walReader.seen.Store(noRead)
}

// note is called when a read of the program has its lock, and after each write.
func (w *walReader) note() {
	if w == nil {
		return
	}
	writes := w.gate.Writes()
	if seen := w.seen.Load(); seen == writes || seen == allMarks || !w.mu.TryLock() {
		return
	}
	defer w.mu.Unlock()
	if w.connecting || !w.mayBegin() || !w.isBusy(time.Now()) || !w.connect() || !w.mayBegin() {
		return
	}
	if err := w.begin(&w.reads[w.open]); err != nil {
		w.failed()
		return
	}
	w.open++
	w.seen.Store(writes)
	if w.open == walMarks {
		w.seen.Store(allMarks)
	}
	if !w.timed {
		w.timed = true
		time.AfterFunc(walReaderTime, w.pause)
	}
}

// mayBegin tells whether there may be one read more.
func (w *walReader) mayBegin() bool {
	return w.open < walMarks && !w.off && !w.gate.IsBarred() && w.gate.IsWAL()
}

// connect makes sure that the next read has a connection. To open one may take long, so
// meanwhile mu is unlocked. It reports whether there is one, and w as it was before.
func (w *walReader) connect() bool {
	if w.reads[w.open].conn != nil {
		return true
	}
	r, err := w.openUnlocked()
	switch {
	case err != nil:
		w.failed()
		return false
	case w.off || !w.gate.IsWAL(): // somebody wants no connections to be left
		r.close()
		return false
	}
	i := slices.IndexFunc(w.reads[:], func(r walRead) bool { return r.conn == nil })
	w.reads[i] = r
	return i == w.open
}

func (w *walReader) openUnlocked() (r walRead, err error) {
	w.connecting = true
	w.mu.Unlock()
	defer func() { // also if the driver ends the goroutine
		w.mu.Lock()
		w.connecting = false
		w.off = w.off || server.IsPanic(err)
	}()
	panicked := w.connector.cfg.contain(func() { r, err = openWALRead(w.connector) })
	return r, cmp.Or(panicked, err)
}

// failed keeps w from trying again soon: the program does as well without.
func (w *walReader) failed() {
	w.closeConns()
	w.from = time.Now().Add(time.Second)
}

// begin begins a read. It is called where the program has got what it asked for: no panic of the
// driver is to reach it there.
func (w *walReader) begin(r *walRead) (err error) {
	if panicked := w.connector.cfg.contain(func() { err = r.begin() }); panicked != nil {
		w.off = true
		return panicked
	}
	return err
}

// isBusy counts the call, and tells whether there are many in a short time.
func (w *walReader) isBusy(now time.Time) bool {
	switch passed := now.Sub(w.from); {
	case passed < 0:
		return false
	case passed > walReaderTime:
		w.from, w.calls = now, 0
	}
	w.calls++
	return w.calls > walReaderCalls
}

func (w *walReader) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endReads()
	w.timed = false
	w.from, w.calls = time.Now().Add(walReaderPause), 0
}

// rest ends the reads.
func (w *walReader) rest() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endReads()
}

// close closes the connections; with off, for good. It returns how many are left: one
// that is being opened will be closed by who opens it.
func (w *walReader) close(off bool) (left int) {
	if w == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = w.off || off
	w.closeConns()
	if w.connecting {
		return 1
	}
	return 0
}

func (w *walReader) endReads() {
	w.seen.Store(noRead)
	for ; w.open > 0; w.open-- {
		if w.connector.cfg.contain(func() { w.reads[w.open-1].rows.Close() }) != nil {
			w.off = true
		}
	}
}

func (w *walReader) closeConns() {
	w.endReads()
	for i := range w.reads {
		w.reads[i].close()
	}
}

func (r *walRead) begin() error {
	rows, err := r.stmt.QueryContext(context.Background(), nil)
	if err != nil {
		return err
	}
	// Where there is no table there is no row either, and no read.
	if err := rows.Next(make([]driver.Value, 1)); err != nil {
		rows.Close()
		return err
	}
	r.rows = rows
	return nil
}

// openWALRead opens a connection, and waits for nobody before that: the program has one
// open, beside which others are opened, unless it was closed just now. A panic of the
// program's hook is not for the program's call, which is about something else.
func openWALRead(connector *serverConnector) (r walRead, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("dblocker: panic while a connection was opened: %v", p)
		}
	}()
	r.conn, err = connector.open(context.Background(), rwlock.Wait{}, func(ctx context.Context, sc *serverConn) error {
		if _, err := sc.ExecContext(ctx, "PRAGMA busy_timeout = 0", nil); err != nil {
			return err
		}
		r.stmt, err = sc.prepare(ctx, "SELECT 1 FROM sqlite_master")
		return err
	})
	return r, err
}

func (r *walRead) close() {
	if r.stmt != nil {
		r.conn.cfg.contain(func() { r.stmt.Close() })
	}
	if r.conn != nil {
		r.conn.Close()
	}
	*r = walRead{}
}

// makeWay ends the reads of the walReaders, and lets none begin, while h has the gate
// for itself, if those would be in the way of the statement. Those of an ordinary write
// are for one of walReaderWrites only.
func (c *conn) makeWay(h *locks.Hold, ordinary bool) {
	g := h.Gate.Gate()
	if !h.Gate.IsAlone() || ordinary && g.Writes()%walReaderWrites != walReaderWrites-1 {
		return
	}
	g.Bar()
	c.pool.database.gate.Rest()
}
