package dblocker

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// A reachScene has handles that stand for processes: each has locks of its own in the process, as its connector
// does not tell what it opens.
type reachScene struct {
	*testing.T
	dsn   string
	plain *sql.DB // without dblocker, to look on
}

func newReachScene(t *testing.T) *reachScene {
	testdb.NoLeaks(t)
	d := testdb.Postgres(t).NewDatabase(t)
	plain, err := sql.Open("postgres", d.DSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plain.Close() })
	s := &reachScene{t, d.DSN(), plain}
	s.exec("CREATE TABLE counters (name TEXT PRIMARY KEY, n INT)")
	s.exec("INSERT INTO counters VALUES ('a', 0), ('b', 0)")
	return s
}

func (s *reachScene) exec(query string, args ...any) {
	s.Helper()
	if _, err := s.plain.Exec(query, args...); err != nil {
		s.Fatalf("%s: %v", query, err)
	}
}

// process returns a handle that has nothing in common with another but the server.
func (s *reachScene) process(opts ...Option) *sql.DB {
	s.Helper()
	connector, err := pq.NewConnector(s.dsn)
	if err != nil {
		s.Fatal(err)
	}
	db, err := OpenDB(connector, append([]Option{LockScope(DatabaseScope)}, opts...)...)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		db.Close()
		s.untilNoLocks()
	})
	return db
}

// locks counts the advisory locks that are held, or waited for.
func (s *reachScene) locks(granted bool) (n int) {
	s.Helper()
	if err := s.plain.QueryRow("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted = $1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())", granted).Scan(&n); err != nil {
		s.Fatal(err)
	}
	return n
}

func (s *reachScene) until(what string, is func() bool) {
	s.Helper()
	for until := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(until) {
			s.Fatalf("still not so after 20s: %s", what)
		}
	}
}

func (s *reachScene) untilNoLocks() {
	s.Helper()
	s.until("no advisory lock is left", func() bool { return s.locks(true) == 0 && s.locks(false) == 0 })
}

// untilWaits returns when somebody waits for an advisory lock at the server.
func (s *reachScene) untilWaits() {
	s.Helper()
	s.until("somebody waits for an advisory lock", func() bool { return s.locks(false) > 0 })
}

// a reachWork reads a counter, and writes one more, in ways of which each has to be under one lock.
type reachWork struct {
	name string
	do   func(ctx context.Context, db *sql.DB) error
}

func incrementIn(ctx context.Context, db interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}) error {
	var n int
	if err := db.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = $1", "a").Scan(&n); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, "UPDATE counters SET n = $1 WHERE name = $2", n+1, "a")
	return err
}

func incrementInTx(opts *sql.TxOptions) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, opts)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := incrementIn(ctx, tx); err != nil {
			return err
		}
		return tx.Commit()
	}
}

func incrementInSection(ctx context.Context, db *sql.DB) error {
	return Do(ctx, db, func(ctx context.Context) error { return incrementIn(ctx, db) })
}

func incrementInRawTx(begin string) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.ExecContext(ctx, begin); err != nil {
			return err
		}
		if err := incrementIn(ctx, conn); err != nil {
			return err
		}
		_, err = conn.ExecContext(ctx, "COMMIT")
		return err
	}
}

var reachWorks = []reachWork{
	{"section", incrementInSection},
	{"all users", func(ctx context.Context, db *sql.DB) error {
		ctx, unlock, err := LockAll(ctx, db)
		defer unlock()
		if err != nil {
			return err
		}
		return incrementIn(ctx, db)
	}},
	{"several users", func(ctx context.Context, db *sql.DB) error {
		ctx, unlock, err := LockUsers(ctx, db, "y", "u", "x")
		defer unlock()
		if err != nil {
			return err
		}
		return incrementIn(ctx, db)
	}},
	{"Tx", incrementInTx(nil)},
	{"Tx at READ COMMITTED", incrementInTx(&sql.TxOptions{Isolation: sql.LevelReadCommitted})},
	{"Tx at REPEATABLE READ", incrementInTx(&sql.TxOptions{Isolation: sql.LevelRepeatableRead})},
	{"Tx at SERIALIZABLE", incrementInTx(&sql.TxOptions{Isolation: sql.LevelSerializable})},
	{"BEGIN", incrementInRawTx("BEGIN")},
	{"BEGIN at REPEATABLE READ", incrementInRawTx("BEGIN ISOLATION LEVEL REPEATABLE READ")},
	{"BEGIN in a string", incrementInRawTx("SET application_name = 'x'; BEGIN ISOLATION LEVEL SERIALIZABLE")},
	{"one statement", func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = $1", "a")
		return err
	}},
	{"a query that writes", func(ctx context.Context, db *sql.DB) error {
		var n int
		return db.QueryRowContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = 'a' RETURNING n").Scan(&n)
	}},
}

