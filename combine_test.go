package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// A hookedSQLite is mattn's driver with a hook before each statement that is executed with
// arguments. It is not known to be plain, but looks so.
type hookedSQLite struct {
	sqlite3.SQLiteDriver
	hook func(query string, args []driver.NamedValue)
}

type hookedConn struct {
	*sqlite3.SQLiteConn
	hook func(query string, args []driver.NamedValue)
}

func (d *hookedSQLite) Open(dsn string) (driver.Conn, error) {
	c, err := d.SQLiteDriver.Open(dsn)
	if err != nil {
		return nil, err
	}
	return &hookedConn{c.(*sqlite3.SQLiteConn), d.hook}, nil
}

func (c *hookedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.hook(query, args)
	return c.SQLiteConn.ExecContext(ctx, query, args)
}

var hookedDrivers atomic.Int64

// hookedDriver registers a driver under a name of its own.
func hookedDriver(d driver.Driver) (name string) {
	name = fmt.Sprint("sqlite3-hooked-", hookedDrivers.Add(1))
	sql.Register(name, d)
	return name
}

// combineScene is a database whose texts are all known not to take long, so that they are combined as
// soon as several wait.
type combineScene struct {
	*sql.DB
	t *testing.T
}

// openCombining opens a file, or with no name a memory database, with the tables of the tests.
func openCombining(t *testing.T, driverName, options, params string) *combineScene {
	t.Helper()
	db := openSQLite(t, "dblocker", driverName+"?lock_timeout=1m&"+options+":file:"+testdb.SQLite(t)+"?"+params)
	for _, query := range []string{
		"CREATE TABLE counters (id VARCHAR(20) PRIMARY KEY, n BIGINT NOT NULL)",
		"INSERT INTO counters VALUES ('1', 0), ('2', 0), ('3', 0), ('4', 0)",
		"CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, who TEXT UNIQUE, n INT CHECK (n < 100))",
		"CREATE TABLE strict (who TEXT)",
		"CREATE TRIGGER refuses BEFORE INSERT ON strict BEGIN SELECT RAISE(ROLLBACK, 'refused'); END",
	} {
		mustExec(t, db, query)
	}
	env := &openBackend(t, db).Combining
	env.Longest, env.Long = time.Hour, time.Hour // as if the machine were fast
	return &combineScene{db, t}
}

// short has the texts known to be short.
func (s *combineScene) short(queries ...string) {
	s.t.Helper()
	texts := connectorIn(s.t, s.DB).texts
	for _, query := range queries {
		for texts.Took(query) == nil {
			texts.Classify(query)
		}
		texts.Took(query).Store(1)
	}
}

// A queuedExec is an Exec that waits at the gate with others.
type queuedExec struct {
	ctx   context.Context
	query string
	args  []any

	res      sql.Result
	err      error
	panicked any
	done     chan struct{}
}

func call(user any, query string, args ...any) *queuedExec {
	return &queuedExec{ctx: asUser(user), query: query, args: args}
}

func (e *queuedExec) start(db *sql.DB) {
	e.done = make(chan struct{})
	go func() {
		defer close(e.done)
		defer func() { e.panicked = recover() }()
		e.res, e.err = db.ExecContext(e.ctx, e.query, e.args...)
	}()
}

// queue has them wait at the gate in their order, behind a transaction, and then lets them go.
func (s *combineScene) queue(execs ...*queuedExec) (letGo func()) {
	s.t.Helper()
	blocker, err := s.Begin()
	must(s.t, err)
	mustExec(s.t, blocker, "UPDATE counters SET n = n WHERE id = '4'")
	for i, e := range execs {
		e.start(s.DB)
		waitFor(s.t, func() bool { return waitingAtGates() == i+1 })
	}
	return func() { must(s.t, blocker.Commit()) }
}

func (s *combineScene) run(execs ...*queuedExec) {
	s.t.Helper()
	s.queue(execs...)()
	for _, e := range execs {
		<-e.done
	}
}

func (s *combineScene) stats() Statistics {
	s.t.Helper()
	st, err := Stats(s.DB)
	must(s.t, err)
	return st
}

const (
	addLog     = "INSERT INTO log (who, n) VALUES (?, ?)"
	addCounter = "UPDATE counters SET n = n + 1 WHERE id = ?"
)

