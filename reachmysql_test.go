package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/calmdocs/dblocker/internal/mysql"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// A reachMySQLScene has handles that stand for processes, as a reachScene.
type reachMySQLScene struct {
	*testing.T
	config   *driver.Config
	database string
	plain    *sql.DB // without dblocker, to look on
}

func newReachMySQLScene(t *testing.T) *reachMySQLScene {
	d := testdb.MySQL(t).NewDatabase(t)
	config, err := driver.ParseDSN(d.DSN())
	must(t, err)
	config.Logger = &driver.NopLogger{}
	plain, err := sql.Open("mysql", d.DSN())
	must(t, err)
	t.Cleanup(func() { plain.Close() })
	s := &reachMySQLScene{t, config, config.DBName, plain}
	s.exec("CREATE TABLE counters (name VARCHAR(20) PRIMARY KEY, n INT) ENGINE=InnoDB")
	s.exec("INSERT INTO counters VALUES ('a', 0), ('b', 0)")
	return s
}

func (s *reachMySQLScene) exec(query string, args ...any) {
	s.Helper()
	if _, err := s.plain.Exec(query, args...); err != nil {
		s.Fatalf("%s: %v", query, err)
	}
}

func (s *reachMySQLScene) number(query string, args ...any) (n int) {
	s.Helper()
	if err := s.plain.QueryRow(query, args...).Scan(&n); err != nil {
		s.Fatalf("%s: %v", query, err)
	}
	return n
}

// process returns a handle that has nothing in common with another but the server.
func (s *reachMySQLScene) process(opts ...Option) *sql.DB {
	s.Helper()
	connector, err := driver.NewConnector(s.config)
	must(s.T, err)
	db, err := OpenDB(connector, append([]Option{LockScope(DatabaseScope)}, opts...)...)
	must(s.T, err)
	s.Cleanup(func() {
		db.Close()
		s.until("no named lock is left", func() bool { return s.locks("u", "v", "w", "x", "y", "other") == 0 && s.waiting() == 0 })
	})
	return db
}

// locks counts the named locks that somebody has, of all users' lock and of those of some users.
func (s *reachMySQLScene) locks(users ...string) int {
	s.Helper()
	names := mysql.LockNames(s.database, scope.KeyOfAll(""), 0, true)
	for _, user := range users {
		names = append(names, mysql.LockNames(s.database, scope.Key("", user), mysql.DefaultReaders, false)...)
	}
	return s.used(names)
}

func (s *reachMySQLScene) used(names []string) (n int) {
	s.Helper()
	for ; len(names) > 0; names = names[min(64, len(names)):] { // more are too much for the server's stack
		n += s.number("SELECT (IS_USED_LOCK('" + strings.Join(names[:min(64, len(names))], "') IS NOT NULL) + (IS_USED_LOCK('") + "') IS NOT NULL)")
	}
	return n
}

// waiting counts the sessions that wait for a named lock.
func (s *reachMySQLScene) waiting() int {
	s.Helper()
	return s.number("SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND state LIKE 'User lock%'")
}

func (s *reachMySQLScene) until(what string, is func() bool) {
	s.Helper()
	for until := time.Now().Add(30 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(until) {
			s.Fatalf("still not so after 30s: %s", what)
		}
	}
}

func (s *reachMySQLScene) untilWaits() {
	s.Helper()
	s.until("somebody waits for a named lock", func() bool { return s.waiting() > 0 })
}

func (s *reachMySQLScene) checkCounter(name string, want int) {
	s.Helper()
	if n := s.number("SELECT n FROM counters WHERE name = 'a'"); n != want {
		s.Fatalf("%s: the counter is at %d after %d increments", name, n, want)
	}
}

// addIn reads a counter, and writes one more.
func addIn(ctx context.Context, db interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}) error {
	var n int
	if err := db.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = ?", "a").Scan(&n); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, "UPDATE counters SET n = ? WHERE name = ?", n+1, "a")
	return err
}

func addInTx(opts *sql.TxOptions) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, opts)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := addIn(ctx, tx); err != nil {
			return err
		}
		return tx.Commit()
	}
}

func addInSection(ctx context.Context, db *sql.DB) error {
	return Do(ctx, db, func(ctx context.Context) error { return addIn(ctx, db) })
}

