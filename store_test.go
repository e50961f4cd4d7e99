package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// openStore opens a Store with the table counters, whose row of user "1" is 0.
func openStore(t testing.TB, driver, dsn string, opts ...Option) *Store {
	t.Helper()
	s, err := New(context.Background(), driver, dsn, false, opts...)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	s.DB().MustExec("CREATE TABLE counters (id VARCHAR(20) PRIMARY KEY, n BIGINT NOT NULL)")
	for user := range 6 {
		s.DB().MustExec(fmt.Sprintf("INSERT INTO counters VALUES ('%d', 0)", user))
	}
	return s
}

func sqliteStore(t testing.TB, opts ...Option) *Store {
	return openStore(t, "sqlite3", testdb.SQLite(t)+"?_journal_mode=WAL&_sync=OFF", opts...) // for thousands of writes
}

// onStores runs a test on a Store of each engine.
func onStores(t *testing.T, test func(t *testing.T, s *Store, driver string)) {
	for _, e := range testedEngines {
		t.Run(e.name, func(t *testing.T) {
			testdb.NoLeaks(t)
			driver, dsn := e.dsn(t)
			test(t, openStore(t, driver, dsn), driver)
		})
	}
}

type counter struct {
	ID string `db:"id"`
	N  int    `db:"n"`
}

// storeWork are sqlx's ways to work, with contexts and without.
var storeWork = map[string]func(ctx context.Context, db *sqlx.DB) error{
	"Get": func(_ context.Context, db *sqlx.DB) error {
		return db.Get(new(counter), db.Rebind("SELECT * FROM counters WHERE id = ?"), "1")
	},
	"SelectContext": func(ctx context.Context, db *sqlx.DB) error {
		return db.SelectContext(ctx, new([]counter), "SELECT * FROM counters")
	},
	"In": func(_ context.Context, db *sqlx.DB) error {
		query, args, err := sqlx.In("SELECT n FROM counters WHERE id IN (?)", []string{"1", "2"})
		if err != nil {
			return err
		}
		return db.Select(new([]int), db.Rebind(query), args...)
	},
	"NamedQuery": func(_ context.Context, db *sqlx.DB) error {
		rows, err := db.NamedQuery("SELECT * FROM counters WHERE id = :id", counter{ID: "1"})
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := rows.StructScan(new(counter)); err != nil {
				return err
			}
		}
		return rows.Err()
	},
	"Preparex": func(_ context.Context, db *sqlx.DB) error {
		stmt, err := db.Preparex("SELECT n FROM counters")
		if err != nil {
			return err
		}
		defer stmt.Close()
		return stmt.Select(new([]int))
	},
	"Beginx": func(_ context.Context, db *sqlx.DB) error {
		tx, err := db.Beginx()
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := tx.Select(new([]int), "SELECT n FROM counters"); err != nil {
			return err
		}
		return tx.Commit()
	},
	"BeginTxx of a request": func(_ context.Context, db *sqlx.DB) error {
		ctx, cancel := context.WithCancel(asUser("somebody else"))
		defer cancel()
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		return tx.Commit()
	},
	"Conn": func(ctx context.Context, db *sqlx.DB) error {
		conn, err := db.Connx(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		return conn.SelectContext(ctx, new([]int), "SELECT n FROM counters")
	},
}