// TestCombined: those that wait are run by one, each with its own result, also several of one user.
func TestCombined(t *testing.T) {
	for _, name := range []string{"sqlite3"} {
		t.Run(name, func(t *testing.T) {
			testdb.NoLeaks(t)
			s := openCombining(t, name, "", "")
			s.short(addLog, addCounter)
			var execs []*queuedExec
			for i := range 10 {
				execs = append(execs, call(i%3+1, addLog, fmt.Sprint("who", i), i))
			}
			execs = append(execs, call(9, addCounter, "none"))
			s.run(execs...)
			for i, e := range execs[:10] {
				must(t, e.err)
				id, err := e.res.LastInsertId()
				must(t, err)
				n, err := e.res.RowsAffected()
				must(t, err)
				var who string
				must(t, s.QueryRow("SELECT who FROM log WHERE id = ?", id).Scan(&who))
				if n != 1 || who != fmt.Sprint("who", i) || id != int64(i+1) {
					t.Errorf("call %d: %d rows, row %d, which is of %q", i, n, id, who)
				}
			}
			if n, err := execs[10].res.RowsAffected(); n != 0 || err != nil {
				t.Errorf("an update of no row: %d rows, %v", n, err)
			}
			if st := s.stats(); st.Batches == 0 || st.Combined != 10 || st.Alone != 0 {
				t.Errorf("%d batches with %d calls, and %d alone; want 10 calls", st.Batches, st.Combined, st.Alone)
			}
		})
	}
}

// TestCombinedFailures: each has its own error, and nobody else's, whatever a failure does to the transaction.
func TestCombinedFailures(t *testing.T) {
	for name, failing := range map[string]struct {
		query  string
		args   []any
		reason string
		writes bool
	}{
		"constraint":      {addLog, []any{"first", 1}, "UNIQUE", false},
		"check":           {addLog, []any{"x", 100}, "CHECK", false},
		"or fail":         {"INSERT OR FAIL INTO log (who, n) VALUES (?, 1), ('first', 2)", []any{"bad"}, "UNIQUE", true},
		"or rollback":     {"INSERT OR ROLLBACK INTO log (who, n) VALUES (?, 1), ('first', 2)", []any{"bad"}, "UNIQUE", false},
		"raise(rollback)": {"INSERT INTO strict VALUES (?)", []any{"bad"}, "refused", false},
		"no such table":   {"INSERT INTO missing VALUES (?)", []any{"bad"}, "no such table", false},
		"arguments":       {addLog, []any{"x"}, "", false},
	} {
		for _, driverName := range []string{"sqlite3"} {
			for at := range 4 {
				t.Run(fmt.Sprintf("%s, %s, %d", name, driverName, at), func(t *testing.T) {
					testdb.NoLeaks(t)
					s := openCombining(t, driverName, "", "")
					s.short(addLog, failing.query)
					_, err := s.Exec(addLog, "first", 0)
					must(t, err)
					var execs []*queuedExec
					for i := range 6 {
						if i == at {
							execs = append(execs, call("bad", failing.query, failing.args...))
						} else {
							execs = append(execs, call(i, addLog, fmt.Sprint("good", i), i))
						}
					}
					s.run(execs...)
					for i, e := range execs {
						switch {
						case i != at:
							if e.err != nil {
								t.Errorf("call %d has got %v", i, e.err)
							}
						case e.err == nil || !strings.Contains(e.err.Error(), failing.reason):
							t.Errorf("the one that fails: got %v, want %q", e.err, failing.reason)
						}
					}
					var good, bad int
					must(t, s.QueryRow("SELECT count(*) FROM log WHERE who LIKE 'good%'").Scan(&good))
					must(t, s.QueryRow("SELECT count(*) FROM log WHERE who = 'bad' OR who = 'x'").Scan(&bad))
					if good != 5 || bad > 0 != failing.writes {
						t.Errorf("%d of the good rows are there, want 5; and %d of the bad ones", good, bad)
					}
				})
			}
		}
	}
}

// TestCombinedPanic is its own caller's, wherever it is in the batch.
func TestCombinedPanic(t *testing.T) {
	d := &hookedSQLite{hook: func(_ string, args []driver.NamedValue) {
		if len(args) > 0 && args[0].Value == "panic" {
			panic("of the driver")
		}
	}}
	panicky := hookedDriver(d)
	for at := range 4 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			testdb.NoLeaks(t)
			s := openCombining(t, panicky, "dialect=sqlite&stmt_cache=0", "")
			s.short(addLog)
			var execs []*queuedExec
			for i := range 5 {
				who := fmt.Sprint("good", i)
				if i == at {
					who = "panic"
				}
				execs = append(execs, call(i, addLog, who, i))
			}
			s.run(execs...)
			for i, e := range execs {
				if (e.panicked != nil) != (i == at) || i != at && e.err != nil {
					t.Errorf("call %d: panic %v, error %v", i, e.panicked, e.err)
				}
			}
			var n int
			must(t, s.QueryRow("SELECT count(*) FROM log").Scan(&n))
			if n != 4 {
				t.Errorf("%d rows are there, want 4", n)
			}
		})
	}
}

