package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestFirstAndLastConnections opens and closes handles on one file beside each other, so
// that again and again one has the first connection to it while another has had the last.
// SQLite itself waits for nothing. What openJournal lets it wait for is rare enough here.
func TestFirstAndLastConnections(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			dsn := "file:" + testdb.SQLite(t) + "?_busy_timeout=0&_sync=OFF&_journal_mode=" + mode
			work := func(user int, query string) {
				db, err := sql.Open("sqlite3-dblocker", dsn)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := db.ExecContext(asUser(user), query); err != nil {
					t.Errorf("a write: %v", err)
				}
				if err := db.QueryRowContext(asUser(user), "SELECT n FROM counters").Scan(new(int)); err != nil {
					t.Errorf("a read: %v", err)
				}
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}
			work(0, "CREATE TABLE counters (n INTEGER); INSERT INTO counters VALUES (0)")
			var wg sync.WaitGroup
			for user := range 4 {
				wg.Go(func() {
					for range 40 {
						work(user, "UPDATE counters SET n = n + 1")
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestRecoveredOnce has no idle connections, and finds the WAL of another process that
// has crashed: of those who come then, the first recovers it while the others wait.
func TestRecoveredOnce(t *testing.T) {
	const rows = 10000
	crashed := testdb.SQLite(t)
	other := openSQLite(t, "sqlite3", "file:"+crashed+"?_journal_mode=WAL")
	other.SetMaxOpenConns(1)
	mustExec(t, other, "PRAGMA wal_autocheckpoint = 0; CREATE TABLE counters (n INTEGER)")
	mustExec(t, other, "INSERT INTO counters WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 10000) SELECT i FROM r")

	path := testdb.SQLite(t)
	db := openSQLite(t, "dblocker", "sqlite3?max_idle_conns=0:file:"+path+"?_busy_timeout=0&_journal_mode=WAL")
	must(t, db.Ping())
	for range 20 {
		// One that is kept open beside reads would know the file from before.
		waitFor(t, func() bool { return walReaderOf(t, db).Close(false) == 0 })
		for _, suffix := range []string{"", "-wal"} {
			content, err := os.ReadFile(crashed + suffix)
			must(t, err)
			must(t, os.WriteFile(path+suffix, content, 0o600))
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				var n int
				if err := db.QueryRow("SELECT COUNT(*) FROM counters").Scan(&n); err != nil || n != rows {
					t.Errorf("got %d rows, error %v; want %d", n, err, rows)
				}
			})
		}
		wg.Wait()
	}
}

// openHooked opens a handle on mattn/go-sqlite3 with a hook for its new connections.
func openHooked(t *testing.T, dsn string, hook func() error, opts ...Option) *sql.DB {
	t.Helper()
	d := &Driver{name: "sqlite3", inner: &sqlite3.SQLiteDriver{ConnectHook: func(*sqlite3.SQLiteConn) error { return hook() }}, opts: opts}
	c, err := d.OpenConnector(dsn)
	must(t, err)
	db := sql.OpenDB(c)
	t.Cleanup(func() { db.Close() })
	return db
}

// A slowHook holds up the openings of connections while it is closed.
type slowHook struct {
	closed  atomic.Bool
	entered chan struct{} // an opening is held up
	free    chan struct{}
}

func newSlowHook() *slowHook {
	return &slowHook{entered: make(chan struct{}, 100), free: make(chan struct{})}
}

func (h *slowHook) hook() error {
	if h.closed.Load() {
		h.entered <- struct{}{}
		<-h.free
	}
	return nil
}

// TestSlowOpeningHoldsUpNobody: while one connection is slow to open, others are closed and
// opened, and the one that is the last but for it is closed too.
func TestSlowOpeningHoldsUpNobody(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			testdb.NoLeaks(t)
			dsn := "file:" + testdb.SQLite(t) + "?_journal_mode=" + mode
			quick := openSQLite(t, "dblocker", "sqlite3?max_idle_conns=0:"+dsn)
			mustExec(t, quick, "CREATE TABLE t (v)")
			first := openSQLite(t, "sqlite3-dblocker", dsn)
			must(t, first.Ping())

			hook := newSlowHook()
			slow := openHooked(t, dsn, hook.hook)
			hook.closed.Store(true)
			done := make(chan error, 1)
			go func() { done <- slow.Ping() }()
			<-hook.entered
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			use := func() error { // opens and closes one
				if mode == "DELETE" { // a write waits for who is about to read the schema
					return quick.QueryRowContext(ctx, "SELECT COUNT(*) FROM t").Scan(new(int))
				}
				_, err := quick.ExecContext(ctx, "INSERT INTO t VALUES (1)")
				return err
			}
			for range 3 {
				if err := use(); err != nil {
					t.Errorf("beside the slow opening: %v", err)
				}
			}
			closed := make(chan error, 1)
			go func() { closed <- first.Close() }()
			select {
			case err := <-closed:
				must(t, err)
			case <-ctx.Done():
				t.Error("the last connection but the slow one is not closed")
			}
			if err := use(); err != nil {
				t.Errorf("after the closing: %v", err)
			}
			close(hook.free)
			must(t, <-done)
			must(t, slow.Close())
			must(t, quick.Close())
			if _, err := os.Stat(strings.TrimSuffix(strings.TrimPrefix(dsn, "file:"), "?_journal_mode=WAL") + "-wal"); mode == "WAL" && err == nil {
				t.Error("the last connection has not removed the WAL")
			}
		})
	}
}

