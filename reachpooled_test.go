package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// A pooledScene has a pooler that runs each transaction in another session.
type pooledScene struct {
	*reachScene
	dsn string // through the pooler
}

func newPooledScene(t *testing.T) *pooledScene {
	s := newReachScene(t)
	bouncer := testdb.PrivatePgBouncer(t, testdb.Postgres(t))
	return &pooledScene{s, strings.Replace(s.dsn, portOf(testdb.Postgres(t)), portOf(bouncer.Server), 1)}
}

// behind returns a handle that stands for a process behind the pooler.
func (s *pooledScene) behind(opts ...Option) *sql.DB {
	s.Helper()
	return s.openBehind(s.dsn, append([]Option{Pooler(TransactionPooler)}, opts...)...)
}

// pooledWorks are those that work behind such a pooler.
var pooledWorks = []reachWork{
	{"Tx", incrementInTx(nil)},
	{"READ COMMITTED", incrementInTx(&sql.TxOptions{Isolation: sql.LevelReadCommitted})},
	{"REPEATABLE READ", incrementInTx(&sql.TxOptions{Isolation: sql.LevelRepeatableRead})},
	{"SERIALIZABLE", incrementInTx(&sql.TxOptions{Isolation: sql.LevelSerializable})},
	{"Exec", func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "UPDATE counters SET n = n + $1 WHERE name = 'a'", 1)
		return err
	}},
	{"Exec of a slow read and write", func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "DO $$ DECLARE m int; BEGIN SELECT n INTO m FROM counters WHERE name = 'a'; PERFORM pg_sleep(0.002); UPDATE counters SET n = m + 1 WHERE name = 'a'; END $$")
		return err
	}},
	{"Query that writes", func(ctx context.Context, db *sql.DB) error {
		var n int
		return db.QueryRowContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = $1 RETURNING n", "a").Scan(&n)
	}},
	{"prepared", func(ctx context.Context, db *sql.DB) error {
		stmt, err := db.PrepareContext(ctx, "UPDATE counters SET n = n + $1 WHERE name = 'a'")
		if err != nil {
			return err
		}
		defer stmt.Close()
		_, err = stmt.ExecContext(ctx, 1)
		return err
	}},
}

// TestReachPooledLosesNoUpdates: two processes behind the pooler and one that is not lose no update of each other.
func TestReachPooledLosesNoUpdates(t *testing.T) {
	s := newPooledScene(t)
	handles := []*sql.DB{s.behind(), s.behind(), s.process()}
	const workers, rounds = 2, 6
	want := 0
	for _, work := range pooledWorks {
		var all sync.WaitGroup
		for _, db := range handles {
			for range workers {
				all.Go(func() {
					for range rounds {
						if err := work.do(asReachUser("u"), db); err != nil {
							t.Errorf("%s: %v", work.name, err)
						}
					}
				})
			}
		}
		all.Wait()
		want += len(handles) * workers * rounds
		s.checkCounter(work.name, want)
	}
	s.untilNoLocks()
}

// TestReachPooledExcludes: what one process has behind the pooler keeps others out, behind it and not; then it is to be had.
func TestReachPooledExcludes(t *testing.T) {
	s := newPooledScene(t)
	db := s.behind()
	others := map[string]*sql.DB{"behind": s.behind(LockTimeout(100 * time.Millisecond)), "direct": s.process(LockTimeout(100 * time.Millisecond))}
	for name, other := range others {
		for _, opts := range []*sql.TxOptions{nil, {Isolation: sql.LevelSerializable}, {ReadOnly: true}} {
			tx, err := db.BeginTx(asReachUser("u"), opts)
			must(t, err)
			_, err = other.ExecContext(asReachUser("u"), touchCounters)
			if !errors.Is(err, ErrLockTimeout) || !strings.Contains(err.Error(), "of another process") {
				t.Errorf("an Exec, %s, beside a Tx with %+v: got %v, want ErrLockTimeout with the session that is in the way", name, opts, err)
			}
			var n int
			if err := other.QueryRowContext(asReachUser("u"), "SELECT n FROM counters").Scan(&n); (err == nil) != (opts != nil && opts.ReadOnly) {
				t.Errorf("a query, %s, beside a Tx with %+v: got %v", name, opts, err)
			}
			must(t, other.QueryRowContext(asReachUser("v"), "SELECT n FROM counters").Scan(&n))
			must(t, tx.Commit())
			must(t, incrementInTx(nil)(asReachUser("u"), other))
		}
		_, unlock, err := Lock(asReachUser("u"), others["direct"])
		must(t, err)
		if name == "behind" {
			if _, err := other.ExecContext(asReachUser("u"), touchCounters); !errors.Is(err, ErrLockTimeout) {
				t.Errorf("beside a section of a process that is not behind: got %v, want ErrLockTimeout", err)
			}
		}
		unlock()
	}
	rows, err := db.QueryContext(asReachUser("u"), "SELECT generate_series(1, 100000)")
	must(t, err)
	rows.Next()
	if _, err := others["direct"].ExecContext(asReachUser("u"), touchCounters); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("beside rows: got %v, want ErrLockTimeout", err)
	}
	must(t, rows.Close())
	s.untilNoLocks()
}

