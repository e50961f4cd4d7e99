package dblockertest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/dblockertest"
	"github.com/calmdocs/dblocker/internal/leftovers"
)

// A fakeTest is a test whose end and failures are seen.
type fakeTest struct {
	testing.TB
	name     string
	cleanups []func()
	failures []string
}

func (f *fakeTest) Name() string       { return f.name }
func (f *fakeTest) Helper()            {}
func (f *fakeTest) Cleanup(end func()) { f.cleanups = append(f.cleanups, end) }
func (f *fakeTest) Errorf(format string, args ...any) {
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}
func (f *fakeTest) Fatalf(format string, args ...any) { f.Errorf(format, args...) }

// end runs what the test has to be done at its end, and returns how it has failed.
func (f *fakeTest) end() []string {
	for _, end := range slices.Backward(f.cleanups) {
		end()
	}
	f.cleanups = nil
	return f.failures
}

// check has a fake test look at a handle.
func check(t *testing.T, db dblocker.Handle, name string) *fakeTest {
	f := &fakeTest{TB: t, name: name}
	dblockertest.Check(f, db)
	return f
}

func open(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("dblocker", "sqlite3?lock_timeout=1m:"+filepath.Join(t.TempDir(), "a.db")+"?_sync=OFF")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.Exec("CREATE TABLE t (v)"); err != nil {
		t.Fatal(err)
	}
	return db
}

func user(id any) context.Context { return dblocker.WithUser(context.Background(), id) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// here is the file and line of its caller.
func here() string {
	_, file, line, _ := runtime.Caller(1)
	return fmt.Sprintf("%s:%d", filepath.Base(file), line)
}

// TestEachLeftoverIsFound: with the place where it began; and when it has ended, nothing is.
func TestEachLeftoverIsFound(t *testing.T) {
	dblockertest.SetPatience(t, 50*time.Millisecond)
	for name, tc := range map[string]struct {
		leave func(t *testing.T, db *sql.DB) (place string, end func())
		want  string
	}{
		"rows": {func(t *testing.T, db *sql.DB) (string, func()) {
			rows, err := db.QueryContext(user(1), "SELECT 1 UNION SELECT 2")
			must(t, err)
			return here(), func() { rows.Close() }
		}, "rows"},
		"rows without a user": {func(t *testing.T, db *sql.DB) (string, func()) {
			rows, err := db.QueryContext(dblocker.WithoutUser(context.Background()), "SELECT 1 UNION SELECT 2")
			must(t, err)
			return here(), func() { rows.Close() }
		}, "rows"},
		"rows of a statement": {func(t *testing.T, db *sql.DB) (string, func()) {
			s, err := db.PrepareContext(user(1), "SELECT 1 UNION SELECT 2")
			must(t, err)
			rows, err := s.QueryContext(user(1))
			must(t, err)
			return here(), func() { rows.Close(); s.Close() }
		}, "rows"},
		"transaction": {func(t *testing.T, db *sql.DB) (string, func()) {
			tx, err := db.BeginTx(user(1), nil)
			must(t, err)
			return here(), func() { tx.Rollback() }
		}, "transaction"},
		"transaction in SQL": {func(t *testing.T, db *sql.DB) (string, func()) {
			_, err := db.ExecContext(user(1), "BEGIN")
			must(t, err)
			return here(), func() { db.ExecContext(user(1), "COMMIT") }
		}, "in SQL"},
		"connection": {func(t *testing.T, db *sql.DB) (string, func()) {
			c, err := db.Conn(user(1))
			must(t, err)
			return here(), func() { c.Close() }
		}, "sql.Conn"},
		"section": {func(t *testing.T, db *sql.DB) (string, func()) {
			_, unlock, err := dblocker.RLock(user("ann"), db, dblocker.Tag("export"))
			must(t, err)
			return here(), unlock
		}, `a shared section of user "ann" (export)`},
		"exclusive section": {func(t *testing.T, db *sql.DB) (string, func()) {
			_, unlock, err := dblocker.Lock(user("ann"), db)
			must(t, err)
			return here(), unlock
		}, `an exclusive section of user "ann"`},
		"section of all": {func(t *testing.T, db *sql.DB) (string, func()) {
			_, unlock, err := dblocker.LockAll(context.Background(), db)
			must(t, err)
			return here(), unlock
		}, "all users"},
		"section of several": {func(t *testing.T, db *sql.DB) (string, func()) {
			_, unlock, err := dblocker.LockUsers(context.Background(), db, "b", "a")
			must(t, err)
			return here(), unlock
		}, `["a" "b"]`},
		"waiters": {func(t *testing.T, db *sql.DB) (string, func()) {
			_, unlock, err := dblocker.Lock(user(1), db)
			must(t, err)
			place := here()
			var all sync.WaitGroup
			all.Go(func() {
				_, unlock, _ := dblocker.Lock(user(1), db)
				unlock()
			})
			all.Go(func() { db.ExecContext(user(1), "INSERT INTO t VALUES (1)") })
			for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				if st, err := dblocker.Stats(db); err == nil && st.Waiting == 2 {
					break
				}
			}
			return place, func() { unlock(); all.Wait() }
		}, "a call has not returned"},
		"statement without a user": {func(t *testing.T, db *sql.DB) (string, func()) {
			_, err := db.Exec("INSERT INTO t VALUES (1)")
			must(t, err)
			return here(), func() {}
		}, "has no user"},
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			f := check(t, db, "left")
			place, end := tc.leave(t, db)
			file, line, _ := strings.Cut(place, ":")
			var n int
			fmt.Sscan(line, &n)
			failures := f.end()
			all := strings.Join(failures, "\n")
			if !strings.Contains(all, tc.want) || !strings.Contains(all, file+":"+fmt.Sprint(n-1)) && !strings.Contains(all, file+":"+fmt.Sprint(n-2)) {
				t.Errorf("got %q, want %q, a line or two before %s", failures, tc.want, place)
			}
			if want := map[bool]int{true: 3, false: 1}[name == "waiters"]; len(failures) != want {
				t.Errorf("got %d failures, want %d: %q", len(failures), want, failures)
			}
			end()

			f = check(t, db, "ended") // it has all ended when it is looked for
			if name != "statement without a user" {
				_, end = tc.leave(t, db)
				end()
			}
			if failures := f.end(); len(failures) > 0 {
				t.Errorf("all has ended, and got %q", failures)
			}
		})
	}
}

