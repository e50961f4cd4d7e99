package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// An eventLog has the events of a handle, in their order.
type eventLog struct {
	mu     sync.Mutex
	events []Event
}

func (l *eventLog) add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// of returns those of a kind.
func (l *eventLog) of(k EventKind) (found []Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Kind == k {
			found = append(found, e)
		}
	}
	return found
}

func (l *eventLog) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = nil
}

// one returns the only one of a kind.
func (l *eventLog) one(t *testing.T, k EventKind) Event {
	t.Helper()
	found := l.of(k)
	if len(found) != 1 {
		t.Fatalf("%d events %s, want one: %+v", len(found), k, found)
	}
	return found[0]
}

// await waits for one of a kind that fits.
func (l *eventLog) await(t *testing.T, k EventKind, fits func(Event) bool) (e Event) {
	t.Helper()
	waitFor(t, func() bool {
		for _, found := range l.of(k) {
			if fits(found) {
				e = found
				return true
			}
		}
		return false
	})
	return e
}

// observed returns options for a handle whose events come to the log, all kinds of them.
func (l *eventLog) option() Option { return Observe(l.add, everyCall...) }

type traceKey struct{}

// traced is a context of a user with something that a trace would find.
func traced(user any, span string) context.Context {
	return WithUser(context.WithValue(context.Background(), traceKey{}, span), user)
}

func spanOf(ctx context.Context) any {
	if ctx == nil {
		return nil
	}
	return ctx.Value(traceKey{})
}

// TestWaitEvents: a wait is told of when it begins and when it ends, with what is in its way, and the contexts of both sides.
func TestWaitEvents(t *testing.T) {
	for _, tc := range []struct {
		name    string
		opts    []Option
		wait    func(db *sql.DB, ctx context.Context) error
		end     func(db *sql.DB, tx *sql.Tx, cancel func())
		outcome Outcome
		waited  time.Duration
		what    string
	}{
		{"granted", nil, execAs, func(_ *sql.DB, tx *sql.Tx, _ func()) { tx.Rollback() }, OutcomeGranted, time.Second, "lock"},
		{"context", nil, execAs, func(_ *sql.DB, _ *sql.Tx, cancel func()) { cancel() }, OutcomeContext, time.Second, "lock"},
		{"timeout", []Option{LockTimeout(3 * time.Second)}, execAs, func(*sql.DB, *sql.Tx, func()) {}, OutcomeTimeout, 3 * time.Second, "lock"},
		{"closed", nil, execAs, func(db *sql.DB, _ *sql.Tx, _ func()) { db.Close() }, OutcomeClosed, time.Second, "lock"},
		{"a section", nil, func(db *sql.DB, ctx context.Context) error {
			_, unlock, err := Lock(ctx, db, Tag("reorganize"))
			unlock()
			return err
		}, func(_ *sql.DB, tx *sql.Tx, _ func()) { tx.Rollback() }, OutcomeGranted, time.Second, "lock"},
		{"a connection", []Option{MaxOpenConns(1)}, func(db *sql.DB, ctx context.Context) error {
			return execAs(db, WithUser(ctx, 2))
		}, func(_ *sql.DB, tx *sql.Tx, _ func()) { tx.Rollback() }, OutcomeGranted, time.Second, "connection"},
		{"the gate", []Option{Dialect("sqlite")}, func(db *sql.DB, ctx context.Context) error {
			return execAs(db, WithUser(ctx, 2))
		}, func(_ *sql.DB, tx *sql.Tx, _ func()) { tx.Rollback() }, OutcomeGranted, time.Second, "gate"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var l eventLog
				db := openStub(t, &stub{}, append(tc.opts, l.option())...)
				tx, err := db.BeginTx(traced(1, "holder"), nil)
				must(t, err)
				_, err = tx.ExecContext(traced(1, "holder"), "UPDATE t SET v = 1")
				must(t, err)
				ctx, cancel := context.WithCancel(traced(1, "waiter"))
				defer cancel()
				result := make(chan error, 1)
				go func() { result <- tc.wait(db, ctx) }()
				synctest.Wait()
				began := l.one(t, EventWaitBegan)
				time.Sleep(time.Second)
				tc.end(db, tx, cancel)
				err = <-result
				synctest.Wait()
				ended := l.one(t, EventWaitEnded)
				if began.Wait == 0 || began.Wait != ended.Wait || ended.Duration != tc.waited || ended.Outcome != tc.outcome {
					t.Errorf("a wait of %v that ended with %v (%v): told %+v, %+v", tc.waited, tc.outcome, err, began, ended)
				}
				for _, e := range []Event{began, ended} {
					if e.What != tc.what || spanOf(e.Context) != "waiter" {
						t.Errorf("%s: What is %q, want %q; the context is that of %v", e.Kind, e.What, tc.what, spanOf(e.Context))
					}
					if e.Blocker == nil || e.Blocker.Kind == "" || spanOf(e.BlockerContext) != "holder" {
						t.Errorf("%s: in the way is %+v, with the context of %v", e.Kind, e.Blocker, spanOf(e.BlockerContext))
					}
				}
				if tc.name == "a section" && (began.Tag != "reorganize" || began.Held != "section") {
					t.Errorf("the wait for a section is told as %+v", began)
				}
				tx.Rollback()
			})
		})
	}
}