func addUnder(lock func(context.Context, *sql.DB) (context.Context, func(), error)) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		ctx, unlock, err := lock(ctx, db)
		defer unlock()
		if err != nil {
			return err
		}
		return addIn(ctx, db)
	}
}

var reachMySQLWorks = []reachWork{
	{"section", addInSection},
	{"all users", addUnder(func(ctx context.Context, db *sql.DB) (context.Context, func(), error) { return LockAll(ctx, db) })},
	{"several users", addUnder(func(ctx context.Context, db *sql.DB) (context.Context, func(), error) {
		return LockUsers(ctx, db, "y", "u", "x")
	})},
	{"Tx", addInTx(nil)},
	{"Tx at READ COMMITTED", addInTx(&sql.TxOptions{Isolation: sql.LevelReadCommitted})},
	{"Tx at SERIALIZABLE", addInTx(&sql.TxOptions{Isolation: sql.LevelSerializable})},
	{"BEGIN", func(ctx context.Context, db *sql.DB) error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.ExecContext(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
			return err
		}
		if err := addIn(ctx, conn); err != nil {
			return err
		}
		_, err = conn.ExecContext(ctx, "COMMIT")
		return err
	}},
	{"one statement", func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = ?", "a")
		return err
	}},
}

// TestReachMySQLLosesNoUpdates: read and write under one lock lose nothing among processes, whatever kind of lock it is.
func TestReachMySQLLosesNoUpdates(t *testing.T) {
	const workers, rounds = 3, 8
	s := newReachMySQLScene(t)
	dbs := []*sql.DB{s.process(), s.process(), s.process()}
	want := 0
	for _, work := range reachMySQLWorks {
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
	var all sync.WaitGroup
	for i, work := range reachMySQLWorks {
		all.Go(func() {
			for j := range rounds {
				if err := work.do(WithUser(context.Background(), "u"), dbs[(i+j)%len(dbs)]); err != nil {
					t.Errorf("%s beside all others: %v", work.name, err)
				}
			}
		})
	}
	all.Wait()
	s.checkCounter("all beside each other", want+len(reachMySQLWorks)*rounds)
}

// TestReachMySQLControl: the same work with locks that do not reach beyond the process loses updates.
func TestReachMySQLControl(t *testing.T) {
	s := newReachMySQLScene(t)
	a, b := s.process(LockScope(ProcessScope)), s.process(LockScope(ProcessScope))
	ctx := WithUser(context.Background(), "u")
	must(t, Do(ctx, a, func(ctx context.Context) error {
		var n int
		if err := a.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = 'a'").Scan(&n); err != nil {
			return err
		}
		if err := addInSection(WithUser(context.Background(), "u"), b); err != nil {
			return err
		}
		_, err := a.ExecContext(ctx, "UPDATE counters SET n = ? WHERE name = 'a'", n+1)
		return err
	}))
	if n := s.number("SELECT n FROM counters WHERE name = 'a'"); n != 1 {
		t.Errorf("the counter is at %d: no update was lost, so the tests of this file show nothing", n)
	}
}

