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

// TestHandleWhileClosing: while a connection is slow to close, nobody waits for the handle.
func TestHandleWhileClosing(t *testing.T) {
	testdb.NoLeaks(t)
	entered, free := make(chan struct{}), make(chan struct{})
	s := &stub{close: func() { entered <- struct{}{}; <-free }}
	c, err := NewConnector(s)
	must(t, err)
	db := sql.OpenDB(c)
	_, err = db.ExecContext(asUser(1), "UPDATE")
	must(t, err)
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	<-entered
	done := make(chan error, 1)
	go func() {
		_, statsErr := Stats(db)
		_, holdsErr := Holds(db)
		_, _, lockErr := Lock(asUser(1), db)
		_, connErr := c.Connect(context.Background())
		second := c.Close()
		done <- fmt.Errorf("%v, %v, %v, %v, %v", statsErr, holdsErr, lockErr, connErr, second)
	}()
	select {
	case err := <-done:
		if want := fmt.Sprintf("%v, %[1]v, %[1]v, %[1]v, <nil>", errClosed); err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	case <-time.After(30 * time.Second):
		t.Error("the handle makes everybody wait until its connections are closed")
	}
	close(free)
	must(t, <-closed)
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