// TestReachLosesNoUpdates: read and write under one lock lose nothing among processes, whatever kind of lock it is, and fail
// for nothing; not even at levels of isolation at which the server refuses to write what was changed meanwhile.
func TestReachLosesNoUpdates(t *testing.T) {
	const workers, rounds = 3, 8
	s := newReachScene(t)
	dbs := []*sql.DB{s.process(), s.process(), s.process()}
	want := 0
	for _, work := range reachWorks {
		var all sync.WaitGroup
		for _, db := range dbs {
			for range workers {
				all.Go(func() {
					for range rounds {
						if err := work.do(WithUser(context.Background(), "u"), db); err != nil {
							t.Errorf("%s: %v", work.name, err)
						}
					}
				})
			}
		}
		all.Wait()
		want += len(dbs) * workers * rounds
		s.checkCounter(work.name, want)
	}
	// All of them beside each other.
	var all sync.WaitGroup
	for i, work := range reachWorks {
		all.Go(func() {
			for j := range rounds {
				if err := work.do(WithUser(context.Background(), "u"), dbs[(i+j)%len(dbs)]); err != nil {
					t.Errorf("%s beside all others: %v", work.name, err)
				}
			}
		})
	}
	all.Wait()
	s.checkCounter("all beside each other", want+len(reachWorks)*rounds)
}

func (s *reachScene) checkCounter(name string, want int) {
	s.Helper()
	var n int
	if err := s.plain.QueryRow("SELECT n FROM counters WHERE name = 'a'").Scan(&n); err != nil || n != want {
		s.Fatalf("%s: the counter is at %d after %d increments (%v)", name, n, want, err)
	}
}

// TestReachControl: the same work with locks that do not reach beyond the process loses updates.
func TestReachControl(t *testing.T) {
	s := newReachScene(t)
	a, b := s.process(LockScope(ProcessScope)), s.process(LockScope(ProcessScope))
	lost := 0
	for range 50 {
		var n, after int
		s.plain.QueryRow("SELECT n FROM counters WHERE name = 'a'").Scan(&n)
		first, second := make(chan error), make(chan error)
		read := make(chan struct{})
		go func() {
			first <- Do(WithUser(context.Background(), "u"), a, func(ctx context.Context) error {
				var n int
				err := a.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = 'a'").Scan(&n)
				close(read)
				if err := <-second; err != nil {
					return err
				}
				_, err2 := a.ExecContext(ctx, "UPDATE counters SET n = $1 WHERE name = 'a'", n+1)
				return errors.Join(err, err2)
			})
		}()
		<-read
		second <- incrementInSection(WithUser(context.Background(), "u"), b)
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		if s.plain.QueryRow("SELECT n FROM counters WHERE name = 'a'").Scan(&after); after != n+2 {
			lost++
		}
	}
	if lost == 0 {
		t.Error("no update was lost, so the tests of this file show nothing")
	}
}

// TestReachModes: shared locks are had beside each other, exclusive ones are not, and users do not meet.
func TestReachModes(t *testing.T) {
	s := newReachScene(t)
	a, b := s.process(), s.process(LockTimeout(200*time.Millisecond))
	ctx := WithUser(context.Background(), "u")
	other := WithUser(context.Background(), "u") // of a
	inside, leave, err := RLock(other, a)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, err error, want bool) {
		t.Helper()
		var e *LockError
		if want && err != nil || !want && !(errors.As(err, &e) && errors.Is(err, ErrLockTimeout) && e.User == "u") {
			t.Errorf("%s: got %v, want it to be had: %v", what, err, want)
		}
	}
	attempts := func(holder string, shared, exclusive bool) {
		var n int
		check("a query beside "+holder, b.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = $1", "a").Scan(&n), shared)
		_, err := b.ExecContext(ctx, "UPDATE counters SET n = n")
		check("an Exec beside "+holder, err, exclusive)
		tx, err := b.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		check("a Tx that reads beside "+holder, err, shared)
		if err == nil {
			tx.Rollback()
		}
		tx, err = b.BeginTx(ctx, nil)
		check("a Tx beside "+holder, err, exclusive)
		if err == nil {
			tx.Rollback()
		}
		for _, try := range []struct {
			name string
			lock func(context.Context, Handle, ...SectionOption) (context.Context, func(), error)
			want bool
		}{{"RLock", RLock, shared}, {"TryRLock", TryRLock, shared}, {"Lock", Lock, exclusive}, {"TryLock", TryLock, exclusive}} {
			_, unlock, err := try.lock(ctx, b)
			check(try.name+" beside "+holder, err, try.want)
			unlock()
		}
		if _, err := b.ExecContext(WithUser(context.Background(), "other"), "UPDATE counters SET n = n"); err != nil {
			t.Errorf("an Exec of another user beside %s: %v", holder, err)
		}
		if _, err := b.Exec("UPDATE counters SET n = n"); err != nil {
			t.Errorf("an Exec of nobody beside %s: %v", holder, err)
		}
	}
	attempts("a shared section", true, false)
	if err := a.QueryRowContext(inside, "SELECT 1").Scan(new(int)); err != nil {
		t.Error(err)
	}
	leave()
	attempts("nobody", true, true)
	_, leave, err = Lock(other, a)
	if err != nil {
		t.Fatal(err)
	}
	attempts("an exclusive section", false, false)
	leave()
	attempts("nobody", true, true)
	tx, err := a.BeginTx(other, nil)
	if err != nil {
		t.Fatal(err)
	}
	attempts("a Tx", false, false)
	tx.Rollback()
	attempts("nobody", true, true)
	rows, err := a.QueryContext(other, "SELECT generate_series(1, 3)")
	if err != nil {
		t.Fatal(err)
	}
	rows.Next()
	attempts("rows", true, false)
	rows.Close()
	attempts("nobody", true, true)
}