// TestReachMySQLModes: shared locks are had beside each other, exclusive ones are not, and users do not meet.
func TestReachMySQLModes(t *testing.T) {
	s := newReachMySQLScene(t)
	a, b := s.process(), s.process(LockTimeout(200*time.Millisecond))
	ctx, other := WithUser(context.Background(), "u"), WithUser(context.Background(), "u") // of b, and of a
	check := func(what string, err error, want bool) {
		t.Helper()
		var e *LockError
		if want && err != nil || !want && !(errors.As(err, &e) && errors.Is(err, ErrLockTimeout) && e.User == "u") {
			t.Errorf("%s: got %v, want it to be had: %v", what, err, want)
		}
	}
	attempts := func(holder string, shared, exclusive bool) {
		t.Helper()
		check("a query beside "+holder, b.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = ?", "a").Scan(new(int)), shared)
		_, err := b.ExecContext(ctx, "UPDATE counters SET n = n")
		check("an Exec beside "+holder, err, exclusive)
		for _, readOnly := range []bool{true, false} {
			tx, err := b.BeginTx(ctx, &sql.TxOptions{ReadOnly: readOnly})
			check(fmt.Sprintf("a Tx beside %s, that only reads: %v", holder, readOnly), err, exclusive || readOnly && shared)
			if err == nil {
				tx.Rollback()
			}
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
		if _, err := b.ExecContext(WithUser(context.Background(), "other"), "DO 1"); err != nil {
			t.Errorf("an Exec of another user beside %s: %v", holder, err)
		}
	}
	_, leave, err := RLock(other, a)
	must(t, err)
	attempts("a shared section", true, false)
	leave()
	attempts("nobody", true, true)
	_, leave, err = Lock(other, a)
	must(t, err)
	attempts("an exclusive section", false, false)
	leave()
	attempts("nobody", true, true)
	tx, err := a.BeginTx(other, nil)
	must(t, err)
	attempts("a Tx", false, false)
	tx.Rollback()
	attempts("nobody", true, true)
	rows, err := a.QueryContext(other, "SELECT n FROM counters")
	must(t, err)
	rows.Next()
	attempts("rows", true, false)
	rows.Close()
	attempts("nobody", true, true)
}

// TestReachMySQLReaders: as many readers of a user as lock_readers says are beside each other, and a writer is alone.
func TestReachMySQLReaders(t *testing.T) {
	const readers = 3
	s := newReachMySQLScene(t)
	dbs := []*sql.DB{s.process(LockReaders(readers), LockTimeout(200*time.Millisecond)), s.process(LockReaders(readers), LockTimeout(200*time.Millisecond))}
	var leave []func()
	for i := range readers {
		_, unlock, err := RLock(WithUser(context.Background(), "u"), dbs[i%2])
		must(t, err)
		leave = append(leave, unlock)
	}
	for _, db := range dbs {
		ctx := WithUser(context.Background(), "u")
		if _, _, err := RLock(ctx, db); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("one reader more than lock_readers: got %v, want ErrLockTimeout", err)
		}
		if _, _, err := TryRLock(ctx, db); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("TryRLock of one reader more than lock_readers: got %v, want ErrLockTimeout", err)
		}
	}
	for i, unlock := range leave {
		if _, _, err := TryLock(WithUser(context.Background(), "u"), dbs[1]); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("a writer beside %d readers: got %v, want ErrLockTimeout", readers-i, err)
		}
		unlock()
	}
	_, unlock, err := Lock(WithUser(context.Background(), "u"), dbs[0])
	must(t, err)
	unlock()
}

// TestReachMySQLAllUsers: LockAll keeps out every user of all processes, and waits for each; users do not wait for each other.
func TestReachMySQLAllUsers(t *testing.T) {
	s := newReachMySQLScene(t)
	a, b := s.process(), s.process()
	var ends []func()
	for i := range 20 {
		_, unlock, err := Lock(WithUser(context.Background(), i), a)
		must(t, err)
		ends = append(ends, unlock)
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
	done := make(chan error, 1)
	go func() {
		_, err := a.ExecContext(WithUser(context.Background(), "v"), "UPDATE counters SET n = n")
		done <- err
	}()
	s.until("a newcomer waits behind LockAll", func() bool { return s.waiting() == 2 })
	for _, end := range ends {
		select {
		case <-all:
			t.Fatal("LockAll did not wait for a user of another process")
		default:
		}
		end()
	}
	unlock := <-all
	select {
	case err := <-done:
		t.Fatalf("a user's Exec beside LockAll of another process: %v", err)
	default:
	}
	if _, _, err := TryLock(WithUser(context.Background(), "w"), a); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("TryLock beside LockAll of another process: got %v, want ErrLockTimeout", err)
	}
	unlock()
	must(t, <-done)
}

