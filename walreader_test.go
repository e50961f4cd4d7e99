package dblocker

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// openWAL opens a file in WAL mode, with a table t, through dblocker. SQLite itself waits for
// nothing there, not for the disk either: a WALReader begins only if there is much to do in a
// short time.
func openWAL(t *testing.T, options string) (db *sql.DB, path string) {
	t.Helper()
	path = testdb.SQLite(t)
	db = openSQLite(t, "dblocker", "sqlite3?"+options+":file:"+path+"?_busy_timeout=0&_sync=OFF")
	mustExec(t, db, "CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
	mustExec(t, db, "INSERT INTO t VALUES (1, 'one')")
	return db, path
}

// readUntilKept reads until the WALReader of the handle is inside a read.
func readUntilKept(t *testing.T, db *sql.DB) *sqlite.WALReader {
	t.Helper()
	readFirst(t, db) // else there are no connections at all
	w := walReaderOf(t, db)
	callUntil(t, func() { readFirst(t, db) }, func() bool { return w.IsReading() })
	return w
}

// callUntil is waitFor with calls in quick succession, as a WALReader needs them: the pauses of
// waitFor are long on a busy machine.
func callUntil(t *testing.T, call func(), condition func() bool) {
	t.Helper()
	waitFor(t, func() bool {
		for range 2 * sqlite.WALReaderCalls {
			call()
			if condition() {
				return true
			}
		}
		return false
	})
}

func readFirst(t *testing.T, db *sql.DB) {
	t.Helper()
	var v string
	must(t, db.QueryRow("SELECT v FROM t WHERE id = 1").Scan(&v))
}

// checkpoint makes a checkpoint of the whole WAL, which fails at once beside any read.
func checkpoint(t *testing.T, db *sql.DB) (complete bool) {
	t.Helper()
	var busy, frames, done int
	must(t, db.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &done))
	return busy == 0
}

// TestWALReaderMakesWay tests that the read which stays is in nobody's way: while it is
// there, what needs the WAL alone succeeds at once.
func TestWALReaderMakesWay(t *testing.T) {
	testdb.NoLeaks(t)
	db, path := openWAL(t, "")
	other := openSQLite(t, "dblocker", "sqlite3:file:"+path+"?_busy_timeout=0")
	readUntilKept(t, db)
	readUntilKept(t, other)
	if !checkpoint(t, other) {
		t.Error("a checkpoint was kept from the WAL")
	}
	readUntilKept(t, db)
	readUntilKept(t, other)
	mustExec(t, db, "VACUUM")
	readUntilKept(t, db)
	mustExec(t, db, "PRAGMA journal_mode = DELETE")
	mustExec(t, db, "INSERT INTO t VALUES (2, 'two')") // a reader would be in its way
}