// TestCombinedCancel: a caller whose context ends while another runs its statement returns at once, and
// the lock of its user stays until that is over.
func TestCombinedCancel(t *testing.T) {
	testdb.NoLeaks(t)
	running, goOn := make(chan struct{}), make(chan struct{})
	d := &hookedSQLite{hook: func(_ string, args []driver.NamedValue) {
		if len(args) > 0 && args[0].Value == "slow" {
			close(running)
			<-goOn
		}
	}}
	s := openCombining(t, hookedDriver(d), "dialect=sqlite&stmt_cache=0", "")
	s.short(addLog)
	ctx, cancel := context.WithCancel(asUser("slow"))
	slow := call("slow", addLog, "slow", 1)
	slow.ctx = ctx
	left := call("left", addLog, "left", 1)
	leftCtx, leave := context.WithCancel(left.ctx)
	left.ctx = leftCtx
	leader, last := call(1, addLog, "leader", 1), call(2, addLog, "last", 1)
	letGo := s.queue(leader, slow, left, last)
	leave() // in the queue: it is not run
	<-left.done
	letGo()
	<-running
	cancel()
	<-slow.done
	if !errors.Is(slow.err, context.Canceled) || !errors.Is(left.err, context.Canceled) {
		t.Errorf("got %v and %v, want context.Canceled", slow.err, left.err)
	}
	tryCtx, unlock, err := TryLock(asUser("slow"), s.DB)
	if err == nil {
		unlock()
		t.Errorf("the user's lock is free while the statement runs: %v", tryCtx)
	}
	close(goOn)
	<-leader.done
	<-last.done
	must(t, leader.err)
	must(t, last.err)
	var found string
	must(t, s.QueryRow("SELECT group_concat(who) FROM (SELECT who FROM log ORDER BY id)").Scan(&found))
	if found != "leader,slow,last" {
		t.Errorf("there are %s", found)
	}
	_, unlock, err = TryLock(asUser("slow"), s.DB)
	must(t, err)
	unlock()
}

// TestCombinedInSection: the calls of a section are combined too, and one that has left while another runs it
// keeps the section's lock until that is over.
func TestCombinedInSection(t *testing.T) {
	testdb.NoLeaks(t)
	running, goOn := make(chan struct{}), make(chan struct{})
	d := &hookedSQLite{hook: func(_ string, args []driver.NamedValue) {
		if len(args) > 0 && args[0].Value == "slow" {
			close(running)
			<-goOn
		}
	}}
	s := openCombining(t, hookedDriver(d), "dialect=sqlite&stmt_cache=0", "")
	s.short(addLog)
	section, unlock, err := Lock(asUser("in a section"), s.DB)
	must(t, err)
	other, unlockOther, err := Lock(asUser("in another"), s.DB)
	must(t, err)
	defer unlockOther()
	pinned, unlockPinned, err := Lock(asUser("pinned"), s.DB, Pin())
	must(t, err)
	defer unlockPinned()
	ctx, cancel := context.WithCancel(section)
	leader, one, slow, last := call(1, addLog, "leader", 1), call(0, addLog, "one", 1), call(0, addLog, "slow", 1), call(2, addLog, "last", 1)
	inPinned, behind := call(0, addLog, "pinned", 1), call(3, addLog, "behind", 1)
	one.ctx, slow.ctx, inPinned.ctx = other, ctx, pinned
	s.queue(leader, one, slow, last, inPinned, behind)()
	<-running
	cancel()
	<-slow.done
	if !errors.Is(slow.err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", slow.err)
	}
	unlocked := make(chan struct{})
	go func() { unlock(); close(unlocked) }()
	select {
	case <-unlocked:
	case <-time.After(10 * time.Millisecond):
	}
	if _, unlock, err := TryLock(asUser("in a section"), s.DB); err == nil {
		unlock()
		t.Error("the section's lock is free while a statement of it runs")
	}
	close(goOn)
	<-unlocked
	for _, e := range []*queuedExec{leader, one, last, inPinned, behind} {
		<-e.done
		must(t, e.err)
	}
	waitFor(t, func() bool {
		_, unlock, err := TryLock(asUser("in a section"), s.DB)
		if err == nil {
			unlock()
		}
		return err == nil
	})
	var found string
	must(t, s.QueryRow("SELECT group_concat(who) FROM (SELECT who FROM log ORDER BY id)").Scan(&found))
	if found != "leader,one,slow,last,pinned,behind" {
		t.Errorf("there are %s", found)
	}
	if st := s.stats(); st.Combined != 3 {
		t.Errorf("%d calls were combined, want 3: not that of the pinned section, and nothing behind it", st.Combined)
	}
}