// TestReachMySQLBesideOwn: what an owner does beside its own Tx, rows and section does not wait for itself at the server.
func TestReachMySQLBesideOwn(t *testing.T) {
	s := newReachMySQLScene(t)
	for i := range 200 {
		s.exec("INSERT INTO counters VALUES (?, 0)", fmt.Sprint(i))
	}
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
	must(t, err)
	_, err = db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = ?", "b")
	do("an Exec beside the Tx", err)
	do("a query beside the Tx", db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)))
	_, err = tx.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = ?", "a")
	do("an Exec in the Tx", err)
	do("Commit", tx.Commit())
	if n := s.number("SELECT sum(n) FROM counters"); n != 2 {
		t.Errorf("the counters are at %d, want 2", n)
	}

	tx, err = db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	must(t, err)
	do("a query beside a Tx that reads", db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)))
	if _, err := db.ExecContext(ctx, "UPDATE counters SET n = n"); !errors.Is(err, ErrDeadlock) {
		t.Errorf("an Exec beside a Tx that reads: got %v, want ErrDeadlock", err)
	}
	tx.Rollback()

	rows, err := db.QueryContext(ctx, "SELECT name FROM counters")
	must(t, err)
	rows.Next()
	do("a query beside rows", db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)))
	_, err = db.ExecContext(ctx, "UPDATE counters SET n = n WHERE name = ?", "b")
	do("an Exec beside rows", err)
	n := 1
	for rows.Next() {
		n++
	}
	if err := rows.Err(); err != nil || n != 202 {
		t.Errorf("got %d rows, error %v", n, err)
	}
	rows.Close()

	_, unlock, err := Lock(ctx, db)
	must(t, err)
	_, err = db.ExecContext(ctx, "UPDATE counters SET n = n WHERE name = ?", "b")
	do("an Exec beside the section", err)
	unlock()
}

// TestReachMySQLNested: sections inside one another have one connection, and what each has is given up with it.
func TestReachMySQLNested(t *testing.T) {
	s := newReachMySQLScene(t)
	db := s.process(MaxOpenConns(1))
	ctx := WithUser(context.Background(), "u")
	outer, leaveOuter, err := Lock(ctx, db)
	must(t, err)
	session := func(ctx context.Context) (id int) {
		t.Helper()
		if err := db.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&id); err != nil {
			t.Error(err)
		}
		return id
	}
	users := []string{"u", "v", "w", "x"}
	first, had := session(outer), s.locks(users...)
	same, leaveSame, err := Lock(outer, db)
	must(t, err)
	inner, leaveInner, err := LockUsers(same, db, "v", "w", Pin())
	must(t, err)
	if id := session(inner); id != first {
		t.Errorf("the inner section has connection %d, the outer %d", id, first)
	}
	if n := s.locks(users...); n != had+2*mysql.DefaultReaders {
		t.Errorf("the server has %d locks with the inner section, %d before", n, had)
	}
	// Two calls of one more user, each with a share.
	x := WithUser(inner, "x")
	var open []*sql.Rows
	for range 2 {
		rows, err := db.QueryContext(x, "SELECT n FROM counters")
		must(t, err)
		open = append(open, rows)
	}
	for _, rows := range open {
		rows.Close()
	}
	if _, err := db.ExecContext(x, "UPDATE counters SET n = n"); err != nil {
		t.Errorf("an Exec of a third user: %v", err)
	}
	leaveInner()
	s.until("the inner section's locks are given up", func() bool { return s.locks(users...) == had })
	leaveSame()
	session(outer)
	leaveOuter()
	s.until("no lock is left", func() bool { return s.locks(users...) == 0 })
	if _, err := db.ExecContext(ctx, "UPDATE counters SET n = n"); err != nil {
		t.Error(err)
	}
}

// TestReachMySQLWaits: a wait at the server ends with lock_timeout, whatever limit statements have, and with the context, and leaves nothing.
func TestReachMySQLWaits(t *testing.T) {
	s := newReachMySQLScene(t)
	a, b := s.process(), s.process(LockTimeout(300*time.Millisecond), MaxOpenConns(2), StatementTimeout(100*time.Millisecond))
	ctx := WithUser(context.Background(), "u")
	_, unlock, err := Lock(ctx, a)
	must(t, err)
	had := s.locks("u")
	for name, do := range map[string]func(context.Context) error{
		"Exec":      func(ctx context.Context) error { _, err := b.ExecContext(ctx, "UPDATE counters SET n = n"); return err },
		"query":     func(ctx context.Context) error { return b.QueryRowContext(ctx, "SELECT 1").Scan(new(int)) },
		"BeginTx":   func(ctx context.Context) error { _, err := b.BeginTx(ctx, nil); return err },
		"Lock":      func(ctx context.Context) error { _, _, err := Lock(ctx, b); return err },
		"RLock":     func(ctx context.Context) error { _, _, err := RLock(ctx, b); return err },
		"LockUsers": func(ctx context.Context) error { _, _, err := LockUsers(ctx, b, "t", "u", "v"); return err },
		"LockAll":   func(ctx context.Context) error { _, _, err := LockAll(ctx, b); return err },
		"BEGIN":     func(ctx context.Context) error { _, err := b.ExecContext(ctx, "BEGIN"); return err },
	} {
		var e *LockError
		if err := do(ctx); !errors.As(err, &e) || e.Err != ErrLockTimeout || e.Waited < 300*time.Millisecond || e.Waited > 20*time.Second {
			t.Errorf("%s: got %v, want a LockError after 300ms", name, err)
		}
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		if err := do(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s with a context that ends: got %v", name, err)
		}
		cancel()
		s.until("nothing of the waits is left", func() bool { return s.waiting() == 0 && s.locks("u", "t", "v") == had })
	}
	unlock()
	s.until("the lock is to be had again", func() bool {
		_, err := b.ExecContext(ctx, "UPDATE counters SET n = n")
		return err == nil
	})
}

