package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestCallEndsBeforeConnect: a call whose context or lock_timeout ends does not wait for the
// inner driver to return from Connect, and gives its user's lock up. What that opens in the
// end is closed.
func TestCallEndsBeforeConnect(t *testing.T) {
	for name, tc := range map[string]struct {
		opts   []Option
		cancel bool
		want   error
	}{
		"context":      {nil, true, context.Canceled},
		"lock_timeout": {[]Option{LockTimeout(20 * time.Millisecond), SelfWait(20 * time.Millisecond)}, false, ErrLockTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			testdb.NoLeaks(t)
			entered, free := make(chan struct{}), make(chan struct{})
			s := &stub{connect: func() { entered <- struct{}{}; <-free }}
			db := openStub(t, s, tc.opts...)
			ctx, cancel := context.WithCancel(asUser(1))
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := db.ExecContext(ctx, "UPDATE")
				done <- err
			}()
			<-entered
			if tc.cancel {
				cancel()
			}
			select {
			case err := <-done:
				if !errors.Is(err, tc.want) {
					t.Errorf("the call ended with %v, want %v", err, tc.want)
				}
			case <-time.After(30 * time.Second):
				t.Error("the call waits for the inner driver's Connect")
			}
			holds, err := Holds(db)
			must(t, err)
			if len(holds) > 0 {
				t.Errorf("the call has ended, and its user's lock is held: %v", holds)
			}
			close(free)
			waitFor(t, func() bool { return s.mostOpen.Load() == 1 && s.connections() == 0 })
		})
	}
}

// TestPanicsInConnect: the program sees the panic, and no connection counts as open for it.
func TestPanicsInConnect(t *testing.T) {
	testdb.NoLeaks(t)
	const most = 2
	bad := true
	s := &stub{connect: func() {
		if bad {
			panic("from Connect")
		}
	}}
	db := openStub(t, s, MaxOpenConns(most), LockTimeout(10*time.Second))
	for range 3 * most {
		func() {
			defer func() {
				if p := recover(); p != "from Connect" {
					t.Errorf("the program sees the panic %v", p)
				}
			}()
			db.ExecContext(asUser(1), "UPDATE")
		}()
	}
	bad = false
	_, err := db.ExecContext(asUser(1), "UPDATE")
	must(t, err)
}

// TestGoexitInConnect: a hook that ends its goroutine, as a test's Fatal does, ends the caller's.
func TestGoexitInConnect(t *testing.T) {
	testdb.NoLeaks(t)
	bad := true
	s := &stub{connect: func() {
		if bad {
			runtime.Goexit()
		}
	}}
	db := openStub(t, s, MaxOpenConns(1), LockTimeout(10*time.Second))
	for range 3 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			db.ExecContext(asUser(1), "UPDATE")
			t.Error("the call has returned")
		}()
		<-done
	}
	bad = false
	_, err := db.ExecContext(asUser(1), "UPDATE")
	must(t, err)
}

// TestHooksSeeTheProgramsConnections: a hook sees, of a handle on a database in memory that has
// one connection, only that one, as on the bare driver.
func TestHooksSeeTheProgramsConnections(t *testing.T) {
	for _, dsn := range memoryDSNs {
		var conns []*sqlite3.SQLiteConn
		d := &Driver{name: "sqlite3", inner: &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
			conns = append(conns, c)
			return nil
		}}}
		for range 2 {
			c, err := d.OpenConnector(dsn)
			must(t, err)
			db := sql.OpenDB(c)
			must(t, db.Ping())
			use(t, db)
			must(t, db.Close())
		}
		if len(conns) != 2 {
			t.Errorf("%s: the hook has seen %d connections of two handles that had one each", dsn, len(conns))
		}
	}
}

// TestOpeningKeepsTheGate: an opening that goes on after its call has ended has the file locked, so
// what SQLite would refuse beside it waits, whatever the call was.
func TestOpeningKeepsTheGate(t *testing.T) {
	for journal, refused := range map[string]string{
		"DELETE": "UPDATE t SET x = 3",
		"WAL":    "PRAGMA journal_mode = DELETE",
	} {
		for name, call := range map[string]func(context.Context, *sql.DB) error{
			"Query": func(ctx context.Context, db *sql.DB) error { return db.QueryRowContext(ctx, "SELECT x FROM t").Err() },
			"Exec": func(ctx context.Context, db *sql.DB) error {
				_, err := db.ExecContext(ctx, "UPDATE t SET x = 2")
				return err
			},
			"Prepare": func(ctx context.Context, db *sql.DB) error {
				_, err := db.PrepareContext(ctx, "SELECT x FROM t")
				return err
			},
			"Begin": func(ctx context.Context, db *sql.DB) error {
				tx, err := db.BeginTx(ctx, nil)
				if err == nil {
					tx.Rollback()
				}
				return err
			},
			"Ping": func(ctx context.Context, db *sql.DB) error { return db.PingContext(ctx) },
		} {
			for _, first := range []bool{false, true} { // first: nothing is known of the file
				testOpeningKeepsTheGate(t, journal, first, refused, name, call)
			}
		}
	}
}

func testOpeningKeepsTheGate(t *testing.T, journal string, first bool, refused, name string, call func(context.Context, *sql.DB) error) {
	t.Run(fmt.Sprintf("%s/%s/%v", journal, name, first), func(t *testing.T) {
		testdb.NoLeaks(t)
		dsn := testdb.SQLite(t) + "?_busy_timeout=0&_journal_mode=" + journal
		other := openSQLite(t, "dblocker", "sqlite3:"+dsn)
		bare := openSQLite(t, "sqlite3", dsn)
		_, err := bare.Exec("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
		must(t, err)
		must(t, bare.Close())
		if !first {
			must(t, other.Ping())
		}
		entered, free := make(chan struct{}), make(chan struct{})
		d := &Driver{name: "sqlite3", inner: &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
			_, err := c.Exec("BEGIN; SELECT x FROM t", nil)
			close(entered)
			<-free
			if err == nil {
				_, err = c.Exec("COMMIT", nil)
			}
			return err
		}}}
		c, err := d.OpenConnector(dsn)
		must(t, err)
		db := sql.OpenDB(c)
		defer db.Close()
		ctx, cancel := context.WithCancel(asUser(1))
		done := make(chan error, 1)
		go func() { done <- call(ctx, db) }()
		<-entered
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the call has ended with %v", err)
		}
		go func() {
			_, err := other.ExecContext(asUser(2), refused)
			done <- err
		}()
		waitFor(t, func() bool { return len(done) > 0 || waitingAtGates() > 0 })
		close(free)
		must(t, <-done)
	})
}