// TestCombinedAfterTx: a transaction of the pool's that has ended runs those that wait; one on a sql.Conn does not.
func TestCombinedAfterTx(t *testing.T) {
	for name, onConn := range map[string]bool{"on the handle": false, "on a sql.Conn": true} {
		t.Run(name, func(t *testing.T) {
			testdb.NoLeaks(t)
			s := openCombining(t, "sqlite3", "", "_journal_mode=WAL")
			s.short(addLog)
			conn, err := s.Conn(context.Background())
			must(t, err)
			defer conn.Close()
			first, err := s.Begin()
			must(t, err)
			mustExec(t, first, "UPDATE counters SET n = n WHERE id = '4'")
			before := call(4, addLog, "before", 1)
			before.start(s.DB)
			waitFor(t, func() bool { return waitingAtGates() == 1 })
			begin := s.BeginTx
			if onConn {
				begin = conn.BeginTx
			}
			tx, err := begin(context.Background(), nil)
			must(t, err)
			began := make(chan error, 1)
			go func() {
				_, err := tx.Exec(addLog, "tx", 1)
				began <- err
			}()
			waitFor(t, func() bool { return waitingAtGates() == 2 })
			execs := []*queuedExec{call(1, addLog, "one", 1), call(2, addLog, "two", 1), call(1, addLog, "three", 1)}
			for i, e := range execs {
				e.start(s.DB)
				waitFor(t, func() bool { return waitingAtGates() == i+3 })
			}
			must(t, first.Commit())
			<-before.done
			must(t, before.err)
			must(t, <-began)
			must(t, tx.Commit())
			if onConn {
				var who string
				must(t, conn.QueryRowContext(context.Background(), "SELECT who FROM log WHERE id = last_insert_rowid()").Scan(&who))
				if who != "tx" {
					t.Errorf("last_insert_rowid is that of %q", who)
				}
			}
			for _, e := range execs {
				<-e.done
				must(t, e.err)
			}
			if st := s.stats(); st.Combined == 3 != !onConn {
				t.Errorf("%d calls were combined", st.Combined)
			}
		})
	}
}

// TestCombinedBesideAnotherProcess: who cannot have SQLite's write lock gets SQLite's error, after its own wait.
func TestCombinedBesideAnotherProcess(t *testing.T) {
	testdb.NoLeaks(t)
	path := testdb.SQLite(t)
	s := &combineScene{openSQLite(t, "dblocker", "sqlite3:file:"+path+"?_busy_timeout=1"), t}
	mustExec(t, s.DB, "CREATE TABLE counters (id VARCHAR(20) PRIMARY KEY, n BIGINT NOT NULL)")
	mustExec(t, s.DB, "INSERT INTO counters VALUES ('1', 0), ('4', 0)")
	s.short(addCounter)
	execs := []*queuedExec{call(1, addCounter, "1"), call(2, addCounter, "1"), call(3, addCounter, "1")}
	letGo := s.queue(execs...)
	other, err := openSQLite(t, "sqlite3", "file:"+path+"?_busy_timeout=60000").Conn(context.Background())
	must(t, err)
	defer other.Close()
	locked := make(chan error, 1)
	go func() { locked <- execError(other, "BEGIN IMMEDIATE") }()
	letGo()
	must(t, <-locked)
	busy := 0
	for _, e := range execs {
		<-e.done
		var sqliteErr sqlite3.Error
		switch {
		case e.err == nil: // it was before the other
		case errors.As(e.err, &sqliteErr) && sqliteErr.Code == sqlite3.ErrBusy:
			busy++
		default:
			t.Errorf("got %v, want SQLite's own error", e.err)
		}
	}
	mustExec(t, other, "ROLLBACK")
	wantCounter(t, s.DB, len(execs)-busy)
}