// TestCleanTestPasses: one that does a bit of everything and ends it, also at the last moment.
func TestCleanTestPasses(t *testing.T) {
	db := open(t)
	rows, err := db.QueryContext(user(1), "SELECT 1 UNION SELECT 2") // from before
	must(t, err)
	defer rows.Close()
	f := check(t, db, "clean")
	_, err = db.ExecContext(user(1), "INSERT INTO t VALUES (1)")
	must(t, err)
	_, err = db.ExecContext(dblocker.WithoutUser(context.Background()), "INSERT INTO t VALUES (1)")
	must(t, err)
	var n int
	must(t, db.QueryRowContext(user(1), "SELECT count(*) FROM t").Scan(&n))
	must(t, dblocker.Do(user(1), db, func(ctx context.Context) error {
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		_, err = tx.Exec("INSERT INTO t VALUES (2)") // in a user's transaction
		must(t, err)
		return tx.Commit()
	}))
	_, err = db.ExecContext(user(1), "no SQL")
	if err == nil {
		t.Fatal("got no error")
	}
	ctx, cancel := context.WithCancel(user(1))
	tx, err := db.BeginTx(ctx, nil)
	must(t, err)
	defer tx.Rollback()
	cancel() // database/sql rolls back a little later
	if failures := f.end(); len(failures) > 0 {
		t.Errorf("got %q", failures)
	}
}

// TestWhatIsJustEndingGetsTime: the look goes on until it has ended.
func TestWhatIsJustEndingGetsTime(t *testing.T) {
	db := open(t)
	f := check(t, db, "slow")
	tx, err := db.BeginTx(user(1), nil)
	must(t, err)
	looks := make(chan struct{})
	f.Cleanup(func() { close(looks) })
	ended := make(chan error)
	go func() {
		<-looks
		ended <- tx.Rollback()
	}()
	if failures := f.end(); len(failures) > 0 {
		t.Errorf("got %q", failures)
	}
	must(t, <-ended)
}

// TestStoresAreSeen: the handles that a Store has given out.
func TestStoresAreSeen(t *testing.T) {
	dblockertest.SetPatience(t, 50*time.Millisecond)
	store, err := dblocker.New(t.Context(), "sqlite3", filepath.Join(t.TempDir(), "a.db"), false)
	must(t, err)
	f := check(t, store.DB(), "store")
	cancel, db, err := store.RWGetDB("ann", t.Context(), "rename")
	must(t, err)
	_, err = db.Exec("CREATE TABLE t (v)") // has the user of the handle
	must(t, err)
	failures := f.end()
	if len(failures) != 1 || !strings.Contains(failures[0], `user "ann" (rename)`) || !strings.Contains(failures[0], "dblockertest_test.go") {
		t.Errorf("got %q", failures)
	}
	cancel()
	if failures := check(t, store.DB(), "ended").end(); len(failures) > 0 {
		t.Errorf("got %q", failures)
	}
}