// TestWALReaderEndsForOthers tests that the read stays for a short time only, since other
// processes cannot ask for its end; and that it sees what they have written no later.
func TestWALReaderEndsForOthers(t *testing.T) {
	testdb.NoLeaks(t)
	db, path := openWAL(t, "")
	stranger := openSQLite(t, "sqlite3", "file:"+path+"?_busy_timeout=60000")
	w := readUntilKept(t, db)
	mustExec(t, stranger, "UPDATE t SET v = 'another' WHERE id = 1")
	var v string
	must(t, db.QueryRow("SELECT v FROM t WHERE id = 1").Scan(&v))
	if v != "another" {
		t.Errorf("read %q after another handle's write", v)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	reading.Go(func() {
		for ctx.Err() == nil {
			readFirst(t, db)
		}
	})
	if !checkpoint(t, stranger) {
		t.Error("a checkpoint was kept from the WAL for a minute by reads that take no time")
	}
	cancel()
	reading.Wait()
	waitFor(t, func() bool { return !w.IsReading() }) // although nobody reads
}

// TestWALStaysSmall tests that reads beside writes do not let the WAL grow: SQLite begins
// it anew after a checkpoint, which it makes about every 4 MB, that no read was behind.
func TestWALStaysSmall(t *testing.T) {
	testdb.NoLeaks(t)
	db, path := openWAL(t, "")
	readUntilKept(t, db)
	largest := int64(0)
	for range 8000 {
		mustExec(t, db, "UPDATE t SET v = randomblob(4000) WHERE id = 1")
		for range 3 {
			var n int
			must(t, db.QueryRow("SELECT count(*) FROM t").Scan(&n))
		}
		info, err := os.Stat(path + "-wal")
		must(t, err)
		largest = max(largest, info.Size())
	}
	if largest > 8<<20 {
		t.Errorf("the WAL grew to %d bytes", largest)
	}
}

// TestWALReaderIsClosed tests that the handle's files are free after Close, and that rows which
// are open then do not bring the read back.
func TestWALReaderIsClosed(t *testing.T) {
	testdb.NoLeaks(t)
	db, path := openWAL(t, "")
	w := readUntilKept(t, db)
	must(t, db.Close())
	for range 2 * sqlite.WALReaderCalls {
		w.Note()
	}
	if w.HasConn() || w.IsReading() {
		t.Error("the closed handle has a connection")
	}
	files, err := filepath.Glob(path + "-*")
	must(t, err)
	if len(files) > 0 {
		t.Errorf("SQLite has not seen its last connection close: there is still %s", strings.Join(files, ", "))
	}
}

// TestWALReaderKeepsLimits tests that there is none where it would be one connection too
// many.
func TestWALReaderKeepsLimits(t *testing.T) {
	limited, _ := openWAL(t, "max_open_conns=1")
	memory := openSQLite(t, "dblocker", "sqlite3::memory:")
	alone := openSQLite(t, "dblocker", "sqlite3:file:"+testdb.SQLite(t)+"?_locking_mode=EXCLUSIVE")
	mustExec(t, memory, "CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
	mustExec(t, memory, "INSERT INTO t VALUES (1, 'one')")
	mustExec(t, alone, "CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
	mustExec(t, alone, "INSERT INTO t VALUES (1, 'one')")
	for _, db := range []*sql.DB{limited, memory, alone} {
		for range 10 * sqlite.WALReaderCalls {
			readFirst(t, db)
		}
		if w := walReaderOf(t, db); w.HasConn() {
			t.Error("there is one connection more than the handle may have")
		}
	}
}

// TestWALReaderLeavesWritesAlone tests that, one time in sqlite.WALReaderWrites, no read begins
// before the write is over.
func TestWALReaderLeavesWritesAlone(t *testing.T) {
	db, _ := openWAL(t, "")
	w := readUntilKept(t, db)
	alone := 0
	for range 2 * sqlite.WALReaderWrites {
		tx, err := db.Begin()
		must(t, err)
		must(t, tx.QueryRow("SELECT 1").Scan(new(int)))
		for range 3 {
			readFirst(t, db)
		}
		if gateOf(t, db).IsBarred() {
			alone++
			if w.IsReading() {
				t.Error("a read stays beside the write that is to be alone")
			}
		}
		must(t, tx.Rollback())
	}
	if alone != 2 {
		t.Errorf("%d of %d writes were alone, want 2", alone, 2*sqlite.WALReaderWrites)
	}
}

// TestWALReaderTakesAllMarks tests that there come to be as many reads as the WAL has marks,
// and no more.
func TestWALReaderTakesAllMarks(t *testing.T) {
	db, _ := openWAL(t, "")
	w := walReaderOf(t, db)
	callUntil(t, func() {
		mustExec(t, db, "UPDATE t SET v = v || '.' WHERE id = 1")
		readFirst(t, db)
	}, func() bool { return w.HasAllMarks() })
}

// TestWALReaderConnectsBesideWrites: what its connections cost to open, nobody waits for who
// has the gate; and a hook that panics there is not heard of.
func TestWALReaderConnectsBesideWrites(t *testing.T) {
	testdb.NoLeaks(t)
	hook := newSlowHook()
	panics := false
	db := openHooked(t, "file:"+testdb.SQLite(t)+"?_sync=OFF", func() error {
		hook.hook()
		if panics {
			panic("from the hook")
		}
		return nil
	})
	mustExec(t, db, "CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
	mustExec(t, db, "INSERT INTO t VALUES (1, 'one')")
	writer, err := db.Conn(context.Background())
	must(t, err)
	defer writer.Close()
	_, err = writer.ExecContext(context.Background(), "INSERT INTO t VALUES (2, 'two')")
	must(t, err)
	readFirst(t, db) // so that there is a second connection

	hook.closed.Store(true)
	panics = true
	reading, read := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		for {
			readFirst(t, db)
			select {
			case <-reading:
				return
			default:
			}
		}
	}()
	<-hook.entered // it has become worth while
	close(reading)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := writer.ExecContext(ctx, "CREATE TABLE other (v)") // for which the walReaders make way
		done <- err
	}()
	select {
	case err := <-done:
		must(t, err)
	case <-ctx.Done():
		t.Error("a write waits with the gate for a connection of the WALReader")
	}
	close(hook.free)
	<-read
}