// TestNotCombined: what could tell the difference is run by itself.
func TestNotCombined(t *testing.T) {
	withFunction := hookedDriver(&sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
		return c.RegisterFunc("own", func() int { return 1 }, true)
	}})
	takesLong := hookedDriver(&hookedSQLite{hook: func(string, []driver.NamedValue) { time.Sleep(time.Millisecond) }})
	for name, c := range map[string]struct {
		driver, options, params, query string
		prepare                        []string
	}{
		"off":               {options: "combine=off"},
		"own function":      {driver: withFunction, options: "dialect=sqlite"},
		"long":              {driver: takesLong, options: "dialect=sqlite&stmt_cache=0"},
		"returning":         {query: "UPDATE counters SET n = n + 2 WHERE id = ? RETURNING n"},
		"changes":           {query: "UPDATE counters SET n = changes() WHERE id = ?"},
		"statement_timeout": {options: "statement_timeout=1m"},
		"deferred key":      {params: "_foreign_keys=1", prepare: []string{"CREATE TABLE parent (id INTEGER PRIMARY KEY)", "CREATE TABLE child (id INT REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"}},
		"no journal":        {params: "_journal_mode=OFF"},
		"attached": {options: "max_open_conns=1", params: "_foreign_keys=1", prepare: []string{"ATTACH ':memory:' AS other", "CREATE TABLE other.parent (id INTEGER PRIMARY KEY)",
			"CREATE TABLE other.child (id INT REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"}},
		"temporary trigger": {options: "max_open_conns=1", prepare: []string{"CREATE TEMP TRIGGER later AFTER UPDATE ON main.counters BEGIN SELECT 1; END"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			testdb.NoLeaks(t)
			if c.driver == "" {
				c.driver = "sqlite3"
			}
			s := openCombining(t, c.driver, c.options, c.params)
			for _, query := range c.prepare {
				mustExec(t, s.DB, query)
			}
			if c.query == "" {
				c.query = addCounter
			}
			s.short(c.query)
			if name == "long" {
				openBackend(t, s.DB).Combining.Long = longCall
				connectorIn(t, s.DB).texts.Took(c.query).Store(int64(time.Millisecond))
			}
			var execs []*queuedExec
			for i := range 5 {
				execs = append(execs, call(i, c.query, "1"))
			}
			s.run(execs...)
			for _, e := range execs {
				must(t, e.err)
			}
			if st := s.stats(); st.Combined+st.Alone != 0 {
				t.Errorf("%d calls were combined, %d alone after that", st.Combined, st.Alone)
			}
		})
	}
}

// TestUnknownRunsAlone: nobody's answer waits for a stranger's statement of which it is not known how long it takes.
func TestUnknownRunsAlone(t *testing.T) {
	testdb.NoLeaks(t)
	running, goOn := make(chan struct{}), make(chan struct{})
	d := &hookedSQLite{hook: func(_ string, args []driver.NamedValue) {
		if len(args) > 0 && args[0].Value == "slow" {
			close(running)
			<-goOn
		}
	}}
	s := openCombining(t, hookedDriver(d), "dialect=sqlite&stmt_cache=0", "")
	s.short(addLog)
	first, last := call(1, addLog, "first", 1), call(3, addLog, "last", 1)
	// Handles share what is known of texts, so it is one that no run before had.
	slow := call(2, fmt.Sprintf("INSERT INTO log (who, n) VALUES (?, 2) -- %d", time.Now().UnixNano()), "slow")
	s.queue(first, slow, last)()
	<-running
	select {
	case <-first.done:
	case <-time.After(10 * time.Second):
		t.Error("the first waits for the stranger's statement")
	}
	close(goOn)
	for _, e := range []*queuedExec{first, slow, last} {
		<-e.done
		must(t, e.err)
	}
}

// TestLeaderIsCancelled: who works for others has its own statement interrupted as anybody.
func TestLeaderIsCancelled(t *testing.T) {
	testdb.NoLeaks(t)
	const long = `INSERT INTO log (who, n) WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 500000000)
		SELECT 'long', count(*) % 2 FROM c`
	s := openCombining(t, "sqlite3", "", "")
	s.short(addLog, long)
	leader, other := call(1, long), call(2, addLog, "other", 1)
	ctx, cancel := context.WithTimeout(leader.ctx, 200*time.Millisecond)
	defer cancel()
	leader.ctx = ctx
	began := time.Now()
	s.run(leader, other)
	must(t, other.err)
	if took := time.Since(began); took > 10*time.Second || !errors.Is(leader.err, context.DeadlineExceeded) {
		t.Errorf("after %v: got %v, want its context's error", took, leader.err)
	}
	var found string
	must(t, s.QueryRow("SELECT group_concat(who) FROM log").Scan(&found))
	if found != "other" {
		t.Errorf("there are %s", found)
	}
}

// slowCommits is mattn's driver where each COMMIT takes long.
type slowCommits struct{ sqlite3.SQLiteDriver }

type slowCommit struct{ *sqlite3.SQLiteConn }