func execAs(db *sql.DB, ctx context.Context) error {
	_, err := db.ExecContext(ctx, "UPDATE t SET v = 1")
	return err
}

// TestNoWaitNoEvent: what has nothing in its way, and what does not wait, is not told of.
func TestNoWaitNoEvent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var l eventLog
		db := openStub(t, &stub{}, Observe(l.add))
		must(t, execAs(db, asUser(1)))
		_, unlock := beginTest(t, Lock, asUser(1), db)
		_, _, err := TryLock(asUser(1), db)
		if !errors.Is(err, ErrLockTimeout) {
			t.Errorf("TryLock: got %v", err)
		}
		unlock()
		synctest.Wait()
		for _, e := range l.events {
			if e.Kind != EventConnOpened {
				t.Errorf("told %+v", e)
			}
		}
	})
}

// TestDeadlockEvent: one who is refused, with the circle.
func TestDeadlockEvent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var l eventLog
		db := openStub(t, &stub{}, l.option())
		results := make(chan error)
		var both sync.WaitGroup
		both.Add(2)
		cross := func(first, second int) {
			ctx, unlock, err := Lock(traced(first, "a request"), db, Tag("transfer"))
			defer unlock()
			both.Done()
			both.Wait()
			if err == nil {
				err = execAs(db, WithUser(ctx, second))
			}
			results <- err
		}
		go cross(1, 2)
		go cross(2, 1)
		err := errors.Join(<-results, <-results)
		if !errors.Is(err, ErrDeadlock) {
			t.Fatalf("got %v", err)
		}
		synctest.Wait()
		e := l.one(t, EventDeadlock)
		if e.User == "" || e.Blocker == nil || e.Blocker.Tag != "transfer" || len(e.Circle) != 4 || e.Err != ErrDeadlock || spanOf(e.Context) != "a request" {
			t.Errorf("told %+v", e)
		}
		if ended := l.of(EventWaitEnded); !slices.ContainsFunc(ended, func(e Event) bool { return e.Outcome == OutcomeDeadlock }) {
			t.Errorf("the waits ended as %+v", ended)
		}
	})
}

// TestLongHoldEvent: who keeps others waiting for five seconds is told of, with its own user, tag and context.
func TestLongHoldEvent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var l eventLog
		db := openStub(t, &stub{}, l.option())
		_, unlock, err := Lock(traced(1, "holder"), db, Tag("export"))
		must(t, err)
		for range 3 {
			go db.ExecContext(asUser(1), "UPDATE t SET v = 1")
		}
		time.Sleep(4900 * time.Millisecond)
		if early := l.of(EventHoldLong); len(early) > 0 {
			t.Errorf("before five seconds: told %+v", early)
		}
		time.Sleep(2 * time.Second)
		e := l.one(t, EventHoldLong)
		if e.User != "1" || e.Tag != "export" || e.Held != "section" || e.Mode != Exclusive || e.Duration < 5*time.Second || e.Waiting != 3 || spanOf(e.Context) != "holder" {
			t.Errorf("told %+v", e)
		}
		unlock()
		synctest.Wait()
	})
}

// TestHoldEndedEvents: each hold, with how long it was; only to who asks for it.
func TestHoldEndedEvents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var all, few eventLog
		db := openStub(t, &stub{}, all.option(), Observe(few.add))
		tx, err := db.BeginTx(traced(1, "a request"), nil)
		must(t, err)
		time.Sleep(time.Minute)
		must(t, tx.Commit())
		rows, err := db.QueryContext(asUser(2), "SELECT 1")
		must(t, err)
		time.Sleep(time.Second)
		must(t, rows.Close())
		must(t, execAs(db, asUser(3)))
		_, unlock := beginTest(t, RLock, asUser(4), db)
		unlock()
		synctest.Wait()
		var got []string
		for _, e := range all.of(EventHoldEnded) {
			got = append(got, strings.Join([]string{e.User, e.Held, e.Mode.String(), e.Duration.String()}, " "))
		}
		want := []string{"1 transaction exclusive 1m0s", "2 rows shared 1s", "3 statement exclusive 0s", "4 section shared 0s"}
		if !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		if spanOf(all.of(EventHoldEnded)[0].Context) != "a request" {
			t.Error("the hold has another context than its call")
		}
		if n := len(few.of(EventHoldEnded)); n > 0 {
			t.Errorf("who has not asked was told of %d", n)
		}
	})
}