// TestDatabasesOfUsers: a handle with {user} in its DSN.
func TestDatabasesOfUsers(t *testing.T) {
	dblockertest.SetPatience(t, 50*time.Millisecond)
	db, err := sql.Open("dblocker", "sqlite3:"+filepath.Join(t.TempDir(), "{user}.db"))
	must(t, err)
	defer db.Close()
	f := check(t, db, "left")
	_, err = db.ExecContext(user("ann"), "CREATE TABLE t (v)")
	must(t, err)
	tx, err := db.BeginTx(user("ann"), nil)
	must(t, err)
	c, err := db.Conn(user("ben"))
	must(t, err)
	must(t, c.PingContext(user("ben")))
	if failures := f.end(); len(failures) != 2 || !strings.Contains(failures[0], "transaction") || !strings.Contains(failures[1], "sql.Conn") {
		t.Errorf("got %q", failures)
	}
	f = check(t, db, "ended")
	must(t, tx.Rollback())
	must(t, c.Close())
	_, err = db.ExecContext(user("ann"), "INSERT INTO t VALUES (1)")
	must(t, err)
	if failures := f.end(); len(failures) > 0 {
		t.Errorf("all has ended, and got %q", failures)
	}
}

// TestConnOfUsersBeforeItsFirstUse: on a handle with a database for each user it is found with the place where it began, once, whatever was done with
// it since; and when it is closed, it is not.
func TestConnOfUsersBeforeItsFirstUse(t *testing.T) {
	dblockertest.SetPatience(t, 50*time.Millisecond)
	db, err := sql.Open("dblocker", "sqlite3:"+filepath.Join(t.TempDir(), "{user}.db"))
	must(t, err)
	defer db.Close()
	use := map[string]func(c *sql.Conn) error{
		"unused":                func(c *sql.Conn) error { return nil },
		"pinged":                func(c *sql.Conn) error { return c.PingContext(user("ben")) },
		"pinged without a user": func(c *sql.Conn) error { return c.PingContext(context.Background()) },
		"of a user that there cannot be": func(c *sql.Conn) error {
			if _, err := c.ExecContext(user(strings.Repeat("long", 200)), "SELECT 1"); err == nil {
				return fmt.Errorf("the name is no file's")
			}
			return nil
		},
		"in a transaction in SQL": func(c *sql.Conn) error {
			_, err := c.ExecContext(user("ben"), "BEGIN")
			return err
		},
	}
	for name, f := range use {
		for range 2 { // with a new connection, and with one from the pool
			test := check(t, db, name)
			c, err := db.Conn(context.Background())
			place := here()
			must(t, err)
			must(t, f(c))
			failures := test.end()
			file, line, _ := strings.Cut(place, ":")
			n, _ := strconv.Atoi(line)
			if len(failures) != 1 || !strings.Contains(failures[0], "a sql.Conn is in use") || !strings.Contains(failures[0], fmt.Sprintf("%s:%d", file, n-1)) {
				t.Errorf("%s: got %q, want one at the line before %s", name, failures, place)
			}
			end := func(c *sql.Conn) {
				if name == "in a transaction in SQL" {
					_, err := c.ExecContext(user("ben"), "ROLLBACK")
					must(t, err)
				}
				must(t, c.Close())
			}
			end(c)
			test = check(t, db, name+", closed")
			c, err = db.Conn(context.Background())
			must(t, err)
			must(t, f(c))
			end(c)
			if failures := test.end(); len(failures) > 0 {
				t.Errorf("%s: all has ended, and got %q", name, failures)
			}
		}
	}
}

// TestRefusedForNoUser: a statement that is refused since it has no user is found, unless it is meant to have none.
func TestRefusedForNoUser(t *testing.T) {
	for name, dsn := range map[string]string{
		"a database for each user": "sqlite3:" + filepath.Join(t.TempDir(), "{user}.db"),
		"untagged=error":           "sqlite3?untagged=error:" + filepath.Join(t.TempDir(), "app.db"),
	} {
		db, err := sql.Open("dblocker", dsn)
		must(t, err)
		defer db.Close()
		f := check(t, db, name)
		_, err = db.Exec("CREATE TABLE t (v)")
		place := here()
		if !errors.Is(err, dblocker.ErrNoUser) {
			t.Errorf("%s: %v", name, err)
		}
		file, line, _ := strings.Cut(place, ":")
		n, _ := strconv.Atoi(line)
		if failures := f.end(); len(failures) != 1 || !strings.Contains(failures[0], "has no user") || !strings.Contains(failures[0], fmt.Sprintf("%s:%d", file, n-1)) {
			t.Errorf("%s: got %q, want one at the line before %s", name, failures, place)
		}
		f = check(t, db, name+", meant")
		db.ExecContext(dblocker.WithoutUser(context.Background()), "CREATE TABLE t (v)")
		if failures := f.end(); len(failures) > 0 {
			t.Errorf("%s: none is meant, and got %q", name, failures)
		}
	}
}