func (d *slowCommits) Open(dsn string) (driver.Conn, error) {
	c, err := d.SQLiteDriver.Open(dsn)
	if err != nil {
		return nil, err
	}
	return &slowCommit{c.(*sqlite3.SQLiteConn)}, nil
}

func (c *slowCommit) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	res, err := c.SQLiteConn.ExecContext(ctx, query, args)
	if c.AutoCommit() {
		time.Sleep(time.Millisecond)
	}
	return res, err
}

// badCommits is mattn's driver where one COMMIT does something else, and returns an error.
type badCommits struct {
	sqlite3.SQLiteDriver
	instead string
	err     error
	before  atomic.Int32 // that many others
}

type badCommit struct {
	*sqlite3.SQLiteConn
	d *badCommits
}

func (d *badCommits) Open(dsn string) (driver.Conn, error) {
	c, err := d.SQLiteDriver.Open(dsn)
	if err != nil {
		return nil, err
	}
	return &badCommit{c.(*sqlite3.SQLiteConn), d}, nil
}

func (c *badCommit) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if query != "COMMIT" || c.d.before.Add(-1) != -1 {
		return c.SQLiteConn.ExecContext(ctx, query, args)
	}
	if _, err := c.SQLiteConn.ExecContext(ctx, c.d.instead, nil); err != nil {
		return nil, err
	}
	return nil, c.d.err
}

// TestCombinedCommitFails: what may have been committed is not run again, and its callers are told; so is one whose statement has failed
// in that transaction, which may be for what is not there any more. What is undone for certain is run again, and nobody is told.
func TestCombinedCommitFails(t *testing.T) {
	for name, c := range map[string]struct {
		instead string
		err     sqlite3.Error
		told    bool
	}{
		"sync":       {"COMMIT", sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrFsync}, true},
		"no memory":  {"COMMIT", sqlite3.Error{Code: sqlite3.ErrNomem}, true},
		"constraint": {"ROLLBACK", sqlite3.Error{Code: sqlite3.ErrConstraint, ExtendedCode: sqlite3.ErrConstraintForeignKey}, false},
		"full":       {"ROLLBACK", sqlite3.Error{Code: sqlite3.ErrFull}, false},
	} {
		for _, first := range []string{"of a leader's own", "of others' only"} {
			t.Run(name+", "+first, func(t *testing.T) {
				testdb.NoLeaks(t)
				d := &badCommits{instead: c.instead, err: c.err}
				s := openCombining(t, hookedDriver(d), "dialect=sqlite&stmt_cache=0", "")
				s.short(addLog, addCounter)
				execs := []*queuedExec{call(1, addCounter, "1"), call(2, addCounter, "1"), call(3, addLog, "x", 100), call(4, addCounter, "1")}
				if first == "of a leader's own" {
					const unknown = "UPDATE counters SET n = n + 1 WHERE id = (?)"
					s.short(unknown)
					connectorIn(t, s.DB).texts.Took(unknown).Store(0)
					execs[0].query = unknown
				}
				d.before.Store(1) // the one of who is in their way
				s.run(execs...)
				var n, none int
				must(t, s.QueryRow("SELECT n FROM counters WHERE id = '1'").Scan(&n))
				must(t, s.QueryRow("SELECT count(*) FROM log").Scan(&none))
				if n != 3 || none != 0 || d.before.Load() >= 0 {
					t.Errorf("the counter is %d, want 3", n)
				}
				told := 0
				for i, e := range execs {
					switch {
					case i == 2 && !(c.told && e.err == c.err):
						if e.err == nil || !strings.Contains(e.err.Error(), "CHECK") {
							t.Errorf("the one that fails by itself: got %v", e.err)
						}
					case e.err == c.err:
						told++
					case e.err != nil:
						t.Errorf("call %d: got %v, want %v", i, e.err, c.err)
					}
				}
				if c.told != (told > 0) {
					t.Errorf("%d callers were told %v", told, c.err)
				}
			})
		}
	}
}

// TestLongIsWithoutTheCommit: what has taken long once is combined again, be it that each COMMIT takes long.
func TestLongIsWithoutTheCommit(t *testing.T) {
	testdb.NoLeaks(t)
	s := openCombining(t, hookedDriver(&slowCommits{}), "dialect=sqlite&stmt_cache=0", "")
	s.short(addLog)
	connectorIn(t, s.DB).texts.Took(addLog).Store(int64(time.Millisecond))
	for n := 0; s.stats().Combined == 0; n++ {
		if n == 100 {
			t.Fatal("it is not combined any more")
		}
		var execs []*queuedExec
		for i := range 5 {
			execs = append(execs, call(i+1, addLog, fmt.Sprint(n, " ", i), i))
		}
		s.run(execs...)
		for _, e := range execs {
			must(t, e.err)
		}
	}
}