// TestReachPooledRefuses: what needs a session is refused, in words, and leaves nothing.
func TestReachPooledRefuses(t *testing.T) {
	s := newPooledScene(t)
	db := s.behind()
	ctx := asReachUser("u")
	section := func(_ context.Context, unlock func(), err error) error { unlock(); return err }
	conn, err := db.Conn(ctx)
	must(t, err)
	defer conn.Close()
	exec := func(query string) error { _, err := conn.ExecContext(ctx, query); return err }
	tx, err := db.BeginTx(context.Background(), nil)
	must(t, err)
	_, joined := tx.ExecContext(ctx, touchCounters)
	must(t, tx.Rollback())
	for what, err := range map[string]error{
		"Lock":       section(Lock(ctx, db)),
		"RLock":      section(RLock(ctx, db)),
		"TryLock":    section(TryLock(ctx, db)),
		"LockAll":    section(LockAll(ctx, db)),
		"LockUsers":  section(LockUsers(ctx, db, "a", "b")),
		"BEGIN":      exec("BEGIN"),
		"SAVEPOINT":  exec("SAVEPOINT s"),
		"several":    exec("BEGIN; UPDATE counters SET n = n + 1; COMMIT"),
		"a COMMIT":   exec("UPDATE counters SET n = n + 1; COMMIT; UPDATE counters SET n = n + 1"),
		"joined Tx":  joined,
		"VACUUM":     exec("VACUUM counters"),
		"CONCURRENT": exec("CREATE INDEX CONCURRENTLY i ON counters (n)"),
	} {
		if err == nil || !strings.Contains(err.Error(), "pooler=transaction") {
			t.Errorf("%s: got %v, want an error that names pooler=transaction", what, err)
		}
	}
	var e *pq.Error
	if err := exec("VACUUM counters"); !errors.As(err, &e) || e.Code != "25001" {
		t.Errorf("VACUUM: got %v, want the server's error", err)
	}
	must(t, exec("UPDATE counters SET n = n + 1 WHERE name = 'a'; UPDATE counters SET n = n + 1 WHERE name = 'a'"))
	s.checkCounter("after all that was refused", 2)
	_, err = db.Exec("VACUUM counters") // of nobody
	must(t, err)
	s.untilNoLocks()
}