// TestUpgradeAndSpillEvents: an owner that writes while it reads, and rows that make way for others.
func TestUpgradeAndSpillEvents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var l eventLog
		db := openStub(t, &stub{}, l.option())
		ctx := traced(1, "reader")
		rows, err := db.QueryContext(ctx, "SELECT 1")
		must(t, err)
		must(t, execAs(db, ctx))
		synctest.Wait()
		if e := l.one(t, EventUpgrade); e.User != "1" || e.Mode != Exclusive || e.Held != "statement" || spanOf(e.Context) != "reader" {
			t.Errorf("told %+v", e)
		}
		must(t, execAs(db, asUser(1))) // a stranger, after a second
		synctest.Wait()
		if e := l.one(t, EventSpill); e.User != "1" || e.Bytes <= 0 || spanOf(e.Context) != "reader" {
			t.Errorf("told %+v", e)
		}
		must(t, rows.Close())
		must(t, execAs(db, ctx))
		synctest.Wait()
		l.one(t, EventUpgrade) // that was none
	})
}

// TestSessionEvents: a session that was lost, and its end.
func TestSessionEvents(t *testing.T) {
	for _, tc := range []struct {
		name    string
		lives   time.Duration
		outcome Outcome
	}{
		{"the server ends it", 3 * time.Second, OutcomeGranted},
		{"cancel_grace passes", time.Hour, OutcomeTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var l eventLog
			onSessions(t, []Option{l.option()}, func(t *testing.T, db *sql.DB, s *sessionStub, _ *strings.Builder) {
				s.set(func() { s.immortal = true })
				hang(t, db)
				time.AfterFunc(tc.lives, func() { s.set(func() { delete(s.sessions, 1) }) })
				synctest.Wait()
				if e := l.one(t, EventSessionLost); e.User != "1" || e.Held != "statement" || e.Context == nil {
					t.Errorf("told %+v", e)
				}
				time.Sleep(20 * time.Second)
				if e := l.one(t, EventSessionEnded); e.User != "1" || e.Outcome != tc.outcome || e.Duration < min(tc.lives, 9*time.Second) {
					t.Errorf("told %+v", e)
				}
			})
		})
	}
}

// TestConnEvents on each engine: a connection that is opened, and closed.
func TestConnEvents(t *testing.T) {
	onEngines(t, "max_idle_conns=0", func(t *testing.T, db *sql.DB, c *Connector) {
		var l eventLog
		other := observe(t, c, &l)
		var n int
		must(t, other.QueryRowContext(traced(1, "a request"), "SELECT n FROM counters WHERE id = '1'").Scan(&n))
		l.await(t, EventConnOpened, func(e Event) bool { return e.Err == nil && e.Duration > 0 })
		must(t, other.Close())
		l.await(t, EventConnClosed, func(e Event) bool { return e.Duration > 0 })
	})
}

// TestOperationEvents on each engine: what is done at the server, and how long it takes.
func TestOperationEvents(t *testing.T) {
	onEngines(t, "", func(t *testing.T, _ *sql.DB, c *Connector) {
		var l eventLog
		db := observe(t, c, &l)
		ctx := traced(1, "a request")
		mustExec(t, db, "UPDATE counters SET n = n + 1 WHERE id = '2'")
		var n int
		must(t, db.QueryRowContext(ctx, "-- the first\nselect n FROM counters WHERE id = '1'").Scan(&n))
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		_, err = tx.ExecContext(ctx, "INSERT INTO counters VALUES ('1', 1)") // which is there
		if err == nil {
			t.Fatal("a duplicate key was inserted")
		}
		must(t, tx.Rollback())
		for _, want := range []struct {
			operation string
			user      string
			fails     bool
		}{{"UPDATE", "", false}, {"SELECT", "1", false}, {"BEGIN", "1", false}, {"INSERT", "1", true}, {"ROLLBACK", "1", false}} {
			l.await(t, EventOperationEnded, func(e Event) bool {
				return e.Operation == want.operation && e.User == want.user && e.Duration > 0 && (e.Err != nil) == want.fails && (want.user == "" || want.operation == "ROLLBACK" || spanOf(e.Context) == "a request")
			})
		}
	})
}