// TestCombinedPrepared: prepared statements are combined too, but for those with another number of arguments, whose
// error is that of a prepared statement.
func TestCombinedPrepared(t *testing.T) {
	testdb.NoLeaks(t)
	s := openCombining(t, "sqlite3", "", "")
	s.short(addLog)
	prepared, err := s.Prepare(addLog)
	must(t, err)
	defer prepared.Close()
	for count := 1; count <= 3; count++ {
		blocker, err := s.Begin()
		must(t, err)
		mustExec(t, blocker, "UPDATE counters SET n = n WHERE id = '4'")
		errs := make(chan error, 4)
		for i := range cap(errs) {
			args := []any{fmt.Sprint(count, " ", i), 1, 2}
			go func() {
				_, err := prepared.ExecContext(asUser(i+1), args[:count]...)
				errs <- err
			}()
			waitFor(t, func() bool { return waitingAtGates() == i+1 })
		}
		must(t, blocker.Commit())
		for range cap(errs) {
			err := <-errs
			if count == 2 {
				must(t, err)
			} else if want := fmt.Sprintf("sql: expected 2 arguments, got %d", count); err == nil || err.Error() != want {
				t.Errorf("with %d arguments: got %v, want %q", count, err, want)
			}
		}
	}
	if st := s.stats(); st.Combined != 3 || st.Alone != 0 {
		t.Errorf("%d were combined, and %d alone after that; want 3", st.Combined, st.Alone)
	}
}

// TestPanicsAreNotTheLeaders: who works for others does not fail, however often their calls panic.
func TestPanicsAreNotTheLeaders(t *testing.T) {
	testdb.NoLeaks(t)
	d := &hookedSQLite{hook: func(_ string, args []driver.NamedValue) {
		if len(args) > 0 && args[0].Value == "panic" {
			panic("of the driver")
		}
	}}
	const panics = "INSERT INTO log (who, n) VALUES (?, 3)"
	s := openCombining(t, hookedDriver(d), "dialect=sqlite&stmt_cache=0", "")
	s.short(addLog, panics)
	end := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-end:
					return
				default:
				}
				if _, err := s.ExecContext(asUser(i+1), addLog, fmt.Sprint(i, " ", n), 1); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 300 {
		s.short(panics)
		e := call("panic", panics, "panic")
		e.start(s.DB)
		<-e.done
		if e.panicked != "of the driver" {
			t.Errorf("it has got %v, %v, instead of its panic", e.panicked, e.err)
		}
	}
	close(end)
	wg.Wait()
}

// TestConnKeepsItsRowid: on a sql.Conn what a statement has left can be asked for, also if others waited.
func TestConnKeepsItsRowid(t *testing.T) {
	testdb.NoLeaks(t)
	s := openCombining(t, "sqlite3", "", "")
	s.short(addLog)
	end := make(chan struct{})
	var wg sync.WaitGroup
	var others atomic.Int64
	for i := range 16 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-end:
					return
				default:
				}
				if _, err := s.ExecContext(asUser(i), addLog, fmt.Sprint("other", i, " ", n), 1); err != nil {
					t.Error(err)
					return
				}
				others.Add(1)
			}
		})
	}
	waitFor(t, func() bool { return s.stats().Combined > 0 })
	for i := range 200 {
		conn, err := s.Conn(context.Background())
		must(t, err)
		ctx := asUser("conn")
		if i%2 == 0 {
			_, err = conn.ExecContext(ctx, addLog, fmt.Sprint("conn", i), 1)
		} else {
			stmt, perr := conn.PrepareContext(ctx, addLog)
			must(t, perr)
			_, err = stmt.ExecContext(ctx, fmt.Sprint("conn", i), 1)
			stmt.Close()
		}
		must(t, err)
		var who string
		must(t, conn.QueryRowContext(ctx, "SELECT who FROM log WHERE id = last_insert_rowid()").Scan(&who))
		if who != fmt.Sprint("conn", i) {
			t.Errorf("last_insert_rowid is that of %q", who)
		}
		must(t, conn.Close())
	}
	close(end)
	wg.Wait()
	if st := s.stats(); st.Combined == 0 {
		t.Errorf("of %d others none was combined", others.Load())
	}
}