// TestWaitsForTheFirstConnectionEnd with the context, with lock_timeout and with the handle.
func TestWaitsForTheFirstConnectionEnd(t *testing.T) {
	testdb.NoLeaks(t)
	dsn := "file:" + testdb.SQLite(t)
	hook := newSlowHook()
	slow := openHooked(t, dsn, hook.hook)
	hook.closed.Store(true)
	opened := make(chan error, 1)
	go func() { opened <- slow.Ping() }()
	<-hook.entered

	open := func(options string) *sql.DB {
		// With a journal mode that is known, only openConns are waited for.
		db := openSQLite(t, "dblocker", "sqlite3?"+options+":"+dsn)
		b, err := connectorIn(t, db).retainBackend()
		must(t, err)
		b.Gate.SetJournal("wal")
		b.Release()
		return db
	}
	for name, tc := range map[string]struct {
		options string
		end     func(*sql.DB, context.CancelFunc)
		want    error
	}{
		"context":      {"", func(_ *sql.DB, cancel context.CancelFunc) { cancel() }, context.Canceled},
		"lock_timeout": {"lock_timeout=10ms&self_wait=10ms", nil, ErrLockTimeout},
		"close":        {"", func(db *sql.DB, _ context.CancelFunc) { db.Close() }, errClosed},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		db := open(tc.options)
		done := make(chan error, 1)
		go func() { done <- db.PingContext(ctx) }()
		if tc.end != nil {
			tc.end(db, cancel)
		}
		if err := <-done; !errors.Is(err, tc.want) && (err == nil || err.Error() != tc.want.Error()) {
			t.Errorf("%s: the wait for the first connection ended with %v", name, err)
		}
		cancel()
	}
	close(hook.free)
	must(t, <-opened)
}

// TestFirstConnectionBeforeTheGate: in WAL mode nobody waits to write while another handle
// opens the connection that it wants to write with.
func TestFirstConnectionBeforeTheGate(t *testing.T) {
	testdb.NoLeaks(t)
	dsn := "file:" + testdb.SQLite(t)
	quick := openSQLite(t, "dblocker", "sqlite3:"+dsn)
	mustExec(t, quick, "CREATE TABLE t (v)")
	hook := newSlowHook()
	slow := openHooked(t, dsn, hook.hook)
	hook.closed.Store(true)
	done := make(chan error, 1)
	go func() {
		_, err := slow.ExecContext(asUser(1), "INSERT INTO t VALUES (1)")
		done <- err
	}()
	<-hook.entered
	ctx, cancel := context.WithTimeout(asUser(1), 30*time.Second)
	defer cancel()
	if _, err := quick.ExecContext(ctx, "INSERT INTO t VALUES (1)"); err != nil {
		t.Errorf("a write beside the opening: %v", err)
	}
	close(hook.free)
	must(t, <-done)
	if n := pragma(t, quick, "user_version; SELECT count(*) FROM t"); n != "2" {
		t.Errorf("%s rows, want 2", n)
	}
}