// TestReachAllUsers: LockAll keeps out every user of all processes, and waits for each.
func TestReachAllUsers(t *testing.T) {
	s := newReachScene(t)
	a, b := s.process(), s.process()
	ctx := WithUser(context.Background(), "u")
	tx, err := a.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := make(chan func())
	go func() {
		_, unlock, err := LockAll(context.Background(), b)
		if err != nil {
			t.Error(err)
		}
		all <- unlock
	}()
	s.untilWaits()
	tx.Commit()
	unlock := <-all
	done := make(chan error)
	go func() {
		_, err := a.ExecContext(WithUser(context.Background(), "v"), "UPDATE counters SET n = n")
		done <- err
	}()
	s.untilWaits()
	select {
	case err := <-done:
		t.Fatalf("a user's Exec beside LockAll of another process: %v", err)
	default:
	}
	unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestReachBesideOwn: what an owner does beside its own Tx, rows and section does not wait for itself at the server.
func TestReachBesideOwn(t *testing.T) {
	s := newReachScene(t)
	db := s.process(SelfWait(5 * time.Second))
	ctx, cancel := context.WithTimeout(WithUser(context.Background(), "u"), 20*time.Second)
	defer cancel()
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	tx, err := db.BeginTx(ctx, nil)
	do("BeginTx", err)
	_, err = db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = $1", "b")
	do("an Exec beside the Tx", err)
	do("a query beside the Tx", db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)))
	_, err = tx.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = $1", "a")
	do("an Exec in the Tx", err)
	do("Commit", tx.Commit())

	rows, err := db.QueryContext(ctx, "SELECT generate_series(1, 10000)")
	do("a query", err)
	rows.Next()
	do("a query beside rows", db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)))
	_, err = db.ExecContext(ctx, "UPDATE counters SET n = n WHERE name = $1", "b")
	do("an Exec beside rows", err)
	n := 1
	for rows.Next() {
		n++
	}
	if err := rows.Err(); err != nil || n != 10000 {
		t.Errorf("got %d rows, error %v", n, err)
	}
	rows.Close()

	_, unlock, err := Lock(ctx, db)
	do("Lock", err)
	_, err = db.ExecContext(ctx, "UPDATE counters SET n = n WHERE name = $1", "b")
	do("an Exec beside the section", err)
	unlock()
}