// TestReachMySQLClock: a session whose clock the program has set waits as long as any other.
func TestReachMySQLClock(t *testing.T) {
	s := newReachMySQLScene(t)
	a, b := s.process(), s.process(LockTimeout(300*time.Millisecond))
	conn, err := b.Conn(context.Background())
	must(t, err)
	defer conn.Close()
	for _, clock := range []string{"1000000000", "4000000000 % 2147483647"} {
		_, err = conn.ExecContext(context.Background(), "SET timestamp = "+clock)
		must(t, err)
		for _, lock := range []func(context.Context, Handle, ...SectionOption) (context.Context, func(), error){RLock, Lock} {
			_, unlock, err := lock(WithUser(context.Background(), "u"), a)
			must(t, err)
			began := time.Now()
			if _, err := conn.ExecContext(WithUser(context.Background(), "u"), "UPDATE counters SET n = n"); !errors.Is(err, ErrLockTimeout) || time.Since(began) < 300*time.Millisecond {
				t.Errorf("with the clock at %s: got %v after %v, want ErrLockTimeout after 300ms", clock, err, time.Since(began))
			}
			unlock()
		}
	}
}

// TestReachMySQLDeadlock: a circle through the server ends with ErrDeadlock for one of the two, and with the lock for the other.
func TestReachMySQLDeadlock(t *testing.T) {
	s := newReachMySQLScene(t)
	dbs, users := [2]*sql.DB{s.process(), s.process()}, [2]string{"u", "v"}
	var sections [2]context.Context
	var unlocks [2]func()
	for i, db := range dbs {
		var err error
		sections[i], unlocks[i], err = Lock(WithUser(context.Background(), users[i]), db)
		must(t, err)
	}
	results := make(chan error)
	for i, db := range dbs {
		go func() {
			_, _, err := Lock(WithUser(sections[i], users[1-i]), db)
			if err != nil {
				if _, err := db.ExecContext(sections[i], "UPDATE counters SET n = n"); err != nil {
					t.Errorf("in the section that goes on: %v", err)
				}
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
	for _, unlock := range unlocks {
		unlock()
	}
}

// TestReachMySQLWithoutWaiting: with lock_timeout=0 a lock is had that nobody has, also if this process is just about to give it up.
func TestReachMySQLWithoutWaiting(t *testing.T) {
	s := newReachMySQLScene(t)
	db := s.process(LockTimeout(0))
	ctx := WithUser(context.Background(), "u")
	for range 30 {
		_, err := db.ExecContext(ctx, "UPDATE counters SET n = n")
		must(t, err)
		_, unlock, err := TryLock(ctx, db)
		must(t, err)
		unlock()
	}
}

// TestReachMySQLStaleConnections: connections that the server has ended while they lay in the pool are replaced, and the lock is had on the new one.
func TestReachMySQLStaleConnections(t *testing.T) {
	s := newReachMySQLScene(t)
	a, b := s.process(), s.process(LockTimeout(100*time.Millisecond))
	for name, begin := range map[string]func(context.Context) (func(), error){
		"Lock": func(ctx context.Context) (func(), error) { _, unlock, err := Lock(ctx, a); return unlock, err },
		"Tx": func(ctx context.Context) (func(), error) {
			tx, err := a.BeginTx(ctx, nil)
			return func() { tx.Rollback() }, err
		},
		"rows": func(ctx context.Context) (func(), error) {
			rows, err := a.QueryContext(ctx, "SELECT n FROM counters WHERE n < ?", 1000000)
			return func() { rows.Close() }, err
		},
	} {
		ctx := WithUser(context.Background(), "u")
		_, err := a.ExecContext(ctx, "UPDATE counters SET n = n")
		must(t, err)
		s.killOthers()
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

// killOthers ends all sessions but that of s.plain.
func (s *reachMySQLScene) killOthers() {
	s.Helper()
	const others = " FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
	s.until("the sessions are ended", func() bool {
		rows, err := s.plain.Query("SELECT id" + others)
		must(s.T, err)
		var ids []int
		for rows.Next() {
			var id int
			must(s.T, rows.Scan(&id))
			ids = append(ids, id)
		}
		rows.Close()
		for _, id := range ids {
			s.plain.Exec(fmt.Sprintf("KILL CONNECTION %d", id))
		}
		return len(ids) == 0
	})
}

// TestReachMySQLLostSection: a section whose connection is lost answers ErrLockLost, its context is done, and another process has the lock.
func TestReachMySQLLostSection(t *testing.T) {
	s := newReachMySQLScene(t)
	a, b := s.process(), s.process()
	ctx := WithUser(context.Background(), "u")
	inside, unlock, err := Lock(ctx, a)
	must(t, err)
	defer unlock()
	var id int
	must(t, a.QueryRowContext(inside, "SELECT CONNECTION_ID()").Scan(&id))
	s.exec(fmt.Sprintf("KILL CONNECTION %d", id))
	if _, err := b.ExecContext(ctx, "UPDATE counters SET n = n"); err != nil {
		t.Errorf("another process: %v", err)
	}
	for range 3 {
		if _, err := a.ExecContext(inside, "UPDATE counters SET n = 100"); !errors.Is(err, ErrLockLost) {
			t.Errorf("a call in the lost section: got %v, want ErrLockLost", err)
		}
	}
	<-inside.Done()
	if err := context.Cause(inside); !errors.Is(err, ErrLockLost) {
		t.Errorf("the section's context: got %v, want ErrLockLost", err)
	}
	unlock()
	if _, err := a.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = 'a'"); err != nil {
		t.Errorf("after the section: %v", err)
	}
	s.checkCounter("a lost section", 1)
}

// TestReachMySQLUnderALostTx is TestReachUnderALostTx there.
func TestReachMySQLUnderALostTx(t *testing.T) {
	s := newReachMySQLScene(t)
	db := s.process(MaxOpenConns(2))
	ctx := WithUser(context.Background(), "u")
	tx, err := db.BeginTx(ctx, nil)
	must(t, err)
	defer tx.Rollback()
	_, err = db.ExecContext(ctx, "UPDATE counters SET n = n")
	must(t, err)
	s.killOthers()
	for _, query := range []string{"UPDATE counters SET n = n + 1", "INSERT INTO counters VALUES ('c', 1) ON DUPLICATE KEY UPDATE n = n + 1"} {
		if _, err := db.ExecContext(ctx, query); !errors.Is(err, ErrLockLost) {
			t.Errorf("%s: got %v, want ErrLockLost", query, err)
		}
	}
	if err := db.QueryRowContext(ctx, "SELECT n FROM counters").Scan(new(int)); !errors.Is(err, ErrLockLost) {
		t.Errorf("a query: got %v, want ErrLockLost", err)
	}
	if n := sumOfCounters(t, s.plain); n != 0 {
		t.Errorf("%d writes without the lock", n)
	}
}

// TestReachMySQLLostIdleSection: a section in which nobody calls learns of the loss too.
func TestReachMySQLLostIdleSection(t *testing.T) {
	s := newReachMySQLScene(t)
	db := s.process()
	inside, unlock, err := Lock(WithUser(context.Background(), "u"), db)
	must(t, err)
	defer unlock()
	s.killOthers()
	select {
	case <-inside.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the context of the section is not done")
	}
	if !errors.Is(inside.Err(), ErrLockLost) {
		t.Errorf("got %v, want ErrLockLost", inside.Err())
	}
}

// TestReachMySQLDropped: a statement that gives up all named locks of its session ends the section that has one.
func TestReachMySQLDropped(t *testing.T) {
	s := newReachMySQLScene(t)
	db := s.process()
	for _, query := range []string{"SELECT RELEASE_ALL_LOCKS()", "DO release_all_locks()"} {
		inside, unlock, err := Lock(WithUser(context.Background(), "u"), db)
		must(t, err)
		if _, err := db.ExecContext(inside, query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
		if _, err := db.ExecContext(inside, "UPDATE counters SET n = 100"); !errors.Is(err, ErrLockLost) {
			t.Errorf("a call after %s: got %v, want ErrLockLost", query, err)
		}
		unlock()
	}
}

// TestReachMySQLFailedUnlock: a connection whose lock could not be given up does not go back.
func TestReachMySQLFailedUnlock(t *testing.T) {
	s := newReachMySQLScene(t)
	var log syncBuffer
	a, b := s.process(Logger(slog.New(slog.NewTextHandler(&log, nil)))), s.process()
	ctx := WithUser(context.Background(), "u")
	// Somebody else's function gives it up, which no text tells.
	s.exec("CREATE FUNCTION innocent() RETURNS INT NOT DETERMINISTIC READS SQL DATA RETURN RELEASE_ALL_LOCKS() * 0 + CONNECTION_ID()")
	inside, unlock, err := Lock(ctx, a)
	must(t, err)
	var id int
	must(t, a.QueryRowContext(inside, "SELECT innocent()").Scan(&id))
	unlock()
	s.until("the connection is closed", func() bool {
		return s.number("SELECT count(*) FROM information_schema.processlist WHERE id = ?", id) == 0
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

// TestReachMySQLSchemaChanges: what commits by itself gives up no lock, in a section nor, before its statement has
// returned, in a Tx.
func TestReachMySQLSchemaChanges(t *testing.T) {
	s := newReachMySQLScene(t)
	a, b := s.process(), s.process(LockTimeout(100*time.Millisecond))
	ctx := WithUser(context.Background(), "u")
	inside, unlock, err := Lock(ctx, a)
	must(t, err)
	for _, query := range []string{"CREATE TABLE more (n INT)", "ALTER TABLE more ADD m INT", "USE mysql", "USE " + s.database, "DROP TABLE more"} {
		if _, err := a.ExecContext(inside, query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
		if _, err := b.ExecContext(ctx, "UPDATE counters SET n = n"); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("another process after %s in a section: got %v, want ErrLockTimeout", query, err)
		}
	}
	tx, err := a.BeginTx(inside, nil)
	must(t, err)
	_, err = tx.Exec("CREATE TABLE more (n INT)")
	must(t, err)
	must(t, tx.Commit())
	if _, err := b.ExecContext(ctx, "UPDATE counters SET n = n"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("another process after a Tx in the section: got %v, want ErrLockTimeout", err)
	}
	unlock()
	s.until("the lock is given up", func() bool { return s.locks("u") == 0 })
}

// TestReachMySQLJoined: a user's statement in a transaction of nobody takes the lock until that ends. If it would see what was before
// the lock, it is refused, and the transaction goes on.
func TestReachMySQLJoined(t *testing.T) {
	s := newReachMySQLScene(t)
	a, b := s.process(), s.process(LockTimeout(100*time.Millisecond))
	ctx := WithUser(context.Background(), "u")
	tx, err := a.Begin()
	must(t, err)
	for _, query := range []string{"UPDATE counters SET n = n + 1 WHERE name = 'a'", "SAVEPOINT mine", "ROLLBACK TO mine"} {
		if _, err := tx.ExecContext(ctx, query); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	if _, err := b.ExecContext(ctx, "UPDATE counters SET n = n"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("beside a transaction that the user has joined: got %v, want ErrLockTimeout", err)
	}
	must(t, tx.Commit())
	s.until("the lock is given up", func() bool { return s.locks("u") == 0 })

	tx, err = b.Begin()
	must(t, err)
	_, unlock, err := Lock(ctx, a)
	must(t, err)
	if _, err := tx.ExecContext(ctx, "UPDATE counters SET n = n"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("joining beside a section: got %v, want ErrLockTimeout", err)
	}
	unlock()
	if _, err := tx.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = 'a'"); err != nil {
		t.Errorf("in a transaction that goes on: %v", err)
	}
	must(t, tx.Commit())
	s.checkCounter("joining", 2)

	for level, ok := range map[sql.IsolationLevel]bool{sql.LevelDefault: false, sql.LevelRepeatableRead: false, sql.LevelReadCommitted: true, sql.LevelSerializable: true} {
		tx, err := a.BeginTx(context.Background(), &sql.TxOptions{Isolation: level})
		must(t, err)
		must(t, tx.QueryRow("SELECT n FROM counters WHERE name = 'b'").Scan(new(int)))
		_, err = tx.ExecContext(ctx, "UPDATE counters SET n = n WHERE name = 'a'")
		if ok != (err == nil) || !ok && !strings.Contains(err.Error(), "begin it with the user's context") {
			t.Errorf("after a statement at level %v: got %v", level, err)
		}
		if _, err := tx.Exec("UPDATE counters SET n = n"); err != nil {
			t.Errorf("the transaction at level %v does not go on: %v", level, err)
		}
		tx.Rollback()
	}
}

// TestReachMySQLLockspace: a lockspace names locks of their own; on two databases it is refused.
func TestReachMySQLLockspace(t *testing.T) {
	s := newReachMySQLScene(t)
	a, b := s.process(Lockspace(t.Name())), s.process()
	ctx := WithUser(context.Background(), "u")
	_, unlock, err := Lock(ctx, a)
	must(t, err)
	if _, err := b.ExecContext(WithUser(context.Background(), "u"), "UPDATE counters SET n = n"); err != nil {
		t.Errorf("in another lockspace: %v", err)
	}
	other := newReachMySQLScene(t)
	if _, err := other.process(LockTimeout(0)).ExecContext(WithUser(context.Background(), "u"), "UPDATE counters SET n = n"); err != nil {
		t.Errorf("in another database: %v", err)
	}
	c := other.process(Lockspace(t.Name()))
	if _, err := c.ExecContext(ctx, "SELECT 1"); err == nil || !strings.Contains(err.Error(), "two databases") {
		t.Errorf("a lockspace on two databases: got %v", err)
	}
	unlock()
}

// TestReachMySQLRefused: where it cannot be had, the option is an error that says why.
func TestReachMySQLRefused(t *testing.T) {
	s := newReachMySQLScene(t)
	config := s.config.Clone()
	config.DBName = ""
	connector, err := driver.NewConnector(config)
	must(t, err)
	db, err := OpenDB(connector, LockScope(DatabaseScope))
	must(t, err)
	defer db.Close()
	if err := db.Ping(); err == nil || !strings.Contains(err.Error(), "needs the name of a database") {
		t.Errorf("without a database: got %v", err)
	}
	replica := testdb.PrivateMySQL(t)
	d := replica.NewDatabase(t)
	if db, err = sql.Open("dblocker", "mysql?lock_scope=database:"+d.DSN()); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	must(t, db.Ping())
	if _, err := db.Exec("SET GLOBAL read_only = 1"); err != nil {
		t.Fatal(err)
	}
	again, err := sql.Open("dblocker", "mysql?lock_scope=database:"+d.DSN())
	must(t, err)
	defer again.Close()
	if err := again.Ping(); err == nil || !strings.Contains(err.Error(), "read_only") {
		t.Errorf("on a server that is read_only: got %v", err)
	}
}

// TestReachMySQLRowsInSection: what is done inside open rows of a section works, as it does with connections of its own.
func TestReachMySQLRowsInSection(t *testing.T) { testRowsInSection(t, newReachMySQLScene(t).process()) }

// TestReachMySQLReadTimeout: a wait at the server may be longer than the driver waits for an answer.
func TestReachMySQLReadTimeout(t *testing.T) {
	s := newReachMySQLScene(t)
	s.config.ReadTimeout = 300 * time.Millisecond
	a, b := s.process(), s.process(LockTimeout(time.Second))
	ctx := WithUser(context.Background(), "u")
	_, unlock, err := Lock(ctx, a)
	must(t, err)
	for name, lock := range map[string]func() (context.Context, func(), error){
		"Lock":    func() (context.Context, func(), error) { return Lock(ctx, b) },
		"RLock":   func() (context.Context, func(), error) { return RLock(ctx, b) },
		"LockAll": func() (context.Context, func(), error) { return LockAll(ctx, b) },
	} {
		var e *LockError
		if _, _, err := lock(); !errors.As(err, &e) || e.Err != ErrLockTimeout || e.Waited < time.Second {
			t.Errorf("%s: got %v, want a LockError after 1s", name, err)
		}
	}
	unlock()
}