// TestReachPooledErrors: a statement that fails has done nothing; one that fails when it is committed says so; a panic and the end of a context leave no transaction.
func TestReachPooledErrors(t *testing.T) {
	s := newPooledScene(t)
	s.exec("CREATE TABLE parents (id INT PRIMARY KEY); CREATE TABLE children (id INT REFERENCES parents DEFERRABLE INITIALLY DEFERRED)")
	db := s.behind(MaxOpenConns(2))
	ctx := asReachUser("u")
	var e *pq.Error
	isForeign := func(what string, err error) {
		t.Helper()
		if !errors.As(err, &e) || e.Code.Name() != "foreign_key_violation" {
			t.Errorf("%s: got %v, want the violation", what, err)
		}
	}
	for range 5 {
		_, err := db.ExecContext(ctx, "INSERT INTO children VALUES (1)")
		isForeign("Exec", err)
		isForeign("Query", db.QueryRowContext(ctx, "INSERT INTO children VALUES (1) RETURNING id").Scan(new(int)))
		if _, err := db.ExecContext(ctx, "SELECT 1/0"); err == nil {
			t.Error("no error")
		}
		if err := db.QueryRowContext(ctx, "SELECT 1/0").Scan(new(int)); err == nil {
			t.Error("no error")
		}
		if _, err := db.ExecContext(ctx, "SELECT $1::int", func() {}); err == nil {
			t.Error("no error")
		}
		soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		if _, err := db.ExecContext(soon, "UPDATE counters SET n = n + 1 WHERE pg_sleep(5) IS NOT NULL"); err == nil {
			t.Error("no error")
		}
		cancel()
		cancelled, cancel := context.WithCancel(ctx)
		rows, err := db.QueryContext(cancelled, "SELECT generate_series(1, 100000)")
		must(t, err)
		rows.Next()
		cancel()
		for rows.Next() {
		}
		rows.Close()
		_, err = db.ExecContext(ctx, touchCounters)
		must(t, err)
	}
	s.checkCounter("after errors", 5)
	var n int
	must(t, s.plain.QueryRow("SELECT count(*) FROM children").Scan(&n))
	if n != 0 {
		t.Errorf("%d rows were written by statements that failed", n)
	}
	s.until("no transaction is left", func() bool {
		must(t, s.plain.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'").Scan(&n))
		return n == 0
	})
	s.untilNoLocks()
}

// TestReachPooledBesideOwn: what a request does beside its own Tx and rows works, and a write hears of it if the Tx has ended meanwhile.
func TestReachPooledBesideOwn(t *testing.T) {
	s := newPooledScene(t)
	db := s.behind()
	ctx, cancel := context.WithTimeout(asReachUser("u"), 20*time.Second)
	defer cancel()
	tx, err := db.BeginTx(ctx, nil)
	must(t, err)
	must(t, incrementIn(ctx, db))
	rows := firstRow(t, ctx, db)
	must(t, rows.Close())
	blocker, err := s.plain.Begin()
	must(t, err)
	_, err = blocker.Exec("UPDATE counters SET n = n WHERE name = 'b'")
	must(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(ctx, "UPDATE counters SET n = n WHERE name = 'b'")
		done <- err
	}()
	s.until("the Exec waits for the row", func() bool {
		var n int
		must(t, s.plain.QueryRow("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype <> 'advisory'").Scan(&n))
		return n > 0
	})
	must(t, tx.Commit())
	must(t, blocker.Rollback())
	if err := <-done; !errors.Is(err, ErrLockLost) {
		t.Errorf("an Exec whose Tx has ended before: got %v, want ErrLockLost", err)
	}
	var all sync.WaitGroup // parallel reads of one request, of which each may end first
	for range 8 {
		all.Go(func() {
			for range 20 {
				var n int
				if err := db.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = $1", "a").Scan(&n); err != nil {
					t.Errorf("a parallel query: %v", err)
				}
			}
		})
	}
	all.Wait()
	rows = firstRow(t, ctx, db)
	must(t, incrementIn(ctx, db))
	if !rows.Next() || rows.Next() || rows.Err() != nil {
		t.Errorf("got other rows: %v", rows.Err())
	}
}

// TestReachPooledAboveReadCommitted: where transactions begin above READ COMMITTED by themselves, no update is lost or refused either.
func TestReachPooledAboveReadCommitted(t *testing.T) {
	s := newPooledScene(t)
	var name string
	must(t, s.plain.QueryRow("SELECT current_database()").Scan(&name))
	s.exec(fmt.Sprintf("ALTER DATABASE %s SET default_transaction_isolation = 'repeatable read'", name))
	handles := []*sql.DB{s.behind(), s.behind()}
	const workers, rounds = 3, 6
	want := 0
	for _, work := range pooledWorks {
		var all sync.WaitGroup
		for _, db := range handles {
			for range workers {
				all.Go(func() {
					for range rounds {
						if err := work.do(asReachUser("u"), db); err != nil {
							t.Errorf("%s: %v", work.name, err)
						}
					}
				})
			}
		}
		all.Wait()
		want += len(handles) * workers * rounds
		s.checkCounter(work.name, want)
	}
	s.untilNoLocks()
}

// TestReachPooledLeavesNoSettings: the sessions of the pooler have the settings that they had.
func TestReachPooledLeavesNoSettings(t *testing.T) {
	s := newPooledScene(t)
	db := s.behind(StatementTimeout(time.Minute))
	ctx := asReachUser("u")
	settings := func(q interface {
		QueryRowContext(context.Context, string, ...any) *sql.Row
	}) (all string) {
		must(t, q.QueryRowContext(ctx, "SELECT concat_ws(' ', current_setting('lock_timeout'), current_setting('statement_timeout'), current_setting('tcp_keepalives_idle'))").Scan(&all))
		return all
	}
	want := settings(s.plain)
	if got := settings(db); got != want {
		t.Errorf("a statement: got %s, want %s", got, want)
	}
	tx, err := db.BeginTx(ctx, nil)
	must(t, err)
	if got := settings(tx); got != want {
		t.Errorf("a Tx: got %s, want %s", got, want)
	}
	must(t, tx.Commit())
	if _, err := s.behind(StatementTimeout(50*time.Millisecond)).ExecContext(ctx, "SELECT pg_sleep(10)"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of statement_timeout", err)
	}
}