// TestReachBesideOwnReader: a write beside a transaction of its own that only reads would wait for that at the server, and is refused.
func TestReachBesideOwnReader(t *testing.T) {
	s := newReachScene(t)
	db := s.process()
	ctx, cancel := context.WithTimeout(WithUser(context.Background(), "u"), 20*time.Second)
	defer cancel()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)); err != nil {
		t.Errorf("a query: %v", err)
	}
	if _, err := db.ExecContext(ctx, "UPDATE counters SET n = n"); !errors.Is(err, ErrDeadlock) {
		t.Errorf("an Exec: got %v, want ErrDeadlock", err)
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
	if _, err := db.ExecContext(ctx, "UPDATE counters SET n = n"); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// TestReachUnderALostTx: an Exec or a query beside a Tx of its own says so if the Tx has lost its connection, and with it the lock; also where
// the handle may have no other connection to ask by.
func TestReachUnderALostTx(t *testing.T) {
	s := newReachScene(t)
	var l eventLog
	db := s.process(MaxOpenConns(2), Observe(l.add))
	ctx := WithUser(context.Background(), "u")
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if err := db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)); err != nil {
		t.Errorf("a query while it has it: %v", err)
	}
	stmt, err := db.PrepareContext(ctx, "UPDATE counters SET n = n + 1")
	must(t, err)
	defer stmt.Close()
	returning, err := db.PrepareContext(ctx, "UPDATE counters SET n = n + 1 RETURNING n")
	must(t, err)
	defer returning.Close()
	s.exec("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
	s.untilNoLocks()
	if _, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1"); !errors.Is(err, ErrLockLost) {
		t.Errorf("got %v, want ErrLockLost", err)
	}
	for _, query := range []string{"SELECT generate_series(1, 1000000)", "UPDATE counters SET n = n + 1 RETURNING n"} {
		if err := db.QueryRowContext(ctx, query).Scan(new(int)); !errors.Is(err, ErrLockLost) {
			t.Errorf("%s: got %v, want ErrLockLost", query, err)
		}
	}
	if _, err := stmt.ExecContext(ctx); !errors.Is(err, ErrLockLost) {
		t.Errorf("a prepared statement: got %v, want ErrLockLost", err)
	}
	if err := returning.QueryRowContext(ctx).Scan(new(int)); !errors.Is(err, ErrLockLost) {
		t.Errorf("a prepared query that writes: got %v, want ErrLockLost", err)
	}
	if n := sumOfCounters(t, s.plain); n != 0 {
		t.Errorf("%d writes without the lock", n)
	}
	waitFor(t, func() bool { return len(l.of(EventLockLost)) == 5 })
	for _, e := range l.of(EventLockLost) {
		if e.User != "u" || e.Held != "statement" || e.Context == nil {
			t.Errorf("told %+v", e)
		}
	}
}

func sumOfCounters(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	must(t, db.QueryRow("SELECT sum(n) FROM counters").Scan(&n))
	return n
}

// TestReachStore: the handles of a Store have their locks on the database too.
func TestReachStore(t *testing.T) {
	s := newReachScene(t)
	store, err := New(context.Background(), "postgres", s.dsn, false, LockScope(DatabaseScope))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	b := s.process(LockTimeout(100 * time.Millisecond))
	cancel, db, err := store.RWGetDB("u", context.Background(), "write")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("UPDATE counters SET n = n"); err != nil {
		t.Error(err)
	}
	if _, err := b.ExecContext(WithUser(context.Background(), "u"), "UPDATE counters SET n = n"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("beside a handle of a Store: got %v, want ErrLockTimeout", err)
	}
	cancel()
	if _, err := b.ExecContext(WithUser(context.Background(), "u"), "UPDATE counters SET n = n"); err != nil {
		t.Errorf("after its cancel: %v", err)
	}
}

// TestReachNested: sections inside one another have one connection, and what each has is given up with it.
func TestReachNested(t *testing.T) {
	s := newReachScene(t)
	db := s.process(MaxOpenConns(1))
	ctx := WithUser(context.Background(), "u")
	outer, leaveOuter, err := Lock(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	pid := func(ctx context.Context) (pid int) {
		t.Helper()
		if err := db.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
			t.Error(err)
		}
		return pid
	}
	first, had := pid(outer), s.locks(true)
	same, leaveSame, err := Lock(outer, db)
	if err != nil {
		t.Fatal(err)
	}
	inner, leaveInner, err := LockUsers(same, db, "v", "w", Pin())
	if err != nil {
		t.Fatal(err)
	}
	if p := pid(inner); p != first {
		t.Errorf("the inner section has connection %d, the outer %d", p, first)
	}
	if n := s.locks(true); n != had+2 {
		t.Errorf("the server has %d locks with the inner section, %d before", n, had)
	}
	if _, err := db.ExecContext(WithUser(inner, "x"), "UPDATE counters SET n = n"); err != nil {
		t.Errorf("an Exec of a third user: %v", err)
	}
	leaveInner()
	s.until("the inner section's locks are given up", func() bool { return s.locks(true) == had })
	leaveSame()
	pid(outer)
	leaveOuter()
	s.untilNoLocks()
	if _, err := db.ExecContext(ctx, "UPDATE counters SET n = n"); err != nil {
		t.Error(err)
	}
}

