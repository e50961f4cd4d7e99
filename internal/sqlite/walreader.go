package sqlite

import (
	"cmp"
	"database/sql/driver"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/server"
)

// A WALReader makes the work on a SQLite file in WAL mode cheaper. Whatever reads or
// writes it has to lock one of the WAL's four read marks, by a system call, and to unlock it by
// another; and it takes two more to move a mark after a write. But if a connection of the
// same process has a mark locked already, SQLite only counts (unixShmLock in its
// os_unix.c), and if all four are locked, it takes one of them as it is (walTryBeginRead in
// wal.c). For a small query these calls are more than half of the time, for a small
// write a quarter. So while the program is busy, up to four connections of the
// WALReader's own stay inside a read, each begun after another write, on another mark.
//
// Such reads are in the way of others as any read that takes long: a checkpoint gets no
// further than the oldest, and the WAL grows (https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files).
// Therefore they end:
//
//   - for one of WALReaderWrites of our own writes, whose checkpoint is then not
//     held up, so that the write after it can use the WAL from its start
//   - for statements that do more than to write rows, such as a PRAGMA
//   - after walReaderTime, and then for walReaderPause, for other processes
//
// A nil WALReader does nothing.
type WALReader struct {
	gate      *gate.Gate
	logger    *slog.Logger
	connector walConnector // server, but for tests
	server    walServer

	// seen is the gate's count of writes when the last of the reads began; noRead if there
	// are none, allMarks if they are as many as there are marks.
	seen atomic.Int64

	mu         sync.Mutex // guards what follows; who has it calls SQLite, but opens no connection and waits for nobody
	from       time.Time  // since when calls are counted; it may be in the future, and nothing is done until then
	calls      int        // that found something to do
	timed      bool       // a timer runs that ends the reads
	off        bool       // for good
	connecting bool       // a connection is being opened; then nothing is begun
	begun      int        // so many of reads are begun, the first ones
	reads      [walMarks]walRead
}

// A walRead is a read of a WALReader.
type walRead struct {
	conn walConn     // nil until it is needed
	rows driver.Rows // neither read to their end nor closed
}

// Open prepares a WALReader for a file behind a gate.
func (w *WALReader) Open(g *gate.Gate, c *server.Connector, l *slog.Logger) {
	w.gate, w.logger = g, l
	w.server = walServer{c, l}
	w.connector = &w.server
	w.seen.Store(noRead)
}

const (
	WALReaderCalls  = 16 // within walReaderTime make it worth while
	WALReaderWrites = 64
	walReaderTime   = 100 * time.Millisecond
	walReaderPause  = 10 * time.Millisecond

	walMarks = 4 // https://www.sqlite.org/walformat.html: five, but the first stands for an empty WAL
	noRead   = -1
	allMarks = -2
)

// Note is called when a read of the program has its lock, and after each write.
func (w *WALReader) Note() {
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
	if err := w.begin(&w.reads[w.begun]); err != nil {
		w.failed()
		return
	}
	w.begun++
	w.seen.Store(writes)
	if w.begun == walMarks {
		w.seen.Store(allMarks)
	}
	if !w.timed {
		w.timed = true
		time.AfterFunc(walReaderTime, w.pause)
	}
}

// mayBegin tells whether there may be one read more.
func (w *WALReader) mayBegin() bool {
	return w.begun < walMarks && !w.off && !w.gate.IsBarred() && w.gate.IsWAL()
}

// connect makes sure that the next read has a connection. To open one may take long, so
// meanwhile mu is unlocked. It reports whether there is one, and w as it was before.
func (w *WALReader) connect() bool {
	if w.reads[w.begun].conn != nil {
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
	return i == w.begun
}

func (w *WALReader) openUnlocked() (r walRead, err error) {
	w.connecting = true
	w.mu.Unlock()
	defer func() { // also if the driver ends the goroutine
		w.mu.Lock()
		w.connecting = false
		w.off = w.off || server.IsPanic(err)
	}()
	panicked := server.Contain(w.logger, func() { r.conn, err = w.connector.open() })
	return r, cmp.Or(panicked, err)
}

// failed keeps w from trying again soon: the program does as well without.
func (w *WALReader) failed() {
	w.closeConns()
	w.from = time.Now().Add(time.Second)
}

// begin begins a read. It is called where the program has got what it asked for: no panic of the
// driver is to reach it there.
func (w *WALReader) begin(r *walRead) (err error) {
	if panicked := server.Contain(w.logger, func() { err = r.begin() }); panicked != nil {
		w.off = true
		return panicked
	}
	return err
}

// isBusy counts the call, and tells whether there are many in a short time.
func (w *WALReader) isBusy(now time.Time) bool {
	switch passed := now.Sub(w.from); {
	case passed < 0:
		return false
	case passed > walReaderTime:
		w.from, w.calls = now, 0
	}
	w.calls++
	return w.calls > WALReaderCalls
}

func (w *WALReader) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endReads()
	w.timed = false
	w.from, w.calls = time.Now().Add(walReaderPause), 0
}

// Rest ends the reads.
func (w *WALReader) Rest() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endReads()
}

// IsReading tells whether a read is open, and HasAllMarks whether there are as many as marks.
func (w *WALReader) IsReading() bool   { return w.seen.Load() != noRead }
func (w *WALReader) HasAllMarks() bool { return w.seen.Load() == allMarks }

// HasConn tells whether there is a connection.
func (w *WALReader) HasConn() bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reads[0].conn != nil
}

// Close closes the connections; with off, for good. It returns how many are left: one
// that is being opened will be closed by who opens it.
func (w *WALReader) Close(off bool) (left int) {
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

func (w *WALReader) endReads() {
	w.seen.Store(noRead)
	for ; w.begun > 0; w.begun-- {
		if server.Contain(w.logger, func() { w.reads[w.begun-1].rows.Close() }) != nil {
			w.off = true
		}
	}
}

func (w *WALReader) closeConns() {
	w.endReads()
	for i := range w.reads {
		w.reads[i].close()
	}
}

func (r *walRead) begin() error {
	rows, err := r.conn.read()
	if err != nil {
		return err
	}
	// Where there is no table there is no row either, and no read. Some drivers have no row before they were asked for the columns.
	if err := rows.Next(make([]driver.Value, len(rows.Columns()))); err != nil {
		rows.Close()
		return err
	}
	r.rows = rows
	return nil
}

func (r *walRead) close() {
	if r.conn != nil {
		r.conn.close()
	}
	*r = walRead{}
}