func TestStoreHandles(t *testing.T) {
	onStores(t, func(t *testing.T, s *Store, driver string) {
		for _, get := range []func(any, context.Context, string) (context.CancelFunc, *sqlx.DB, error){s.ReadGetDB, s.RWGetDB} {
			cancel, db, err := get(1, context.Background(), "test")
			must(t, err)
			if mark := db.Rebind("?"); (mark == "$1") != (driver == "postgres") {
				t.Errorf("bind mark %s on %s", mark, driver)
			}
			for name, work := range storeWork {
				if err := work(context.Background(), db); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			cancel()
			cancel()
			for name, work := range storeWork {
				if err := work(context.Background(), db); !saysGivenBack(err) {
					t.Errorf("%s after cancel: %v", name, err)
				}
			}
		}
		must(t, s.RWDo(1, context.Background(), "test", func(db *sqlx.DB) error {
			_, err := db.NamedExec("UPDATE counters SET n = :n WHERE id = :id", counter{"1", 7})
			return err
		}))
		must(t, s.ReadDo(1, context.Background(), "test", func(db *sqlx.DB) error {
			if _, err := db.Exec("DELETE FROM counters"); !errors.Is(err, ErrReadOnly) {
				t.Errorf("a write through a handle that reads: %v", err)
			}
			tx := db.MustBegin()
			defer tx.Rollback()
			_, err := tx.Exec("DELETE FROM counters")
			if !errors.Is(err, ErrReadOnly) {
				t.Errorf("a write in a transaction of a handle that reads: %v", err)
			}
			return nil
		}))
	})
}

// TestCancelEndsWhatIsOpen: when cancel returns, the user's lock is free and no server
// connection is out, though rows, a transaction, one in SQL, a statement and a connection
// were left behind, all without a context.
func TestCancelEndsWhatIsOpen(t *testing.T) {
	onStores(t, func(t *testing.T, s *Store, driver string) {
		cancel, db, err := s.RWGetDB(1, context.Background(), "test")
		must(t, err)
		rows, err := db.Query("SELECT id FROM counters")
		must(t, err)
		rows.Next()
		stmt, err := db.Prepare("SELECT n FROM counters")
		must(t, err)
		conn, err := db.Conn(context.Background())
		must(t, err)
		_, err = conn.ExecContext(context.Background(), "BEGIN")
		must(t, err)
		cancel()

		cancel2, db2, err := s.RWGetDB(1, context.Background(), "test")
		must(t, err)
		tx, err := db2.Begin()
		must(t, err)
		_, err = tx.Exec(update(5, "1"))
		must(t, err)
		cancel2()

		if !isFreeIn(t, s.DB(), 1) {
			t.Error("the lock is still taken")
		}
		inner, err := Inner(s.DB())
		must(t, err)
		if n := inner.Stats().InUse; n != 0 {
			t.Errorf("%d server connections are still out", n)
		}
		for rows.Next() {
			t.Error("rows go on")
		}
		for name, err := range map[string]error{
			"rows":        rows.Err(),
			"stmt":        second(stmt.Query()),
			"conn":        conn.QueryRowContext(context.Background(), "SELECT 1").Scan(new(int)),
			"transaction": second(tx.Exec("SELECT 1")),
			"commit":      tx.Commit(),
		} {
			if !saysGivenBack(err) {
				t.Errorf("%s after cancel: %v", name, err)
			}
		}
		rows.Close()
		conn.Close()
		var n int
		must(t, s.DB().Get(&n, "SELECT n FROM counters WHERE id = '1'"))
		if n != 0 {
			t.Error("the transaction that cancel ended has been committed")
		}
	})
}

// TestCancelDuringCalls: what is running through the handle is interrupted, and says like what
// comes later that the handle is closed.
func TestCancelDuringCalls(t *testing.T) {
	onStores(t, func(t *testing.T, s *Store, driver string) {
		endless := map[string]string{
			"sqlite3":  "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT COUNT(*) FROM c",
			"postgres": "SELECT COUNT(*) FROM pg_sleep(300)",
			"mysql":    "SELECT SLEEP(300)",
		}[driver]
		request, end := context.WithCancel(context.Background())
		defer end()
		for range 5 {
			cancel, db, err := s.RWGetDB(1, context.Background(), "test")
			must(t, err)
			errs := make(chan error)
			for _, ctx := range []context.Context{context.Background(), request} {
				go func() { errs <- db.GetContext(ctx, new(int), endless) }()
				go func() {
					var err error
					for err == nil {
						_, err = db.ExecContext(ctx, update(1, "1"))
					}
					errs <- err
				}()
			}
			waitFor(t, func() bool { return statsOf(t, s.own.c).InUse >= 2 })
			cancel()
			for range 4 {
				if err := <-errs; !saysGivenBack(err) {
					t.Errorf("a call during cancel: %v", err)
				}
			}
			waitFor(t, func() bool { return isFreeIn(t, s.DB(), 1) })
		}
	})
}

// saysGivenBack reports whether an error says that the handle's cancel has ended it.
func saysGivenBack(err error) bool {
	return errors.Is(err, ErrReleased) && strings.Contains(err.Error(), "given back to the Store by its cancel")
}

func second[A, B any](_ A, b B) B { return b }

func isFreeIn(t testing.TB, db Handle, user any) bool {
	_, unlock, err := TryLock(asUser(user), db)
	unlock()
	return err == nil
}

// TestNoLostUpdatesInSections has requests read a number, work in Go, and write it back,
// without a transaction.
func TestNoLostUpdatesInSections(t *testing.T) {
	const requests, users, rounds = 32, 5, 10
	onStores(t, func(t *testing.T, s *Store, driver string) {
		var wg sync.WaitGroup
		for i := range requests {
			wg.Go(func() {
				for range rounds {
					user := fmt.Sprint(i % users)
					if err := s.RWDo(user, context.Background(), "increment", func(db *sqlx.DB) error {
						var n int
						if err := db.Get(&n, "SELECT n FROM counters WHERE id = '"+user+"'"); err != nil {
							return err
						}
						time.Sleep(time.Duration(i%3) * 100 * time.Microsecond)
						_, err := db.Exec(update(n+1, user))
						return err
					}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		var sum int
		must(t, s.DB().Get(&sum, "SELECT SUM(n) FROM counters"))
		if sum != requests*rounds {
			t.Errorf("%d of %d updates were kept", sum, requests*rounds)
		}
	})
}

// TestStatementTimeouts: a Store's handles limit statements, each by its own limit, on
// the server where it can do that.
func TestStatementTimeouts(t *testing.T) {
	onStores(t, func(t *testing.T, s *Store, driver string) {
		read := map[string]string{"postgres": "SHOW statement_timeout", "mysql": "SELECT @@max_statement_time"}[driver]
		if read == "" {
			cancel, db, err := s.RWGetDBWithTimeout(1, context.Background(), "test", 20*time.Millisecond)
			must(t, err)
			defer cancel()
			err = db.Get(new(int), "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT COUNT(*) FROM c")
			if err == nil || !strings.Contains(err.Error(), "statement_timeout=20ms") {
				t.Errorf("a statement without end: %v", err)
			}
			return
		}
		limit := func(db *sqlx.DB) (value string) {
			t.Helper()
			must(t, db.Get(&value, read))
			return value
		}
		normal := limit(s.DB())
		if normal != "4min" && !strings.HasPrefix(normal, "240") {
			t.Errorf("the default limit is %s", normal)
		}
		for _, timeout := range []time.Duration{0, 5 * time.Second} {
			cancel, db, err := s.RWGetDBWithTimeout(1, context.Background(), "test", timeout)
			must(t, err)
			if got := limit(db); got == normal || (got[0] == '5') != (timeout > 0) {
				t.Errorf("limit %v: the server has %s", timeout, got)
			}
			cancel()
			if got := limit(s.DB()); got != normal {
				t.Errorf("afterwards the limit is %s, want %s", got, normal)
			}
		}
	})
}

func TestBadStores(t *testing.T) {
	var noContext context.Context
	for _, tc := range []struct{ driver, dsn, want string }{
		{"", "x", "driver name is empty"},
		{"nonesuch", "x", "unknown inner driver"},
		{"dblocker", "app.db", "no colon"},
	} {
		if _, err := New(context.Background(), tc.driver, tc.dsn, false); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("New(%q, %q): %v", tc.driver, tc.dsn, err)
		}
	}
	if _, err := New(noContext, "sqlite3", "app.db", false); err == nil {
		t.Error("a nil context was accepted")
	}
	if _, err := New(context.Background(), "sqlite3", "app.db", false, nil); err == nil {
		t.Error("a nil option was accepted")
	}
	if _, err := New(context.Background(), "sqlite3", "app.db", false, ConnectFunc(shardFunc(t, new(atomic.Int64), false)),
		DSNFunc(func(context.Context, string) (string, error) { return "", nil })); !errors.Is(err, errTwoFuncs) {
		t.Errorf("ConnectFunc and DSNFunc: %v", err)
	}
	if _, err := OpenDB(&stub{}, DSNFunc(func(context.Context, string) (string, error) { return "", nil })); !errors.Is(err, errNotAStore) {
		t.Errorf("DSNFunc without a Store: %v", err)
	}
	s := sqliteStore(t)
	for _, user := range []any{nil, "", 1.5} {
		cancel, db, err := s.RWGetDB(user, context.Background(), "test")
		if err == nil || db != nil || cancel == nil {
			t.Errorf("user %v: %v", user, err)
		}
		cancel()
	}
	if _, _, err := s.RWGetDB(1, noContext, "test"); err == nil {
		t.Error("a nil context was accepted")
	}
	if _, _, err := s.RWGetDBWithTimeout(1, context.Background(), "test", -1); err == nil {
		t.Error("a negative timeout was accepted")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if cancel, _, err := s.ReadGetDB(1, ctx, "test"); !errors.Is(err, context.Canceled) || cancel == nil {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestStoreNames(t *testing.T) {
	for driver, dsn := range map[string]string{"sqlite3": "%s", "sqlite3-dblocker": "%s", "dblocker": "sqlite3:%s"} {
		s := openStore(t, driver, fmt.Sprintf(dsn, testdb.SQLite(t)))
		must(t, s.ReadDo(1, context.Background(), "test", func(db *sqlx.DB) error {
			if db.DriverName() != "sqlite3" {
				t.Errorf("%s: the handle's driver is %s", driver, db.DriverName())
			}
			return db.Get(new(int), "SELECT n FROM counters WHERE id = '1'")
		}))
	}
}

// TestStoreClose ends what is out, and so does the end of its context.
func TestStoreClose(t *testing.T) {
	for name, end := range map[string]func(*Store, func()){"Close": func(s *Store, _ func()) { must(t, s.Close()) }, "context": func(_ *Store, cancel func()) { cancel() }} {
		testdb.NoLeaks(t)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		s, err := New(ctx, "sqlite3", testdb.SQLite(t), true)
		must(t, err)
		_, db, err := s.RWGetDB(1, context.Background(), "test")
		must(t, err)
		waiting := make(chan error)
		go func() {
			_, _, err := s.RWGetDB(1, context.Background(), "test")
			waiting <- err
		}()
		waitFor(t, func() bool { return first(Stats(s.DB())).Waiting == 1 })
		end(s, cancel)
		if err := <-waiting; err == nil || err.Error() != "sql: database is closed" {
			t.Errorf("%s: who waited got %v", name, err)
		}
		waitFor(t, func() bool { return db.Ping() != nil })
		if err := db.Ping(); err.Error() != "sql: database is closed" {
			t.Errorf("%s: a handle that was out: %v", name, err)
		}
		if _, _, err := s.RWGetDB(1, context.Background(), "test"); err == nil || err.Error() != "sql: database is closed" {
			t.Errorf("%s: a handle afterwards: %v", name, err)
		}
		must(t, s.Close())
	}
}

func first[A, B any](a A, _ B) A { return a }

// TestManyUsersLeaveNothing has thousands of users come one after the other, each with a section:
// afterwards there is no lock and no goroutine more than after the first 1,000. The heap does
// not grow by even 8 bytes for each user in every round of 3,000; now and then it may, since the
// runtime keeps what it needed for the most goroutines that there ever were.
func TestManyUsersLeaveNothing(t *testing.T) {
	const settled, round, rounds, enough = 1_000, 3_000, 15, 8 * 3_000
	for name, visit := range map[string]func(s *Store, user int) error{
		"Lock": func(s *Store, user int) error {
			return Do(asUser(user), s.DB(), func(ctx context.Context) error {
				return s.DB().GetContext(ctx, new(int), "SELECT n FROM counters WHERE id = '1'")
			})
		},
		"ReadGetDB": func(s *Store, user int) error {
			return s.ReadDo(user, context.Background(), "test", func(db *sqlx.DB) error {
				return db.Get(new(int), "SELECT n FROM counters WHERE id = '1'")
			})
		},
		"RWGetDB": func(s *Store, user int) error {
			return s.RWDo(user, context.Background(), "test", func(db *sqlx.DB) error {
				return second(db.Exec("UPDATE counters SET n = n + 1"))
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			testdb.NoLeaks(t)
			s := sqliteStore(t)
			users := func(n int) {
				for user := range n {
					must(t, visit(s, user))
				}
			}
			users(settled)
			heap, goroutines := heapInUse(), runtime.NumGoroutine()
			least := int64(math.MaxInt64)
			for n := 0; n < rounds && (n < 3 || least > enough); n++ {
				users(round)
				waitFor(t, func() bool { return runtime.NumGoroutine() <= goroutines }) // what ends in the background
				grown := heapInUse() - heap
				heap, least = heap+grown, min(least, grown)
			}
			if n := len(holdsOf(t, s.own.c)); n != 0 || len(s.live) != 0 {
				t.Errorf("%d locks and %d sections are left", n, len(s.live))
			}
			if least > enough {
				t.Errorf("%d users leave %d bytes, each time", round, least)
			}
		})
	}
}

// heapInUse is without what only the next collection takes away, and what pools keep
// until the one after.
func heapInUse() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestStatsAndHolds has one wait in vain, and shows who was in the way.
func TestStatsAndHolds(t *testing.T) {
	s := sqliteStore(t, LockTimeout(50*time.Millisecond))
	cancel, _, err := s.RWGetDB(1, context.Background(), "first")
	must(t, err)
	defer cancel()
	if _, _, err := s.RWGetDB(1, context.Background(), "second"); !errors.Is(err, ErrLockTimeout) || !strings.Contains(err.Error(), "first") {
		t.Errorf("behind a section: %v", err)
	}
	st, err := Stats(s.DB())
	must(t, err)
	if st.Held != 1 || st.Waiting != 0 || st.Locks.Waits != 1 || st.Locks.Timeouts != 1 || st.Locks.Time < 50*time.Millisecond {
		t.Errorf("%+v", st)
	}
	holds, err := Holds(s.DB())
	must(t, err)
	if len(holds) != 1 || holds[0].User != "1" || holds[0].Tag != "first" || holds[0].Kind != "section" || holds[0].Mode != Exclusive || holds[0].For <= 0 {
		t.Errorf("%+v", holds)
	}
	for _, db := range []Handle{nil, (*sql.DB)(nil), (*sqlx.DB)(nil), &sqlx.DB{}} {
		if _, err := Stats(db); err == nil {
			t.Errorf("Stats(%T) works", db)
		}
		if _, err := Holds(db); err == nil {
			t.Errorf("Holds(%T) works", db)
		}
		if _, err := Inner(db); err == nil {
			t.Errorf("Inner(%T) works", db)
		}
	}
}

// TestDebugLog: what lasts is logged with the place that took it, and who waits for it: one line for
// a lock, and another when it has lasted twice as long.
func TestDebugLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log syncBuffer
		ctx, end := context.WithCancel(context.Background())
		s, err := New(ctx, "sqlite3", testdb.SQLite(t), true, DebugAfter(10*time.Second), Logger(textLogger(&log)))
		must(t, err)
		defer s.Close()
		cancel, _, err := s.RWGetDB(1, ctx, "forgotten")
		must(t, err)
		for range 3 {
			go s.RWGetDB(1, ctx, "patient")
		}
		time.Sleep(45 * time.Second)
		lines := slices.DeleteFunc(strings.Split(log.String(), "\n"), func(l string) bool { return !strings.Contains(l, "held long") })
		if len(lines) != 3 { // at 10, 20 and 40 seconds
			t.Errorf("%d lines in 45 s for one lock, want 3:\n%s", len(lines), log.String())
		}
		for _, want := range []string{"user=1", "mode=exclusive", "forgotten at ", "store_test.go", "age=", "patient", "waiting=3", "longest_wait="} {
			if !strings.Contains(lines[0], want) {
				t.Errorf("the log does not say %q:\n%s", want, lines[0])
			}
		}
		cancel()
		end()
		synctest.Wait()
	})
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestPin: what a statement of a pinned section sets up, the others see, and afterwards
// the connection is back.
func TestPin(t *testing.T) {
	onEngines(t, "max_open_conns=2", func(t *testing.T, db *sql.DB, c *Connector) {
		ctx, unlock, err := Lock(asUser(1), db, Pin(), Tag("pinned"))
		must(t, err)
		defer unlock()
		_, err = db.ExecContext(ctx, "CREATE TEMPORARY TABLE session_only (v INTEGER)")
		must(t, err)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := db.ExecContext(ctx, "INSERT INTO session_only VALUES (1)"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var n int
		must(t, db.QueryRowContext(ctx, "SELECT COUNT(*) FROM session_only").Scan(&n))
		if n != 8 {
			t.Errorf("the section sees %d rows of 8", n)
		}
		if n := statsOf(t, c).InUse; n != 1 {
			t.Errorf("the section has %d server connections", n)
		}
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		_, err = tx.Exec("INSERT INTO session_only VALUES (1)")
		must(t, err)
		unlock()
		if n := statsOf(t, c).InUse; n != 0 || !isFree(t, db, 1) {
			t.Errorf("after unlock %d server connections are out", n)
		}
	})
}

func shardFunc(t testing.TB, calls *atomic.Int64, bare bool) Connect {
	dir := t.TempDir()
	return func(ctx context.Context, user, driverName, _ string) (*sqlx.DB, error) {
		calls.Add(1)
		dsn := dir + "/" + user + ".db"
		if !bare {
			driverName, dsn = "dblocker", driverName+"?lock_timeout=0:"+dsn
		}
		db, err := sqlx.Open(driverName, dsn)
		if err == nil {
			_, err = db.Exec("CREATE TABLE IF NOT EXISTS owner AS SELECT '" + user + "' AS name")
		}
		return db, err
	}
}

// TestConnectFunc: one call for a user in use, whose handles share the database and its
// lock, and nothing open when none is left.
func TestConnectFunc(t *testing.T) {
	for _, bare := range []bool{true, false} {
		t.Run(fmt.Sprintf("bare=%v", bare), func(t *testing.T) {
			testdb.NoLeaks(t)
			var calls atomic.Int64
			s, err := New(context.Background(), "sqlite3", "unused", false, ConnectFunc(shardFunc(t, &calls, bare)), LockTimeout(0)) // which is no limit for the function
			must(t, err)
			defer s.Close()
			var wg sync.WaitGroup
			cancels := make(chan context.CancelFunc, 10)
			for range 10 {
				wg.Go(func() {
					cancel, db, err := s.ReadGetDB("ann", context.Background(), "test")
					cancels <- cancel
					var name string
					if err != nil || db.Get(&name, "SELECT name FROM owner") != nil || name != "ann" {
						t.Error(name, err)
					}
				})
			}
			wg.Wait()
			if n := calls.Load(); n != 1 {
				t.Errorf("%d calls for one user", n)
			}
			if _, _, err := s.RWGetDB("ann", context.Background(), "test"); !errors.Is(err, ErrLockTimeout) {
				t.Errorf("a writer beside readers: %v", err)
			}
			must(t, s.RWDo("bob", context.Background(), "test", func(db *sqlx.DB) error {
				var name string
				err := db.Get(&name, "SELECT name FROM owner")
				if name != "bob" {
					t.Error("bob has the database of", name)
				}
				return err
			}))
			close(cancels)
			for cancel := range cancels {
				cancel()
			}
			if users, open, _ := s.shards.InUse(); users != 0 || open != 0 {
				t.Error("databases are left open")
			}
		})
	}
}

// TestConnectFuncsOnOneFile: handles of the bare driver on one SQLite file have one gate, which
// is that of the Store's own handle too.
func TestConnectFuncsOnOneFile(t *testing.T) {
	testdb.NoLeaks(t)
	s := sqliteStore(t, LockTimeout(0), ConnectFunc(func(_ context.Context, _, driver, dsn string) (*sqlx.DB, error) {
		return sqlx.Open(driver, dsn)
	}))
	write := func(db *sqlx.DB) error { return second(db.Exec("UPDATE counters SET n = n + 1")) }
	expectGate := func(err error) {
		t.Helper()
		if !errors.Is(err, ErrLockTimeout) || !strings.Contains(err.Error(), "the gate of") {
			t.Errorf("beside a write transaction on the same file: %v", err)
		}
	}
	tx := s.DB().MustBegin()
	tx.MustExec("UPDATE counters SET n = n")
	expectGate(s.RWDo("ann", context.Background(), "test", write))
	must(t, tx.Rollback())
	must(t, s.RWDo("ann", context.Background(), "test", func(ann *sqlx.DB) error {
		tx := ann.MustBegin()
		defer tx.Rollback()
		tx.MustExec("UPDATE counters SET n = n")
		expectGate(s.RWDo("bob", context.Background(), "test", write))
		expectGate(write(s.DB()))
		return nil
	}))
	must(t, s.RWDo("bob", context.Background(), "test", write))
}

// TestConnectFuncWithFewConnections: a handle's own limit of them does not make a user's request
// wait for itself for ever.
func TestConnectFuncWithFewConnections(t *testing.T) {
	testdb.NoLeaks(t)
	s := sqliteStore(t, SelfWait(50*time.Millisecond), ConnectFunc(func(_ context.Context, _, driver, dsn string) (*sqlx.DB, error) {
		db, err := sqlx.Open(driver, dsn)
		db.SetMaxOpenConns(1)
		return db, err
	}))
	must(t, s.ReadDo("ann", context.Background(), "test", func(db *sqlx.DB) error {
		rows, err := db.Query("SELECT n FROM counters")
		must(t, err)
		defer rows.Close()
		if err := db.Get(new(int), "SELECT COUNT(*) FROM counters"); !errors.Is(err, ErrDeadlock) || !strings.Contains(err.Error(), "max_open_conns") {
			t.Errorf("a query beside open rows on the only connection: %v", err)
		}
		return nil
	}))
}

// TestBadConnectFuncs fail in words for their user only.
func TestBadConnectFuncs(t *testing.T) {
	testdb.NoLeaks(t)
	var shared *sqlx.DB
	hang := make(chan bool)
	hanging := make(chan bool, 1)
	failed := errors.New("no shard for you")
	s, err := New(context.Background(), "sqlite3", "unused", false, ConnectFunc(func(ctx context.Context, user, driver, _ string) (*sqlx.DB, error) {
		switch user {
		case "nil":
			return nil, nil
		case "empty":
			return &sqlx.DB{}, nil
		case "fails":
			return nil, failed
		case "panics":
			panic("as functions do")
		case "hangs":
			hanging <- true
			<-hang
			return nil, failed
		case "closed":
			db := sqlx.MustOpen(driver, ":memory:")
			return db, db.Close()
		}
		if shared == nil {
			shared = sqlx.MustOpen(driver, ":memory:")
		}
		return shared, nil
	}))
	must(t, err)
	defer s.Close()
	ctx, giveUp := context.WithCancel(context.Background())
	gaveUp := make(chan error)
	go func() {
		_, _, err := s.RWGetDB("hangs", ctx, "test")
		gaveUp <- err
	}()
	<-hanging
	for user, want := range map[string]string{"nil": "no database", "empty": "no database", "fails": "no shard for you", "panics": "panicked", "closed": "new one each time"} {
		cancel, _, err := s.RWGetDB(user, context.Background(), "test")
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", user, err)
		}
	}
	giveUp()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("who waited for a function that hangs: %v", err)
	}
	again := make(chan error)
	go func() {
		_, _, err := s.RWGetDB("hangs", context.Background(), "test")
		again <- err
	}()
	close(hang)
	if err := <-again; !errors.Is(err, failed) {
		t.Errorf("who asked again: %v", err)
	}
	var cancels []context.CancelFunc
	for _, user := range []string{"a", "b"} {
		cancel, db, err := s.RWGetDB(user, context.Background(), "test")
		must(t, err)
		must(t, db.Ping())
		cancels = append(cancels, cancel)
	}
	cancels[0]()
	must(t, shared.Ping())
	cancels[1]()
	if _, _, err := s.RWGetDB("a", context.Background(), "test"); err == nil || !strings.Contains(err.Error(), "new one each time") {
		t.Errorf("the same database when its last user has left: %v", err)
	}
	waitFor(t, func() bool { return shared.Ping() != nil })
}

// TestConnectFuncHangs: the wait for it ends with its context, and with lock_timeout.
func TestConnectFuncHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		stop := make(chan bool)
		s, err := New(context.Background(), "sqlite3", "unused", false, LockTimeout(time.Second), ConnectFunc(func(context.Context, string, string, string) (*sqlx.DB, error) {
			<-stop
			return nil, errors.New("too late")
		}))
		must(t, err)
		defer s.Close()
		defer close(stop)
		short, cancel := context.WithTimeout(context.Background(), time.Second/2)
		defer cancel()
		for want, ctx := range map[error]context.Context{context.DeadlineExceeded: short, ErrLockTimeout: context.Background()} {
			if _, _, err := s.RWGetDB("ann", ctx, "test"); !errors.Is(err, want) || !strings.Contains(err.Error(), `of user "ann" has not returned`) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
	})
}

func TestDSNFunc(t *testing.T) {
	testdb.NoLeaks(t)
	dir := t.TempDir()
	s, err := New(context.Background(), "sqlite3", "unused", false, DSNFunc(func(_ context.Context, user string) (string, error) {
		return dir + "/" + user[:1] + ".db", nil
	}))
	must(t, err)
	defer s.Close()
	must(t, s.RWDo("a1", context.Background(), "test", func(db *sqlx.DB) error {
		_, err := db.Exec("CREATE TABLE t (v INTEGER)")
		return err
	}))
	for _, user := range []string{"a1", "a2", "b1"} {
		err := s.ReadDo(user, context.Background(), "test", func(db *sqlx.DB) error {
			return db.Select(new([]int), "SELECT v FROM t")
		})
		if (err == nil) != (user[0] == 'a') {
			t.Errorf("%s: %v", user, err)
		}
	}
	const most = 16
	for i := range 2 * most {
		must(t, s.ReadDo(string(rune('c'+i)), context.Background(), "test", func(db *sqlx.DB) error { return db.Ping() }))
	}
	if _, _, idle := s.shards.InUse(); idle != most {
		t.Errorf("%d idle databases are open, want %d", idle, most)
	}
}

// TestCloseWaitsForShards: when Close returns, the users' databases are closed, be they in
// use or not, also if that takes its time.
func TestCloseWaitsForShards(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shard := &stub{close: func() { time.Sleep(time.Second) }}
		s, err := New(context.Background(), "sqlite3", "unused", false, ConnectFunc(func(context.Context, string, string, string) (*sqlx.DB, error) {
			return sqlx.NewDb(sql.OpenDB(shard), "stub"), nil
		}))
		must(t, err)
		for _, user := range []string{"gone", "there"} {
			cancel, db, err := s.RWGetDB(user, context.Background(), "test")
			must(t, err)
			db.MustExec("UPDATE t")
			if user == "gone" {
				cancel()
			}
		}
		must(t, s.Close())
		if n := shard.connections(); n > 0 {
			t.Errorf("Close has returned and left %d connections open", n)
		}
	})
}