// observe opens another handle like c, whose events come to the log.
func observe(t *testing.T, c *Connector, l *eventLog) *sql.DB {
	t.Helper()
	cfg := *c.config
	must(t, l.option()(&cfg))
	db := sql.OpenDB(newConnector(*c.driver, &cfg, c.inner, c.dsn))
	t.Cleanup(func() { db.Close() })
	return db
}

// openObserved opens a SQLite file whose events come to the log.
func openObserved(t *testing.T, l *eventLog, opts ...Option) *sql.DB {
	t.Helper()
	name := hookedDriver(&sqlite3.SQLiteDriver{}) + "-observed"
	must(t, Register(name, &sqlite3.SQLiteDriver{}, append(opts, l.option())...))
	return openSQLite(t, name, "file:"+testdb.SQLite(t))
}

// TestBatchEvents: the calls that one has run for others.
func TestBatchEvents(t *testing.T) {
	var l eventLog
	db := openObserved(t, &l)
	mustExec(t, db, "CREATE TABLE counters (id INTEGER PRIMARY KEY, n BIGINT NOT NULL)")
	mustExec(t, db, "INSERT INTO counters VALUES (1, 0), (2, 0), (3, 0), (4, 0)")
	env := &openBackend(t, db).Combining
	env.Longest, env.Long = time.Hour, time.Hour
	s := &combineScene{db, t}
	const query = "UPDATE counters SET n = n + 1 WHERE id = ?"
	s.short(query)
	s.run(call(1, query, 1), call(2, query, 2), call(3, query, 3))
	st := s.stats()
	waitFor(t, func() bool {
		n := 0
		for _, e := range l.of(EventBatch) {
			n += e.Count
		}
		return int64(n) == st.Combined && n > 0 && int64(len(l.of(EventBatch))) == st.Batches
	})
	operations := 0
	waitFor(t, func() bool {
		operations = 0
		for _, e := range l.of(EventOperationEnded) {
			if e.User != "" && e.Operation == "UPDATE" && e.Duration > 0 {
				operations++
			}
		}
		return operations == 3
	})
}

// TestSyncEvents: each sync is told of once, to the handle of a call that waits for it.
func TestSyncEvents(t *testing.T) {
	var l, others eventLog
	db := openObserved(t, &l, Durability(GroupDurability))
	mustExec(t, db, "CREATE TABLE log (id INTEGER PRIMARY KEY, who TEXT)")
	var n int
	must(t, observe(t, connectorIn(t, db), &others).QueryRow("SELECT 1").Scan(&n))
	for range 3 {
		mustExec(t, db, "INSERT INTO log (who) VALUES ('me')")
	}
	st, err := Stats(db)
	must(t, err)
	waitFor(t, func() bool { return int64(len(l.of(EventSync))) == st.Syncs })
	for _, e := range l.of(EventSync) {
		if e.Count < 1 || e.Duration <= 0 || e.Err != nil {
			t.Errorf("told %+v", e)
		}
	}
	if n := len(others.of(EventSync)); n > 0 {
		t.Errorf("a handle that has written nothing was told of %d syncs", n)
	}
}

// TestEventsOfTheCallsHandle: of handles that share a database, each has the events of its own calls, be it that another one is in the way.
func TestEventsOfTheCallsHandle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var a, b eventLog
		first := openStub(t, &stub{}, Lockspace(t.Name()), a.option())
		second := openStub(t, &stub{}, Lockspace(t.Name()), b.option())
		_, unlock, err := Lock(traced(1, "holder"), first)
		must(t, err)
		go func() {
			time.Sleep(time.Second)
			unlock()
		}()
		must(t, execAs(second, asUser(1)))
		synctest.Wait()
		if n := len(a.of(EventWaitBegan)); n > 0 {
			t.Errorf("the handle of the holder was told of %d waits", n)
		}
		if e := b.one(t, EventWaitEnded); spanOf(e.BlockerContext) != "holder" {
			t.Errorf("told %+v", e)
		}
	})
}