// TestReachWaits: a wait at the server ends with lock_timeout, and with the context, and leaves nothing.
func TestReachWaits(t *testing.T) {
	s := newReachScene(t)
	a, b := s.process(), s.process(LockTimeout(300*time.Millisecond), MaxOpenConns(2))
	ctx := WithUser(context.Background(), "u")
	_, unlock, err := Lock(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	had := s.locks(true)
	for name, do := range map[string]func(context.Context) error{
		"Exec":    func(ctx context.Context) error { _, err := b.ExecContext(ctx, "UPDATE counters SET n = n"); return err },
		"BeginTx": func(ctx context.Context) error { _, err := b.BeginTx(ctx, nil); return err },
		"Lock":    func(ctx context.Context) error { _, _, err := Lock(ctx, b); return err },
		"LockAll": func(ctx context.Context) error { _, _, err := LockAll(ctx, b); return err },
		"BEGIN":   func(ctx context.Context) error { _, err := b.ExecContext(ctx, "BEGIN"); return err },
	} {
		var e *LockError
		if err := do(ctx); !errors.As(err, &e) || e.Err != ErrLockTimeout || e.Waited < 300*time.Millisecond {
			t.Errorf("%s: got %v, want a LockError after 300ms", name, err)
		}
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		if err := do(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s with a context that ends: got %v", name, err)
		}
		cancel()
		s.until("nothing of the waits is left", func() bool { return s.locks(false) == 0 && s.locks(true) == had })
	}
	unlock()
	s.until("the lock is to be had again", func() bool {
		_, err := b.ExecContext(ctx, "UPDATE counters SET n = n")
		return err == nil
	})
}

// TestReachDeadlock: a circle through the server ends with ErrDeadlock for one of the two, and with the lock for the other.
func TestReachDeadlock(t *testing.T) {
	s := newReachScene(t)
	var l eventLog
	dbs, users := [2]*sql.DB{s.process(Observe(l.add)), s.process(Observe(l.add))}, [2]string{"u", "v"}
	var sections [2]context.Context
	var unlocks [2]func()
	for i, db := range dbs {
		var err error
		if sections[i], unlocks[i], err = Lock(WithUser(context.Background(), users[i]), db); err != nil {
			t.Fatal(err)
		}
	}
	results := make(chan error)
	for i, db := range dbs {
		go func() {
			_, _, err := Lock(WithUser(sections[i], users[1-i]), db)
			if err != nil {
				unlocks[i]()
			}
			results <- err
		}()
	}
	first, second := <-results, <-results
	if first == nil { // it has the lock since the other has ended its section
		first, second = second, first
	}
	if !errors.Is(first, ErrDeadlock) || second != nil {
		t.Errorf("got %v and %v, want ErrDeadlock and nil", first, second)
	}
	if e := l.await(t, EventDeadlock, func(Event) bool { return true }); e.What != "process" || e.User == "" || e.Held != "section" || e.Err != ErrDeadlock || e.Context == nil || len(l.of(EventDeadlock)) != 1 {
		t.Errorf("told %+v", e)
	}
	for _, unlock := range unlocks {
		unlock()
	}
}

// TestReachWithoutWaiting: with lock_timeout=0 a lock is had that nobody has, also if this process is just about to give it up.
func TestReachWithoutWaiting(t *testing.T) {
	s := newReachScene(t)
	db := s.process(LockTimeout(0))
	ctx := WithUser(context.Background(), "u")
	for range 30 {
		if _, err := db.ExecContext(ctx, "UPDATE counters SET n = n"); err != nil {
			t.Fatal(err)
		}
		_, unlock, err := TryLock(ctx, db)
		if err != nil {
			t.Fatal(err)
		}
		unlock()
	}
}

// TestReachStaleConnections: connections that the server has ended while they lay in the pool are replaced, and the lock is had on the new one.
func TestReachStaleConnections(t *testing.T) {
	s := newReachScene(t)
	a, b := s.process(), s.process(LockTimeout(100*time.Millisecond))
	for name, begin := range map[string]func(context.Context) (func(), error){
		"Lock": func(ctx context.Context) (func(), error) { _, unlock, err := Lock(ctx, a); return unlock, err },
		"Tx": func(ctx context.Context) (func(), error) {
			tx, err := a.BeginTx(ctx, nil)
			return func() { tx.Rollback() }, err
		},
		"rows": func(ctx context.Context) (func(), error) {
			rows, err := a.QueryContext(ctx, "SELECT generate_series(1, $1::int)", 1000000)
			return func() { rows.Close() }, err
		},
	} {
		ctx := WithUser(context.Background(), "u")
		if _, err := a.ExecContext(ctx, "UPDATE counters SET n = n"); err != nil {
			t.Fatal(err)
		}
		s.untilNoLocks()
		s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		s.until("they are ended", func() bool {
			var n int
			return s.plain.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").Scan(&n) == nil && n == 0
		})
		end, err := begin(ctx)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := b.ExecContext(WithUser(context.Background(), "u"), "UPDATE counters SET n = n"); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("beside %s on a new connection: got %v, want ErrLockTimeout", name, err)
		}
		end()
	}
}