// A cutDialer is pq's, and knows the connections that it has made.
type cutDialer struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (d *cutDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialTimeout(network, address, time.Minute)
}

func (d *cutDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	c, err := net.DialTimeout(network, address, timeout)
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.conns = append(d.conns, c)
	}
	return c, err
}

// cut ends all connections as the end of a process would.
func (d *cutDialer) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		c.Close()
	}
}

// TestReachPooledCut: a process that is gone in a transaction, or in a statement by itself, keeps nothing behind the pooler, and has written nothing.
func TestReachPooledCut(t *testing.T) {
	s := newPooledScene(t)
	other := s.behind()
	for _, work := range []string{"Tx", "SERIALIZABLE", "rows"} {
		dialer := new(cutDialer)
		connector, err := pq.NewConnector(s.dsn)
		must(t, err)
		connector.Dialer(dialer)
		db, err := OpenDB(connector, LockScope(DatabaseScope), Pooler(TransactionPooler))
		must(t, err)
		ctx := asReachUser("u")
		if work == "rows" {
			rows, err := db.QueryContext(ctx, "SELECT generate_series(1, 1000000)")
			must(t, err)
			rows.Next()
			defer rows.Close()
		} else {
			level := sql.LevelDefault
			if work == "SERIALIZABLE" {
				level = sql.LevelSerializable
			}
			tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: level})
			must(t, err)
			_, err = tx.ExecContext(ctx, touchCounters)
			must(t, err)
			defer tx.Rollback()
		}
		dialer.cut()
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err = other.ExecContext(WithUser(within, "u"), "UPDATE counters SET n = n WHERE name = 'a'")
		cancel()
		if err != nil {
			t.Errorf("%s: the next one: %v", work, err)
		}
		s.checkCounter(work, 0)
		db.Close()
	}
}

// TestReachPooledElsewhere: other engines do not know such a pooler.
func TestReachPooledElsewhere(t *testing.T) {
	for _, dsn := range []string{"mysql?lock_scope=database&pooler=transaction:user@tcp(127.0.0.1:1)/app", "sqlite3?lock_scope=database&pooler=transaction:app.db"} {
		db, err := sql.Open("dblocker", dsn)
		if err == nil {
			db.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "pooler=transaction is for PostgreSQL") {
			t.Errorf("%s: got %v, want that it is refused", dsn, err)
		}
	}
}

// TestReachPooledInOne: a pooler with one connection to the server, on which a second process would wait for the first, is refused in words.
func TestReachPooledInOne(t *testing.T) {
	s := newReachScene(t)
	bouncer := testdb.PrivateSmallPgBouncer(t, testdb.Postgres(t))
	dsn := strings.Replace(s.dsn, portOf(testdb.Postgres(t)), portOf(bouncer.Server), 1)
	if err := s.openBehind(dsn, Pooler(TransactionPooler)).Ping(); err == nil || !strings.Contains(err.Error(), "default_pool_size") {
		t.Errorf("got %v, want that the pool has no room", err)
	}
}

// TestReachPooledBesideALostTx: a write beside a Tx of its own that has lost its connection, and with it the lock, is not made.
func TestReachPooledBesideALostTx(t *testing.T) {
	s := newPooledScene(t)
	db := s.behind()
	ctx, cancel := context.WithTimeout(asReachUser("u"), 20*time.Second)
	defer cancel()
	const write = "UPDATE counters SET n = n + 1"
	stmt, err := db.PrepareContext(ctx, write)
	must(t, err)
	defer stmt.Close()
	tx, err := db.BeginTx(ctx, nil)
	must(t, err)
	defer tx.Rollback()
	s.exec("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
	s.untilNoLocks()
	for name, do := range map[string]func() error{
		"Exec":              func() error { _, err := db.ExecContext(ctx, write); return err },
		"prepared":          func() error { _, err := stmt.ExecContext(ctx); return err },
		"Query that writes": func() error { return db.QueryRowContext(ctx, write+" RETURNING n").Scan(new(int)) },
	} {
		if err := do(); !errors.Is(err, ErrLockLost) {
			t.Errorf("%s: got %v, want ErrLockLost", name, err)
		}
	}
	if n := sumOfCounters(t, s.plain); n != 0 {
		t.Errorf("%d writes without the lock", n)
	}
}