// TestObserverMayUseTheHandle: in the function all of the handle may be used, in the midst of a transaction that has the only connection,
// the gate and the user's lock. Nobody is kept waiting by it, however long it takes.
func TestObserverMayUseTheHandle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db *sql.DB
		var l eventLog
		calls, used := 0, 0
		db = openStub(t, &stub{}, Dialect("sqlite"), MaxOpenConns(1), l.option(), Observe(func(e Event) {
			if calls++; e.Kind != EventHoldEnded || calls > 20 {
				return
			}
			if _, err := Stats(db); err != nil {
				t.Error(err)
			}
			if _, err := Holds(db); err != nil {
				t.Error(err)
			}
			if err := execAs(db, asUser(1)); err != nil {
				t.Errorf("an Exec in the function: %v", err)
			}
			used++
			time.Sleep(time.Minute)
		}, EventHoldEnded))
		start := time.Now()
		for range 5 {
			tx, err := db.BeginTx(asUser(1), nil)
			must(t, err)
			mustExec(t, tx, "UPDATE t SET v = 1")
			must(t, tx.Commit())
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("the calls took %v beside a slow function", took)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if used == 0 {
			t.Error("the function was not called")
		}
	})
}

// TestObserversAreContained: a panic and the end of the goroutine are the function's own matter, and logged once; another one is called as ever.
func TestObserversAreContained(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log syncBuffer
		var l eventLog
		n := 0
		db := openStub(t, &stub{}, Logger(textLogger(&log)), Observe(func(Event) {
			if n++; n == 2 {
				runtime.Goexit()
			}
			panic("of the program")
		}, EventHoldEnded), l.option())
		for range 4 {
			must(t, execAs(db, asUser(1)))
		}
		synctest.Wait()
		if n < 4 || len(l.of(EventHoldEnded)) < 4 {
			t.Errorf("the functions were called %d and %d times", n, len(l.events))
		}
		if lines := strings.Count(log.String(), "panicked"); lines != 1 {
			t.Errorf("%d lines of the panic, want 1:\n%s", lines, log.String())
		}
	})
}

// TestEventsAreInTheDocs: each kind, and each outcome, is in the table of the page, and no other.
func TestEventsAreInTheDocs(t *testing.T) {
	text, err := os.ReadFile("docs/observability.md")
	must(t, err)
	_, table, _ := strings.Cut(string(text), "\n## Events\n")
	table, _, _ = strings.Cut(table, "\n## ")
	var inDocs []EventKind
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| [^|]+ \\|").FindAllStringSubmatch(table, -1) {
		inDocs = append(inDocs, EventKind(m[1]))
	}
	slices.Sort(inDocs)
	inCode := slices.Sorted(slices.Values(eventKinds))
	if !slices.Equal(inDocs, inCode) {
		t.Errorf("the page has\n%q, the code\n%q", inDocs, inCode)
	}
	source, err := os.ReadFile("event.go")
	must(t, err)
	for _, m := range regexp.MustCompile(`(Event|Outcome)\w+ +(EventKind|Outcome) += "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		if m[2] == "EventKind" && !EventKind(m[3]).isKnown() {
			t.Errorf("the kind %s is not in eventKinds", m[3])
		} else if !strings.Contains(table, m[3]) {
			t.Errorf("the page does not have %s", m[3])
		}
	}
	if !strings.Contains(table, string(OutcomeFailed)) || len(inDocs) < 17 {
		t.Error("the test finds nothing")
	}
}

// TestObserveRefuses what it cannot be.
func TestObserveRefuses(t *testing.T) {
	for _, o := range []Option{Observe(nil), Observe(func(Event) {}, "every wait")} {
		if _, err := NewConnector(&stub{}, o); err == nil || !strings.Contains(err.Error(), "Observe") {
			t.Errorf("got %v", err)
		}
	}
}

// TestDatabaseEvents: the database of a user is opened, and closed when nobody has used it for long.
func TestDatabaseEvents(t *testing.T) {
	var l eventLog
	name := hookedDriver(&sqlite3.SQLiteDriver{}) + "-observed"
	must(t, Register(name, &sqlite3.SQLiteDriver{}, MaxOpenDatabases(1), l.option()))
	db := openSQLite(t, name, "file:"+t.TempDir()+"/{user}.db")
	for user := range 2 {
		mustExecAs(t, db, user, "CREATE TABLE t (v INT)")
	}
	for _, user := range []string{"0", "1"} {
		l.await(t, EventDatabaseOpened, func(e Event) bool { return e.User == user && e.Err == nil && e.Duration > 0 })
	}
	l.await(t, EventDatabaseEvicted, func(e Event) bool { return e.User == "0" && e.Duration > 0 })
}

func mustExecAs(t *testing.T, db *sql.DB, user any, query string) {
	t.Helper()
	_, err := db.ExecContext(asUser(user), query)
	must(t, err)
}