// TestReachForgottenStatements: where the server has forgotten the statements that ask for locks, they are prepared again.
func TestReachForgottenStatements(t *testing.T) {
	s := newReachScene(t)
	db := s.process(MaxOpenConns(1))
	for range 3 {
		for _, query := range []string{"DEALLOCATE ALL", "DISCARD ALL"} {
			if _, err := db.ExecContext(WithUser(context.Background(), "u"), "UPDATE counters SET n = n"); err != nil {
				t.Fatalf("before %s: %v", query, err)
			}
			if _, err := db.Exec(query); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestReachContended: a try that has only some of the locks keeps none while it waits: that of a user who comes after the one it waits for
// is free.
func TestReachContended(t *testing.T) {
	s := newReachScene(t)
	a, b := s.process(), s.process()
	users := []string{"u", "v"}
	if first, second := scope.Key("", "u"), scope.Key("", "v"); bytes.Compare(first[:], second[:]) > 0 {
		slices.Reverse(users)
	}
	_, unlock, err := Lock(WithUser(context.Background(), users[0]), a)
	must(t, err)
	done := make(chan error, 1)
	go func() {
		_, unlock, err := LockUsers(context.Background(), b, "u", "v")
		if err == nil {
			unlock()
		}
		done <- err
	}()
	s.until("it waits", func() bool { return s.locks(false) > 0 })
	_, err = a.ExecContext(WithUser(context.Background(), users[1]), "UPDATE counters SET n = n")
	must(t, err)
	unlock()
	must(t, <-done)
}

// TestReachFailedUnlock: a connection whose lock could not be given up does not go back, and with it the lock ends.
func TestReachFailedUnlock(t *testing.T) {
	s := newReachScene(t)
	var log syncBuffer
	a, b := s.process(Logger(slog.New(slog.NewTextHandler(&log, nil)))), s.process()
	ctx := WithUser(context.Background(), "u")
	var pid int
	inside, unlock, err := Lock(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	// Somebody else's function has given it up, which no text tells.
	s.exec("CREATE FUNCTION innocent() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT pg_advisory_' || 'unlock_all()'; RETURN pg_backend_pid(); END $$")
	if err := a.QueryRowContext(inside, "SELECT innocent()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	unlock()
	s.until("the connection is closed", func() bool {
		var n int
		return s.plain.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid).Scan(&n) == nil && n == 0
	})
	if !strings.Contains(log.String(), "a lock of the server was not there any more") {
		t.Errorf("nothing of it is logged: %s", log.String())
	}
	for _, db := range []*sql.DB{a, b} {
		if _, err := db.ExecContext(ctx, "UPDATE counters SET n = n"); err != nil {
			t.Error(err)
		}
	}
}

// TestReachLockspace: a lockspace names locks of their own; on two databases it is refused.
func TestReachLockspace(t *testing.T) {
	s, other := newReachScene(t), newReachScene(t)
	a, b := s.process(Lockspace(t.Name())), s.process()
	ctx := WithUser(context.Background(), "u")
	_, unlock, err := Lock(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.ExecContext(WithUser(context.Background(), "u"), "UPDATE counters SET n = n"); err != nil {
		t.Errorf("in another lockspace: %v", err)
	}
	unlock()
	c := other.process(Lockspace(t.Name()))
	if _, err := c.ExecContext(ctx, "SELECT 1"); err == nil || !strings.Contains(err.Error(), "two databases") {
		t.Errorf("a lockspace on two databases: got %v", err)
	}
}

// TestReachLeavesNoSettings: what bounds the waits at the server is gone after them.
func TestReachLeavesNoSettings(t *testing.T) {
	s := newReachScene(t)
	db := s.process()
	ctx := WithUser(context.Background(), "u")
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SET lock_timeout = 1234; SET statement_timeout = 56789"); err != nil {
		t.Fatal(err)
	}
	settings := func(where string, q interface {
		QueryRowContext(context.Context, string, ...any) *sql.Row
	}) {
		t.Helper()
		var got string
		if err := q.QueryRowContext(ctx, "SELECT current_setting('lock_timeout') || ' ' || current_setting('statement_timeout')").Scan(&got); err != nil || got != "1234ms 56789ms" {
			t.Errorf("%s: the settings are %q (%v)", where, got, err)
		}
	}
	settings("in a query", conn)
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	settings("in a Tx", tx)
	var mode string
	if err := tx.QueryRow("SELECT current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only')").Scan(&mode); err != nil || mode != "serializable on" {
		t.Errorf("the Tx is %q (%v)", mode, err)
	}
	tx.Commit()
	settings("after a Tx", conn)
}

// TestReachLostSection: a section whose connection is lost answers ErrLockLost, its context is done, and another process has the lock.
func TestReachLostSection(t *testing.T) {
	s := newReachScene(t)
	a, b := s.process(), s.process()
	ctx := WithUser(context.Background(), "u")
	inside, unlock, err := Lock(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	var pid int
	if err := a.QueryRowContext(inside, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	s.exec("SELECT pg_terminate_backend($1)", pid)
	if _, err := b.ExecContext(ctx, "UPDATE counters SET n = n"); err != nil {
		t.Errorf("another process: %v", err)
	}
	_, err = a.ExecContext(inside, "UPDATE counters SET n = 100")
	if !errors.Is(err, ErrLockLost) {
		t.Errorf("a call in the lost section: got %v, want ErrLockLost", err)
	}
	<-inside.Done()
	if err := context.Cause(inside); !errors.Is(err, ErrLockLost) {
		t.Errorf("the section's context: got %v, want ErrLockLost", err)
	}
	for range 3 {
		if _, err := a.ExecContext(inside, "UPDATE counters SET n = 100"); !errors.Is(err, ErrLockLost) {
			t.Errorf("a later call: got %v, want ErrLockLost", err)
		}
	}
	unlock()
	if _, err := a.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = 'a'"); err != nil {
		t.Errorf("after the section: %v", err)
	}
	s.checkCounter("a lost section", 1)
}

// TestReachLostIdleSection: a section in which nobody calls learns of the loss too.
func TestReachLostIdleSection(t *testing.T) {
	s := newReachScene(t)
	var l eventLog
	db := s.process(Observe(l.add))
	inside, unlock, err := Lock(WithUser(context.Background(), "u"), db)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	s.exec("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
	select {
	case <-inside.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the context of the section is not done")
	}
	if !errors.Is(inside.Err(), ErrLockLost) {
		t.Errorf("got %v, want ErrLockLost", inside.Err())
	}
	if e := l.await(t, EventLockLost, func(Event) bool { return true }); e.User != "u" || e.Held != "section" || e.Err != ErrLockLost || len(l.of(EventLockLost)) != 1 {
		t.Errorf("told %+v", e)
	}
}

// TestReachDropped: a statement that gives up all advisory locks of its session ends the section that has one.
func TestReachDropped(t *testing.T) {
	for _, query := range []string{"SELECT pg_advisory_unlock_all()", "DISCARD ALL"} {
		s := newReachScene(t)
		db := s.process()
		inside, unlock, err := Lock(WithUser(context.Background(), "u"), db)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(inside, query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
		if _, err := db.ExecContext(inside, "UPDATE counters SET n = 100"); !errors.Is(err, ErrLockLost) {
			t.Errorf("a call after %s: got %v, want ErrLockLost", query, err)
		}
		unlock()
	}
}

// TestReachJoined: a user's statement in a transaction of nobody takes the lock until that ends, also through ROLLBACK TO; at a
// level at which it would see what was before the lock, it is refused, and the transaction goes on.
func TestReachJoined(t *testing.T) {
	s := newReachScene(t)
	a, b := s.process(), s.process(LockTimeout(100*time.Millisecond))
	ctx := WithUser(context.Background(), "u")
	tx, err := a.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"SAVEPOINT mine", "UPDATE counters SET n = n + 1 WHERE name = 'a'", "ROLLBACK TO mine"} {
		if _, err := tx.ExecContext(ctx, query); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	if _, err := b.ExecContext(ctx, "UPDATE counters SET n = n"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("beside a transaction that the user has joined: got %v, want ErrLockTimeout", err)
	}
	tx.Commit()
	s.untilNoLocks()
	if tx, err = b.Begin(); err != nil {
		t.Fatal(err)
	}
	_, unlock, err := Lock(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "UPDATE counters SET n = n"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("joining beside a section: got %v, want ErrLockTimeout", err)
	}
	unlock()
	if _, err := tx.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = 'a'"); err != nil {
		t.Errorf("in a transaction that goes on: %v", err)
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
	s.checkCounter("joining", 1)
	if tx, err = a.BeginTx(context.Background(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "UPDATE counters SET n = n"); err == nil || !strings.Contains(err.Error(), "begin it with the user's context") {
		t.Errorf("at REPEATABLE READ: got %v", err)
	}
	if _, err := tx.Exec("UPDATE counters SET n = n"); err != nil {
		t.Error(err)
	}
	tx.Rollback()
}

// TestReachFailedCommit: Commit of a transaction that has failed is the error that the driver has for it.
func TestReachFailedCommit(t *testing.T) {
	s := newReachScene(t)
	var texts [2]string
	for i, db := range []*sql.DB{s.process(), s.plain} {
		tx, err := db.BeginTx(WithUser(context.Background(), "u"), nil)
		if err != nil {
			t.Fatal(err)
		}
		tx.Exec("SELECT 1/0")
		texts[i] = fmt.Sprint(tx.Commit())
	}
	if texts[0] != texts[1] || texts[0] == "<nil>" {
		t.Errorf("Commit: got %q, from the bare driver %q", texts[0], texts[1])
	}
}

// TestLockScopeInDSNAndGoAreAlike: the option does the same in both forms, and is off by default.
func TestLockScopeInDSNAndGoAreAlike(t *testing.T) {
	parsed, err := parseDSN("postgres?lock_scope=database:postgres://u@h/app")
	must(t, err)
	for _, tc := range []struct {
		opts []Option
		want LockScopePolicy
	}{{parsed.opts, DatabaseScope}, {[]Option{LockScope(DatabaseScope)}, DatabaseScope}, {[]Option{LockScope(ProcessScope)}, ProcessScope}, {nil, ProcessScope}} {
		if c, err := newConfig(postgres.Engine, tc.opts); err != nil || c.lockScope != tc.want {
			t.Errorf("got %v (%v), want %v", c.lockScope, err, tc.want)
		}
	}
}

// TestReachByTwoHandles: handles that share their locks in the process share sections too; a statement by the other one than a section's
// fails if that has lost its lock, a transaction is refused, and so is a handle whose locks would not reach as far.
func TestReachByTwoHandles(t *testing.T) {
	s := newReachScene(t)
	open := func(options string) *sql.DB {
		db, err := sql.Open("dblocker", "postgres?"+options+":"+s.dsn)
		must(t, err)
		t.Cleanup(func() { db.Close() })
		return db
	}
	a, b := open("lock_scope=database"), open("lock_scope=database")
	inside, unlock, err := Lock(WithUser(context.Background(), "u"), a)
	must(t, err)
	defer unlock()
	if _, err := b.ExecContext(inside, "UPDATE counters SET n = n"); err != nil {
		t.Errorf("an Exec by the other handle: %v", err)
	}
	if _, err := b.BeginTx(inside, nil); err == nil || !strings.Contains(err.Error(), "begun by another handle") {
		t.Errorf("a Tx by the other handle: got %v", err)
	}
	if _, err := b.ExecContext(inside, "BEGIN"); err == nil || !strings.Contains(err.Error(), "begun by another handle") {
		t.Errorf("BEGIN by the other handle: got %v", err)
	}
	if _, err := open("lock_timeout=1s").Exec("SELECT 1"); err == nil || !strings.Contains(err.Error(), "open all of them in one way") {
		t.Errorf("a handle without the option: got %v", err)
	}
	s.exec("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
	s.untilNoLocks()
	if _, err := b.ExecContext(inside, "UPDATE counters SET n = n + 1"); !errors.Is(err, ErrLockLost) || sumOfCounters(t, s.plain) != 0 {
		t.Errorf("an Exec by the other handle when the lock is lost: got %v and %d writes, want ErrLockLost and none", err, sumOfCounters(t, s.plain))
	}
}

// TestReachRefused: where it cannot be had, the option is an error that says why.
func TestReachRefused(t *testing.T) {
	for dsn, says := range map[string]string{
		"postgres?lock_scope=server:postgres://u@h/app": "must be process or database",
	} {
		db, err := sql.Open("dblocker", dsn)
		if err == nil {
			err = db.Ping()
			db.Close()
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v", dsn, err)
		}
	}
}

// TestReachEndsDeadSessions: the server is to see soon that a client is gone, but not later than the program has set.
func TestReachEndsDeadSessions(t *testing.T) {
	for options, want := range map[string]string{
		"": "500ms 10 5 3",
		"-c client_connection_check_interval=200 -c tcp_keepalives_idle=7 -c tcp_keepalives_interval=90": "200ms 7 5 3",
	} {
		t.Run(options, func(t *testing.T) {
			s := newReachScene(t)
			s.dsn += " options='" + options + "'"
			var got string
			err := s.process().QueryRowContext(asUser(1), "SELECT current_setting('client_connection_check_interval') || ' ' || current_setting('tcp_keepalives_idle') || ' ' || "+
				"current_setting('tcp_keepalives_interval') || ' ' || current_setting('tcp_keepalives_count') WHERE current_setting('server_version_num')::int >= 140000").Scan(&got)
			if err == sql.ErrNoRows {
				t.Skip("the server is older than PostgreSQL 14")
			}
			if err != nil || got != want {
				t.Errorf("the session has %s (%v), want %s", got, err, want)
			}
		})
	}
}