// TestParallelTests: on one handle the last says what is left, since nobody can tell whose it is; on handles of their own each
// says it by itself; and a subtest does not leave it to the test around it.
func TestParallelTests(t *testing.T) {
	dblockertest.SetPatience(t, 50*time.Millisecond)
	db := open(t)
	first, second := check(t, db, "A"), check(t, db, "B")
	tx, err := db.BeginTx(user(1), nil)
	must(t, err)
	if failures := first.end(); len(failures) > 0 {
		t.Errorf("the first to end: got %q", failures)
	}
	if failures := second.end(); len(failures) != 1 {
		t.Errorf("the last to end: got %q", failures)
	}
	must(t, tx.Rollback())

	// The leftover of one that has begun first, and ended first.
	first = check(t, db, "A")
	tx, err = db.BeginTx(user(1), nil)
	must(t, err)
	second = check(t, db, "B")
	first.end()
	if failures := second.end(); len(failures) != 1 {
		t.Errorf("the last to end, and to begin: got %q", failures)
	}
	must(t, tx.Rollback())

	other := open(t)
	first, second = check(t, db, "A"), check(t, other, "B")
	tx, err = db.BeginTx(user(1), nil)
	must(t, err)
	if failures := second.end(); len(failures) > 0 {
		t.Errorf("another handle: got %q", failures)
	}
	if failures := first.end(); len(failures) != 1 {
		t.Errorf("its own handle: got %q", failures)
	}
	must(t, tx.Rollback())

	outer := check(t, db, "A")
	inner := check(t, db, "A/x")
	tx, err = db.BeginTx(user(1), nil)
	must(t, err)
	if failures := inner.end(); len(failures) != 1 {
		t.Errorf("the subtest: got %q", failures)
	}
	if failures := outer.end(); len(failures) > 0 {
		t.Errorf("the test around it: got %q", failures)
	}
	must(t, tx.Rollback())
}

// TestParallelLoad: many tests at once, each with what it leaves and what it ends; none is seen twice, none is missed.
func TestParallelLoad(t *testing.T) {
	db := open(t)
	around := check(t, db, "around")
	const tests = 20
	var all sync.WaitGroup
	for i := range tests {
		all.Go(func() {
			f := check(t, db, fmt.Sprint("T", i))
			for range 20 {
				db.ExecContext(user(i), "INSERT INTO t VALUES (1)")
			}
			if i%2 == 0 {
				db.QueryContext(user(i), "SELECT 1 UNION SELECT 2")
			}
			if failures := f.end(); len(failures) > 0 {
				t.Errorf("beside others: got %q", failures)
			}
		})
	}
	all.Wait()
	if failures := around.end(); len(failures) != tests/2 {
		t.Errorf("got %d failures, want %d: %q", len(failures), tests/2, failures)
	}
}

// TestOtherHandles: a handle that is not dblocker's, and one that is closed.
func TestOtherHandles(t *testing.T) {
	bare, err := sql.Open("sqlite3", ":memory:")
	must(t, err)
	defer bare.Close()
	if f := check(t, bare, "bare"); len(f.failures) != 1 || !strings.Contains(f.failures[0], "not opened through dblocker") {
		t.Errorf("got %q", f.failures)
	}
	db := open(t)
	f := check(t, db, "closed")
	must(t, db.Close())
	if failures := f.end(); len(failures) > 0 {
		t.Errorf("got %q", failures)
	}
}

// TestNothingIsNotedWithoutACheck: a handle that no test looks at, or none any more, has no Watch.
func TestNothingIsNotedWithoutACheck(t *testing.T) {
	db := open(t)
	place, err := leftovers.PlaceOf(t.Context(), db)
	must(t, err)
	if place.Load() != nil {
		t.Error("it has one before")
	}
	f := check(t, db, "x")
	if place.Load() == nil {
		t.Error("it has none while a test looks")
	}
	f.end()
	if place.Load() != nil {
		t.Error("it has one afterwards")
	}
}

// TestHostileNamesAreText: what is said of a section has nothing that a terminal would obey, whatever it is called.
func TestHostileNamesAreText(t *testing.T) {
	db := open(t)
	dblockertest.SetPatience(t, 0)
	for _, hostile := range []string{"\x1b[2J\x1b]0;owned\a", "a\nb\r\nc", "\u009b2J", "\u202eevil\u2066", "\xff\xfe\xc3", "\x00"} {
		f := check(t, db, "hostile")
		_, unlock, err := dblocker.Lock(user(hostile), db, dblocker.Tag(hostile))
		must(t, err)
		failures := f.end()
		unlock()
		if len(failures) != 1 || strings.IndexFunc(failures[0], func(r rune) bool { return !strconv.IsPrint(r) }) >= 0 || !utf8.ValidString(failures[0]) {
			t.Errorf("%q is shown as %q", hostile, failures)
		}
	}
}
