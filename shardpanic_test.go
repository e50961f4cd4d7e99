package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
)

// onceDriver opens stubs. The first time that it opens one of the DSN "bad", it does what a
// test wants.
type onceDriver struct {
	stub
	first atomic.Pointer[func()]
}

func (d *onceDriver) OpenConnector(dsn string) (driver.Connector, error) {
	if first := d.first.Load(); dsn == "bad" && first != nil && d.first.CompareAndSwap(first, nil) {
		(*first)()
	}
	return &d.stub, nil
}

var once = new(onceDriver)

func init() { sql.Register("dblocker-test-once", once) }

// TestShardFunctionThatDoesNotReturn: whatever a function that opens a user's database does instead
// of returning, and whatever the driver does there, it costs that one request its database, and
// the next one gets it; others do not wait for it.
func TestShardFunctionThatDoesNotReturn(t *testing.T) {
	openUser := DSNFunc(func(_ context.Context, user string) (string, error) { return user, nil })
	for name, c := range map[string]struct {
		first func()
		opt   Option
	}{
		"the driver panics":       {func() { panic("in OpenConnector") }, openUser},
		"the driver calls Goexit": {runtime.Goexit, openUser},
		"the ConnectFunc calls Goexit": {runtime.Goexit, ConnectFunc(func(_ context.Context, user, name, _ string) (*sqlx.DB, error) {
			if first := once.first.Load(); user == "bad" && first != nil && once.first.CompareAndSwap(first, nil) {
				(*first)()
			}
			return sqlx.Open(name, user)
		})},
	} {
		t.Run(name, func(t *testing.T) {
			once.first.Store(nil)
			store, err := New(t.Context(), "dblocker-test-once", "own", false, c.opt, LockTimeout(time.Minute))
			must(t, err)
			defer store.Close()
			once.first.Store(&c.first)
			begin := func(user string) error {
				cancel, _, err := store.RWGetDB(user, t.Context(), "test")
				cancel()
				return err
			}
			start := time.Now()
			if err := begin("bad"); err == nil {
				t.Error("no error")
			}
			must(t, begin("bad"))
			must(t, begin("good"))
			if waited := time.Since(start); waited > 30*time.Second {
				t.Errorf("it took %v", waited)
			}
		})
	}
}

// TestShardThatIsOpenedForLong keeps no other user waiting.
func TestShardThatIsOpenedForLong(t *testing.T) {
	began, goOn := make(chan bool), make(chan bool)
	first := func() { close(began); <-goOn }
	store, err := New(t.Context(), "dblocker-test-once", "own", false, DSNFunc(func(_ context.Context, user string) (string, error) { return user, nil }))
	must(t, err)
	defer store.Close()
	once.first.Store(&first)
	done := make(chan error)
	open := func(user string) error {
		cancel, _, err := store.RWGetDB(user, t.Context(), "test")
		cancel()
		return err
	}
	go func() { done <- open("bad") }()
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if cancel, _, err := store.RWGetDB("good", ctx, "test"); err != nil {
		t.Errorf("while another's database is opened: %v", err)
	} else {
		cancel()
	}
	close(goOn)
	must(t, <-done)
}

// TestShardThatIsSlowToClose keeps nobody waiting but who closes the Store.
func TestShardThatIsSlowToClose(t *testing.T) {
	entered, free := make(chan struct{}), make(chan struct{})
	store, err := New(t.Context(), "sqlite3", "unused", false, ConnectFunc(func(_ context.Context, user, _, _ string) (*sqlx.DB, error) {
		s := new(stub)
		if user == "slow" {
			s.close = func() { close(entered); <-free }
		}
		db, err := OpenDB(s)
		return sqlx.NewDb(db, "stub"), err
	}))
	must(t, err)
	cancels := make(map[string]context.CancelFunc)
	for _, user := range []string{"slow", "other"} {
		cancel, db, err := store.RWGetDB(user, t.Context(), "test")
		must(t, err)
		mustExec(t, db.DB, "UPDATE")
		cancels[user] = cancel
	}
	closed, done := make(chan error), make(chan struct{})
	go func() { closed <- store.Close() }()
	<-entered
	go func() {
		defer close(done)
		cancels["other"]()
		if _, _, err := store.RWGetDB("new", t.Context(), "test"); err == nil || err.Error() != "sql: database is closed" {
			t.Errorf("a new user got %v", err)
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("others wait for a database that is slow to close")
	}
	close(free)
	must(t, <-closed)
	cancels["slow"]()
}