// TestCombinedModel: many goroutines do what succeeds, fails, ends the transaction or is cancelled, all at
// once, prepared and as text; and each finds what it was told, and nothing else.
func TestCombinedModel(t *testing.T) {
	const (
		orRollback = "INSERT OR ROLLBACK INTO log (who, n) VALUES (?, 1), ('first', 2)"
		orFail     = "INSERT OR FAIL INTO log (who, n) VALUES (?, 1), ('first', 2)"
		refused    = "INSERT INTO strict VALUES (?)"
	)
	for _, name := range []string{"sqlite3"} {
		for _, journal := range []string{"WAL", "DELETE"} {
			t.Run(name+", "+journal, func(t *testing.T) {
				testdb.NoLeaks(t)
				params := "_journal_mode=" + journal
				if name == "sqlite" {
					params = "_pragma=journal_mode(" + journal + ")"
				}
				s := openCombining(t, name, "stmt_cache=16", params)
				_, err := s.Exec(addLog, "first", 0)
				must(t, err)
				prepared, err := s.Prepare(addLog)
				must(t, err)
				var mu sync.Mutex
				want := map[string]bool{"first": true}
				counted := 0
				outcome := func(who string, err error, must bool) {
					mu.Lock()
					defer mu.Unlock()
					if must {
						want[who] = err == nil
					} else if err == nil {
						want[who] = true
					}
				}
				var wg sync.WaitGroup
				for g := range 24 {
					wg.Go(func() {
						dice := rand.New(rand.NewPCG(uint64(g), 1))
						for i := range 120 {
							ctx := asUser(dice.IntN(8))
							if dice.IntN(10) == 0 {
								ctx = context.Background()
							}
							who := fmt.Sprintf("%d %d", g, i)
							switch dice.IntN(12) {
							case 0:
								_, err := s.ExecContext(ctx, addLog, "first", 1)
								if err == nil || !strings.Contains(err.Error(), "UNIQUE") {
									t.Errorf("a second first: %v", err)
								}
							case 1:
								_, err := s.ExecContext(ctx, orRollback, who)
								if err == nil || !strings.Contains(err.Error(), "UNIQUE") {
									t.Errorf("or rollback: %v", err)
								}
								outcome(who, err, true)
							case 2:
								_, err := s.ExecContext(ctx, orFail, who)
								if err == nil || !strings.Contains(err.Error(), "UNIQUE") {
									t.Errorf("or fail: %v", err)
								}
								outcome(who, nil, true)
							case 3:
								_, err := s.ExecContext(ctx, refused, who)
								if err == nil || !strings.Contains(err.Error(), "refused") {
									t.Errorf("refused: %v", err)
								}
							case 4:
								ctx, cancel := context.WithTimeout(ctx, time.Duration(dice.IntN(300))*time.Microsecond)
								_, err := s.ExecContext(ctx, addLog, who, 1)
								cancel()
								outcome(who, err, false)
							case 5:
								tx, err := s.BeginTx(ctx, nil)
								if err != nil {
									t.Error(err)
									return
								}
								_, err = tx.ExecContext(ctx, addLog, who, 1)
								if dice.IntN(2) == 0 {
									tx.Rollback()
									outcome(who, errors.New("rolled back"), true)
								} else {
									outcome(who, errors.Join(err, tx.Commit()), true)
								}
							case 6, 7:
								res, err := prepared.ExecContext(ctx, who, 1)
								outcome(who, err, true)
								if err != nil {
									t.Error(err)
									return
								}
								id, _ := res.LastInsertId()
								var is string
								if err := s.QueryRowContext(ctx, "SELECT who FROM log WHERE id = ?", id).Scan(&is); err != nil || is != who {
									t.Errorf("row %d is %q, %v; want %q", id, is, err, who)
								}
							case 8, 9:
								if _, err := s.ExecContext(ctx, addCounter, "1"); err != nil {
									t.Error(err)
								}
								mu.Lock()
								counted++
								mu.Unlock()
							default:
								_, err := s.ExecContext(ctx, addLog, who, 1)
								outcome(who, err, true)
								if err != nil {
									t.Error(err)
								}
							}
						}
					})
				}
				wg.Wait()
				must(t, prepared.Close())
				rows, err := s.Query("SELECT who FROM log")
				must(t, err)
				found := make(map[string]bool)
				for rows.Next() {
					var who string
					must(t, rows.Scan(&who))
					found[who] = true
				}
				must(t, rows.Err())
				for who, is := range want {
					if found[who] != is {
						t.Errorf("%q: found %v, want %v", who, found[who], is)
					}
				}
				wantCounter(t, s.DB, counted)
				st := s.stats()
				if st.Combined == 0 {
					t.Error("nothing was combined")
				}
				t.Logf("%d batches with %d calls, %d alone after that", st.Batches, st.Combined, st.Alone)
			})
		}
	}
}
