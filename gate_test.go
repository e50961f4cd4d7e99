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

	"github.com/calmdocs/dblocker/internal/sqltext"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// journalModes are all that SQLite has; "memory database" is one without a file.
var journalModes = []string{"WAL", "DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF", "memory database"}

// onJournals runs a test in each journal mode, on a table counters as onEngines has it.
func onJournals(t *testing.T, options string, test func(t *testing.T, db *sql.DB, mode string)) {
	for _, mode := range journalModes {
		t.Run(mode, func(t *testing.T) {
			testdb.NoLeaks(t)
			test(t, openJournal(t, mode, options), mode)
		})
	}
}

// openJournal opens a database in a journal mode. SQLite itself waits for nothing there,
// not for a disk either: whoever meets one of its locks is told so. In WAL mode it waits for
// 100 ms, since a reader who finds the index of the WAL half written takes the write lock for
// a moment, to look again.
func openJournal(t *testing.T, mode, options string) *sql.DB {
	t.Helper()
	timeout := 0
	if mode == "WAL" {
		timeout = 100
	}
	dsn := fmt.Sprintf("file:%s?_busy_timeout=%d&_sync=OFF&_journal_mode=%s", testdb.SQLite(t), timeout, mode)
	if mode == "" { // SQLite's own recovery of a WAL file is waited for in SQLite
		dsn = "file:" + testdb.SQLite(t)
	}
	if mode == "memory database" {
		dsn = ":memory:?_busy_timeout=0"
	}
	db := openSQLite(t, "dblocker", interruptible+"?"+options+":"+dsn)
	mustExec(t, db, "CREATE TABLE counters (id VARCHAR(20) PRIMARY KEY, n BIGINT NOT NULL)")
	mustExec(t, db, "INSERT INTO counters VALUES ('1', 0), ('2', 0), ('3', 0), ('4', 0)")
	return db
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func mustExec(t *testing.T, db execer, query string) {
	t.Helper()
	if _, err := db.ExecContext(context.Background(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// TestSQLiteIsNeverBusy: whatever is done at once, nobody hears of SQLite's locks, no
// update is lost, nobody waits in vain, and the file stays sound.
func TestSQLiteIsNeverBusy(t *testing.T) {
	onJournals(t, "self_wait=30s", func(t *testing.T, db *sql.DB, mode string) {
		load := &sqliteLoad{t: t, db: db, mode: mode}
		ctx, cancel := context.WithTimeout(context.Background(), testTime(time.Second))
		defer cancel()
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				user := i%4 + 1
				for ctx.Err() == nil {
					load.step(user, i < 16)
				}
			})
		}
		wg.Wait()
		deadline, _ := ctx.Deadline()
		if late := time.Since(deadline); late > 20*time.Second {
			t.Errorf("the last request has waited %v, as if for itself", late)
		}
		var n int64
		must(t, db.QueryRow("SELECT SUM(n) FROM counters").Scan(&n))
		if min, max := load.acknowledged.Load(), load.acknowledged.Load()+load.doubtful.Load(); mode != "OFF" && (n < min || n > max) {
			t.Errorf("%d updates are there, want %d to %d", n, min, max)
		}
		var ok string
		must(t, db.QueryRow("PRAGMA integrity_check").Scan(&ok))
		if ok != "ok" && mode != "OFF" {
			t.Errorf("integrity_check: %s", ok)
		}
		t.Logf("%d updates, %d reads, %d cancelled", n, load.reads.Load(), load.cancelled.Load())
	})
}

// TestEveryLoadOnEveryJournal: what bench/ measures in a few journal modes gets no error,
// and loses no update, in any.
func TestEveryLoadOnEveryJournal(t *testing.T) {
	type crowd struct {
		size, users int
		percent     int // of the work that writes
		inTx        bool
	}
	loads := map[string][]crowd{
		"point read":        {{size: 16, users: 100}},
		"one-row update":    {{size: 16, users: 100, percent: 100}},
		"mix 90/10":         {{size: 64, users: 100, percent: 10}},
		"read-modify-write": {{size: 32, users: 50, percent: 100, inTx: true}},
		"hot user":          {{size: 200, users: 1, percent: 100}, {size: 20, users: 100}},
	}
	onJournals(t, "lock_timeout=10m", func(t *testing.T, db *sql.DB, mode string) {
		mustExec(t, db, "INSERT INTO counters WITH RECURSIVE r(i) AS (SELECT 5 UNION ALL SELECT i + 1 FROM r WHERE i < 100) SELECT i, 0 FROM r")
		work := &sqliteLoad{t: t, db: db, mode: mode}
		for name, crowds := range loads {
			var updates atomic.Int64
			mustExec(t, db, "UPDATE counters SET n = 0")
			ctx, cancel := context.WithTimeout(context.Background(), testTime(200*time.Millisecond))
			var wg sync.WaitGroup
			for _, c := range crowds {
				for range c.size {
					wg.Go(func() {
						for ctx.Err() == nil {
							user, do, n := fmt.Sprint(1+rand.IntN(c.users)), work.read, 0
							if rand.IntN(100) < c.percent {
								do, n = work.update, 1
								if c.inTx {
									do = work.readModifyWrite
								}
							}
							if err := do(asUser(user), user); err != nil {
								t.Errorf("%s: %v", name, err)
							}
							updates.Add(int64(n))
						}
					})
				}
			}
			wg.Wait()
			cancel()
			var sum int64
			must(t, db.QueryRow("SELECT SUM(n) FROM counters").Scan(&sum))
			if sum != updates.Load() {
				t.Errorf("%s: %d updates are there, want %d", name, sum, updates.Load())
			}
		}
	})
}

func testTime(d time.Duration) time.Duration {
	if testing.Short() {
		return d / 4
	}
	return d
}

// sqliteLoad does all kinds of work, and counts what came of it.
type sqliteLoad struct {
	t    *testing.T
	db   *sql.DB
	mode string

	acknowledged, doubtful, reads, cancelled atomic.Int64
}

// step does one piece of work as a new request of the user, or one in five without a
// user, and cancels one in eight while it is under way. With journal_mode=OFF SQLite
// cannot roll back, so nothing is cancelled there. Without a user, a write in a loop
// over rows would wait for these.
func (l *sqliteLoad) step(user int, writes bool) {
	ctx, tagged := asUser(user), rand.IntN(5) > 0
	if !tagged {
		ctx = context.Background()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if rand.IntN(8) == 0 && l.mode != "OFF" {
		timer := time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, cancel)
		defer timer.Stop()
	}
	steps := []func(context.Context, string) error{l.read, l.readInRows, l.readOnlyTx}
	if writes {
		steps = []func(context.Context, string) error{l.update, l.readModifyWrite, l.returning, l.rawTransaction, l.updateAfterIdling}
		if tagged {
			steps = append(steps, l.updateInRows)
		}
	}
	err := steps[rand.IntN(len(steps))](ctx, fmt.Sprint(user))
	switch {
	case err == nil && writes:
		l.acknowledged.Add(1)
	case err == nil:
		l.reads.Add(1)
	case ctx.Err() != nil && !isBusy(err):
		l.cancelled.Add(1)
		if writes {
			l.doubtful.Add(1)
		}
	default:
		l.t.Errorf("a request failed: %v", err)
	}
}

func isBusy(err error) bool {
	text := err.Error()
	return strings.Contains(text, "is locked") || strings.Contains(text, "SQLITE_BUSY") || strings.Contains(text, "in progress")
}

func (l *sqliteLoad) read(ctx context.Context, user string) error {
	return l.db.QueryRowContext(ctx, "SELECT n FROM counters WHERE id = ?", user).Scan(new(int))
}

func (l *sqliteLoad) inRows(ctx context.Context, f func() error) error {
	rows, err := l.db.QueryContext(ctx, "SELECT n FROM counters")
	if err != nil {
		return err
	}
	defer rows.Close()
	for i := 0; rows.Next(); i++ {
		if i == 1 {
			if err := f(); err != nil {
				return err
			}
		}
	}
	return rows.Err()
}

func (l *sqliteLoad) readInRows(ctx context.Context, user string) error {
	return l.inRows(ctx, func() error { return l.read(ctx, user) })
}

func (l *sqliteLoad) updateInRows(ctx context.Context, user string) error {
	return l.inRows(ctx, func() error { return l.update(ctx, user) })
}

func (l *sqliteLoad) readOnlyTx(ctx context.Context, user string) error {
	tx, err := l.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var a, b int
	for _, n := range []*int{&a, &b} {
		if err := tx.QueryRowContext(ctx, "SELECT n FROM counters WHERE id = ?", user).Scan(n); err != nil {
			return err
		}
	}
	if a != b {
		l.t.Errorf("a read-only transaction saw %d and %d", a, b)
	}
	return tx.Commit()
}

func (l *sqliteLoad) update(ctx context.Context, user string) error {
	_, err := l.db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = ?", user)
	return err
}

func (l *sqliteLoad) readModifyWrite(ctx context.Context, user string) error {
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT n FROM counters WHERE id = ?", user).Scan(&n); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE counters SET n = ? WHERE id = ?", n+1, user); err != nil {
		return err
	}
	return tx.Commit()
}

// updateAfterIdling has a transaction open while it does something else.
func (l *sqliteLoad) updateAfterIdling(ctx context.Context, user string) error {
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := l.read(ctx, user); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = ?", user); err != nil {
		return err
	}
	return tx.Commit()
}

func (l *sqliteLoad) returning(ctx context.Context, user string) error {
	return l.db.QueryRowContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = ? RETURNING n", user).Scan(new(int))
}

func (l *sqliteLoad) rawTransaction(ctx context.Context, user string) error {
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	if err := conn.QueryRowContext(ctx, "SELECT n FROM counters WHERE id = ?", user).Scan(new(int)); err == nil {
		_, err = conn.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = ?", user)
		if err == nil {
			_, err = conn.ExecContext(ctx, "COMMIT")
		}
		if err == nil {
			return nil
		}
	}
	conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	return ctx.Err()
}

// TestSameConnectionBesideItsRows does beside open rows of the same connection what
// SQLite refuses there, or would have to refuse since others have written
// meanwhile. The rows go on as if nothing had happened.
func TestSameConnectionBesideItsRows(t *testing.T) {
	statements := []string{
		"UPDATE counters SET n = n + 1", "CREATE TABLE t (v)", "ALTER TABLE t ADD w", "DROP TABLE t", "VACUUM", "REINDEX",
		"ANALYZE", "BEGIN IMMEDIATE", "INSERT INTO counters VALUES ('9', 0)", "CREATE INDEX i ON counters (n)", "DROP INDEX i",
		"COMMIT", "SAVEPOINT a", "RELEASE a", "PRAGMA user_version = 7", "PRAGMA wal_checkpoint(TRUNCATE)",
		"ATTACH ':memory:' AS other", "DETACH other",
	}
	queries := []string{"SELECT id FROM counters WHERE id < '5'", "UPDATE counters SET n = n + 1 WHERE id < '5' RETURNING id"}
	onJournals(t, "", func(t *testing.T, db *sql.DB, _ string) {
		for _, tagged := range []bool{false, true} {
			for _, query := range queries {
				ctx := context.Background()
				if tagged {
					ctx = asUser(1)
				}
				besideRows(t, ctx, db, query, statements)
				mustExec(t, db, "DELETE FROM counters WHERE id > '5'")
			}
		}
	})
}

func besideRows(t *testing.T, ctx context.Context, db *sql.DB, query string, statements []string) {
	t.Helper()
	conn, err := db.Conn(ctx)
	must(t, err)
	defer conn.Close()
	inTx := false
	for _, statement := range statements {
		rows, err := conn.QueryContext(ctx, query)
		if err != nil {
			t.Fatalf("%s before %s: %v", query, statement, err)
		}
		got := ""
		for i := 0; rows.Next(); i++ {
			var id string
			if i == 1 {
				if !inTx && strings.HasPrefix(query, "SELECT") {
					writeElsewhere(t, db)
				}
				if _, err := conn.ExecContext(ctx, statement); err != nil {
					t.Errorf("%s beside rows of %s: %v", statement, query, err)
				}
			}
			must(t, rows.Scan(&id))
			got += id
		}
		if err := rows.Err(); err != nil || got != "1234" {
			t.Errorf("the rows of %s beside %s were %q and ended with %v", query, statement, got, err)
		}
		must(t, rows.Close())
		inTx = inTx && statement != "COMMIT" && statement != "RELEASE a" || statement == "BEGIN IMMEDIATE" || statement == "SAVEPOINT a"
	}
}

// writeElsewhere writes on another connection, if rows that are open let it: then a
// state that the rows show is no longer the last.
func writeElsewhere(t *testing.T, db *sql.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if _, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1"); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a write on another connection: %v", err)
	}
}

// TestInterruptedTxPersistsNothing: SQLite rolls a transaction back when it interrupts
// a write in it. What the program does next in the transaction must not be written,
// each statement by itself.
func TestInterruptedTxPersistsNothing(t *testing.T) {
	onJournals(t, "", func(t *testing.T, db *sql.DB, mode string) {
		if mode == "OFF" {
			t.Skip("SQLite cannot roll back")
		}
		tx, err := db.BeginTx(asUser(1), nil)
		must(t, err)
		mustExec(t, tx, "UPDATE counters SET n = 100")
		interrupt(t, tx)
		for _, err := range []error{
			execError(tx, "UPDATE counters SET n = 200"),
			tx.QueryRow("SELECT n FROM counters").Scan(new(int)),
			execError(tx, "COMMIT"),
			tx.Commit(),
		} {
			if !errors.Is(err, ErrRolledBack) || !errors.Is(err, context.Canceled) {
				t.Errorf("in a transaction that is over: got %v, want ErrRolledBack that wraps the cause", err)
			}
		}
		tx, err = db.BeginTx(asUser(1), nil) // nothing holds it up
		must(t, err)
		interrupt(t, tx)
		if err := tx.Rollback(); err != nil {
			t.Errorf("Rollback: %v", err)
		}
		wantCounter(t, db, 0)
	})
}

func execError(db execer, query string) error {
	_, err := db.ExecContext(context.Background(), query)
	return err
}

// interruptible is a SQLite driver that has a function running(). It tells
// untilRunning that SQLite is in the middle of a statement.
const interruptible = "sqlite3-interruptible"

var running = make(chan bool)

func init() {
	sql.Register(interruptible, &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
		return c.RegisterFunc("running", func() int { running <- true; return 1 }, false)
	}})
}

// untilRunning calls f with a context that ends once a statement calls running(). A
// context that ended earlier would stop nothing: the driver, too, asks SQLite only once
// to interrupt whatever is running.
func untilRunning(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-running:
			cancel()
		case <-ctx.Done(): // f has failed
		}
	}()
	return f(ctx)
}

// endlessWrite ends only if it is interrupted.
const endlessWrite = "INSERT INTO counters WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) " +
	"SELECT 'x' || i, CASE i WHEN 1000 THEN running() ELSE i END FROM r"

// interrupt begins a long write and ends its context.
func interrupt(t *testing.T, db execer) {
	t.Helper()
	err := untilRunning(context.Background(), func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, endlessWrite)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the long write: %v", err)
	}
}

func wantCounter(t *testing.T, db *sql.DB, want int) {
	t.Helper()
	var n int
	must(t, db.QueryRow("SELECT MAX(n) FROM counters").Scan(&n))
	if n != want {
		t.Errorf("n is %d, want %d", n, want)
	}
}

// TestInterruptedRawTransactionPersistsNothing until the program ends it. SQLite has no
// transaction to end any more, and says so, as on the bare driver.
func TestInterruptedRawTransactionPersistsNothing(t *testing.T) {
	for _, end := range []string{"ROLLBACK", "COMMIT", "close"} {
		t.Run(end, func(t *testing.T) {
			testdb.NoLeaks(t)
			db := openJournal(t, "WAL", "lock_timeout=0")
			conn, err := db.Conn(context.Background())
			must(t, err)
			mustExec(t, conn, "BEGIN")
			interrupt(t, conn)
			if err := execError(conn, "UPDATE counters SET n = 200"); !errors.Is(err, ErrRolledBack) {
				t.Errorf("got %v, want ErrRolledBack", err)
			}
			if end == "close" {
				must(t, conn.Close())
			} else if err := execError(conn, end); err == nil || !strings.Contains(err.Error(), "no transaction is active") {
				t.Errorf("%s: %v", end, err)
			}
			wantCounter(t, db, 0)
			mustExec(t, db, "UPDATE counters SET n = 1")
			if end != "close" {
				mustExec(t, conn, "UPDATE counters SET n = 2")
				must(t, conn.Close())
			}
		})
	}
}

// TestInterruptedStringPersistsNothing: a string of several statements is interrupted
// after its BEGIN. What follows on the connection is not written, until the program
// ends the transaction, or begins it again.
func TestInterruptedStringPersistsNothing(t *testing.T) {
	run := map[string]func(ctx context.Context, conn *sql.Conn, query string) error{
		"Exec": func(ctx context.Context, conn *sql.Conn, query string) error {
			_, err := conn.ExecContext(ctx, query)
			return err
		},
		"Query": func(ctx context.Context, conn *sql.Conn, query string) error {
			return conn.QueryRowContext(ctx, query+"; SELECT 1").Scan(new(int))
		},
	}
	for how, run := range run {
		for _, begin := range []string{"BEGIN; UPDATE counters SET n = 100; ", "SAVEPOINT a; UPDATE counters SET n = 100; "} {
			for _, end := range []string{"ROLLBACK", "COMMIT", "close", "BEGIN", "BEGIN; UPDATE counters SET n = 3"} {
				t.Run(how+" "+begin+end, func(t *testing.T) {
					testdb.NoLeaks(t)
					db := openJournal(t, "WAL", "lock_timeout=0")
					user := asUser(1)
					conn, err := db.Conn(user)
					must(t, err)
					defer conn.Close()
					err = untilRunning(user, func(ctx context.Context) error { return run(ctx, conn, begin+endlessWrite) })
					if !errors.Is(err, context.Canceled) {
						t.Fatalf("the string: %v", err)
					}
					if _, err := conn.ExecContext(user, "UPDATE counters SET n = 200"); !errors.Is(err, ErrRolledBack) {
						t.Errorf("a statement after it: got %v, want ErrRolledBack", err)
					}
					wantCounter(t, db, 0)
					switch {
					case end == "close":
						must(t, conn.Close())
					case strings.HasPrefix(end, "BEGIN"):
						mustExec(t, conn, end)
						mustExec(t, conn, "ROLLBACK")
					default:
						if _, err := conn.ExecContext(user, end); err == nil || !strings.Contains(err.Error(), "no transaction is active") {
							t.Errorf("%s: %v", end, err)
						}
					}
					wantCounter(t, db, 0)
					mustExec(t, db, "UPDATE counters SET n = 1")
					_, err = db.ExecContext(asUser(1), "UPDATE counters SET n = 2")
					must(t, err)
				})
			}
		}
	}
}

// TestReadOnlyTxCannotWrite, whether the text shows that it would or not.
func TestReadOnlyTxCannotWrite(t *testing.T) {
	onJournals(t, "max_idle_conns=1", func(t *testing.T, db *sql.DB, _ string) {
		for _, ctx := range []context.Context{context.Background(), asUser(1), WithMode(asUser(1), Shared)} {
			tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
			must(t, err)
			if _, err := tx.ExecContext(ctx, "UPDATE counters SET n = 1"); !errors.Is(err, ErrReadOnly) {
				t.Errorf("got %v, want ErrReadOnly", err)
			}
			if err := tx.QueryRowContext(ctx, "UPDATE counters SET n = 1 RETURNING n").Scan(new(int)); !errors.Is(err, ErrReadOnly) {
				t.Errorf("got %v, want ErrReadOnly", err)
			}
			must(t, tx.Commit())
			wantCounter(t, db, 0)
			mustExec(t, db, "UPDATE counters SET n = 0") // the connection can write again
		}
	})
}

// TestBeginIsImmediate, so that two that read first and then write do not meet; but not before
// the first statement.
func TestBeginIsImmediate(t *testing.T) {
	for _, txlock := range []string{"", "&_txlock=deferred", "&_txlock=exclusive"} {
		testdb.NoLeaks(t)
		path := testdb.SQLite(t)
		db := openSQLite(t, "sqlite3-dblocker", "file:"+path+"?_busy_timeout=0"+txlock)
		mustExec(t, db, "CREATE TABLE t (v)")
		tx, err := db.Begin()
		must(t, err)
		other := openSQLite(t, "sqlite3", "file:"+path+"?_busy_timeout=0")
		mustExec(t, other, "INSERT INTO t VALUES (0)")
		must(t, tx.QueryRow("SELECT COUNT(*) FROM t").Scan(new(int)))
		if err := execError(other, "INSERT INTO t VALUES (1)"); err == nil || !isBusy(err) {
			t.Errorf("%q: another program wrote beside the transaction: %v", txlock, err)
		}
		must(t, tx.Rollback())
		mustExec(t, other, "INSERT INTO t VALUES (1)")
		tx, err = db.BeginTx(context.Background(), &sql.TxOptions{ReadOnly: true})
		must(t, err)
		must(t, tx.QueryRow("SELECT COUNT(*) FROM t").Scan(new(int)))
		mustExec(t, other, "INSERT INTO t VALUES (2)")
		must(t, tx.Rollback())
	}
}

// TestReadersPassInWAL, and wait for the writer with any other journal.
func TestReadersPassInWAL(t *testing.T) {
	onJournals(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, mode string) {
		tx, err := db.BeginTx(asUser(1), nil)
		must(t, err)
		_, err = tx.Exec("UPDATE counters SET n = 1")
		must(t, err)
		prepare := func() error {
			stmt, err := db.Prepare("SELECT n FROM counters")
			if err == nil {
				err = stmt.Close()
			}
			return err
		}
		for name, err := range map[string]error{
			"read":          db.QueryRowContext(asUser(2), "SELECT n FROM counters").Scan(new(int)),
			"untagged read": db.QueryRow("SELECT n FROM counters").Scan(new(int)),
			"prepare":       prepare(),
			"ping":          db.Ping(),
		} {
			if mode == "WAL" && err != nil || mode != "WAL" && !errors.Is(err, ErrLockTimeout) {
				t.Errorf("%s beside a transaction: %v", name, err)
			}
		}
		must(t, tx.Rollback())
	})
}

// TestOwnReadBesideOwnBigTx: where SQLite shuts the reader out, as a writer whose
// pages have outgrown the cache does, the owner waits for itself, and is told so.
func TestOwnReadBesideOwnBigTx(t *testing.T) {
	onJournals(t, "self_wait=20ms", func(t *testing.T, db *sql.DB, mode string) {
		ctx := asUser(1)
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		_, err = tx.Exec("PRAGMA cache_size = 10")
		must(t, err)
		_, err = tx.Exec("INSERT INTO counters WITH RECURSIVE r(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM r WHERE i < 20000) SELECT 'x' || i, i FROM r")
		must(t, err)
		err = db.QueryRowContext(ctx, "SELECT n FROM counters").Scan(new(int))
		if mode == "WAL" {
			must(t, err)
		} else if !errors.Is(err, ErrDeadlock) || !strings.Contains(err.Error(), "transaction of the same owner") {
			t.Errorf("got %v, want ErrDeadlock that names the own transaction", err)
		}
		_, err = db.ExecContext(ctx, "UPDATE counters SET n = 1")
		if !errors.Is(err, ErrDeadlock) || !strings.Contains(err.Error(), "transaction of the same owner") {
			t.Errorf("an outer write: got %v, want ErrDeadlock that names the own transaction", err)
		}
		must(t, tx.Rollback())
	})
}

// TestNestedReadPassesQueuedWriter: a request reads in a loop over rows of its own
// while a writer waits for these.
func TestNestedReadPassesQueuedWriter(t *testing.T) {
	onJournals(t, "", func(t *testing.T, db *sql.DB, mode string) {
		ctx := asUser(1)
		rows, err := db.QueryContext(ctx, "SELECT n FROM counters")
		must(t, err)
		rows.Next()
		done := make(chan error, 1)
		go func() {
			_, err := db.ExecContext(asUser(2), "UPDATE counters SET n = 1")
			done <- err
		}()
		if mode != "WAL" {
			waitFor(t, func() bool { return waitingAtGates() == 1 })
		}
		must(t, db.QueryRowContext(ctx, "SELECT n FROM counters").Scan(new(int)))
		must(t, rows.Close())
		must(t, <-done)
	})
}

// TestNestedReadInExclusiveRows: rows that have the gate to themselves make way there for
// what their owner does meanwhile. Those of WithMode keep their user's lock; those of a statement
// that writes have given it up.
func TestNestedReadInExclusiveRows(t *testing.T) {
	onJournals(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, _ string) {
		ctx := asUser(1)
		for name, open := range map[string]func() (*sql.Rows, error){
			"WithMode": func() (*sql.Rows, error) {
				return db.QueryContext(WithMode(ctx, Exclusive), "SELECT n FROM counters")
			},
			"RETURNING": func() (*sql.Rows, error) {
				return db.QueryContext(ctx, "UPDATE counters SET n = n + 1 RETURNING n")
			},
		} {
			rows, err := open()
			must(t, err)
			rows.Next()
			must(t, db.QueryRowContext(ctx, "SELECT n FROM counters").Scan(new(int)))
			must(t, db.QueryRowContext(asUser(2), "SELECT n FROM counters").Scan(new(int)))
			if got, want := isFree(t, db, 1), name == "RETURNING"; got != want {
				t.Errorf("%s: the user's lock is free: %v, want %v", name, got, want)
			}
			must(t, rows.Close())
		}
	})
}

// waitingAtGates counts those who wait at the gates of all databases, or for readers that passed by.
func waitingAtGates() int {
	n := 0
	for _, s := range databasesOpen() {
		n += s.Gate.Waiting()
	}
	return n
}

// TestPreparedExecLeavesNoLock: a statement with rows that is executed, not queried,
// keeps SQLite's lock with some drivers until it is used again.
func TestPreparedExecLeavesNoLock(t *testing.T) {
	onJournals(t, "", func(t *testing.T, db *sql.DB, mode string) {
		conn, err := db.Conn(context.Background())
		must(t, err)
		defer conn.Close()
		for _, query := range []string{"UPDATE counters SET n = n + 1 RETURNING n", "SELECT n FROM counters"} {
			stmt, err := conn.PrepareContext(context.Background(), query)
			must(t, err)
			for range 2 {
				_, err = stmt.Exec()
				must(t, err)
				mustExec(t, db, "UPDATE counters SET n = n + 1")
				mustExec(t, conn, "UPDATE counters SET n = n + 1")
			}
			must(t, stmt.Close())
		}
	})
}

// TestJournalModeChangesUnderLoad, back and forth, and the file is checkpointed, while
// others read and write: nobody notices.
func TestJournalModeChangesUnderLoad(t *testing.T) {
	testdb.NoLeaks(t)
	db := openJournal(t, "", "self_wait=1m") // which is how long the mode is tried to be changed
	load := &sqliteLoad{t: t, db: db}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				load.step(i%4+1, i < 4)
			}
		})
	}
	defer wg.Wait()
	defer cancel()
	for range 5 {
		for _, mode := range []string{"delete", "wal", "truncate", "persist", "wal", "memory"} {
			var got string
			if err := db.QueryRow("PRAGMA journal_mode = " + mode).Scan(&got); err != nil {
				t.Errorf("PRAGMA journal_mode = %s: %v", mode, err)
			} else if got != mode {
				t.Errorf("the journal mode is %s, want %s", got, mode)
			}
			mustExec(t, db, "PRAGMA wal_checkpoint(TRUNCATE)")
			mustExec(t, db, "VACUUM")
		}
	}
	cancel()
	wg.Wait()
	var n int64
	must(t, db.QueryRow("SELECT SUM(n) FROM counters").Scan(&n))
	if min := load.acknowledged.Load(); n < min || n > min+load.doubtful.Load() {
		t.Errorf("%d updates are there, want %d and at most %d doubtful ones", n, min, load.doubtful.Load())
	}
}

// TestLeavingWALWaitsForReaders, but not for ever, and then all is as before.
func TestLeavingWALWaitsForReaders(t *testing.T) {
	testdb.NoLeaks(t)
	db := openJournal(t, "WAL", "self_wait=20ms")
	rows, err := db.Query("SELECT n FROM counters")
	must(t, err)
	rows.Next()
	if err := execError(db, "PRAGMA journal_mode = DELETE"); !errors.Is(err, ErrLockTimeout) || !strings.Contains(err.Error(), "1 of them, were in use") {
		t.Errorf("got %v, want ErrLockTimeout", err)
	}
	mustExec(t, db, "UPDATE counters SET n = 1")
	must(t, rows.Close())
	mustExec(t, db, "PRAGMA journal_mode = DELETE")
}

// TestAttachedFilesShareTheGate: what is written to an attached file passes the gate of
// the main file too.
func TestAttachedFilesShareTheGate(t *testing.T) {
	testdb.NoLeaks(t)
	db, other := openJournal(t, "WAL", ""), testdb.SQLite(t)
	var wg sync.WaitGroup
	mustExec(t, openSQLite(t, "sqlite3", other), "CREATE TABLE t (v)")
	for range 4 {
		wg.Go(func() {
			conn, err := db.Conn(context.Background())
			must(t, err)
			defer conn.Close()
			mustExec(t, conn, "ATTACH '"+other+"' AS other")
			for range 20 {
				if err := execError(conn, "INSERT INTO other.t VALUES (1)"); err != nil {
					t.Error(err)
				}
			}
			mustExec(t, conn, "DETACH other")
		})
	}
	wg.Wait()
}

// TestBackupUnderLoad copies a database with SQLite's backup API, which knows no gate:
// beside writers in WAL mode, and else inside a transaction, which has the gate.
func TestBackupUnderLoad(t *testing.T) {
	onJournals(t, "", func(t *testing.T, db *sql.DB, mode string) {
		load := &sqliteLoad{t: t, db: db, mode: mode}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					load.step(i+1, i < 2)
				}
			})
		}
		defer wg.Wait()
		defer cancel()
		conn, err := db.Conn(asUser(9))
		must(t, err)
		if mode != "WAL" {
			_, err := conn.ExecContext(asUser(9), "BEGIN")
			must(t, err)
		}
		path := testdb.SQLite(t)
		must(t, conn.Raw(func(driverConn any) error {
			return driverConn.(RawConn).Raw(func(inner any) error { return backUp(inner.(*sqlite3.SQLiteConn), path) })
		}))
		if mode != "WAL" {
			_, err := conn.ExecContext(asUser(9), "ROLLBACK")
			must(t, err)
		}
		must(t, conn.Close())
		cancel()
		wg.Wait()
		var n int
		must(t, openSQLite(t, "sqlite3", path).QueryRow("SELECT COUNT(*) FROM counters").Scan(&n))
		if n != 4 {
			t.Errorf("the copy has %d rows, want 4", n)
		}
	})
}

func backUp(from *sqlite3.SQLiteConn, path string) error {
	to, err := (&sqlite3.SQLiteDriver{}).Open(path)
	if err != nil {
		return err
	}
	defer to.Close()
	backup, err := to.(*sqlite3.SQLiteConn).Backup("main", from, "main")
	if err != nil {
		return err
	}
	defer backup.Finish()
	_, err = backup.Step(-1)
	return err
}

// TestTextNeverTakesAWriteForARead: SQLite's own judgement of a statement agrees wherever
// the text is taken for a read, except for an EXPLAIN, which does not do what it explains.
func TestTextNeverTakesAWriteForARead(t *testing.T) {
	db := openJournal(t, "WAL", "")
	conn, err := db.Conn(context.Background())
	must(t, err)
	defer conn.Close()
	mustExec(t, conn, "CREATE VIEW v AS SELECT * FROM counters")
	mustExec(t, conn, "CREATE VIRTUAL TABLE f USING rtree(id, a, b)")
	for _, query := range []string{
		"SELECT * FROM counters", "SELECT * FROM v, f", "WITH x AS (SELECT 1) SELECT * FROM x", "VALUES (1), (2)",
		"WITH x AS (SELECT 1) DELETE FROM counters", "WITH x AS (SELECT 1) INSERT INTO counters SELECT 5, 5",
		"INSERT INTO counters VALUES (5, 5) RETURNING n", "UPDATE counters SET n = 1", "REPLACE INTO counters VALUES (1, 1)",
		"PRAGMA table_info(counters)", "PRAGMA user_version", "PRAGMA user_version = 3", "PRAGMA application_id = 3",
		"PRAGMA integrity_check", "PRAGMA foreign_key_check", "PRAGMA journal_mode", "PRAGMA journal_mode = WAL", "PRAGMA optimize",
		"PRAGMA incremental_vacuum", "PRAGMA wal_checkpoint", "PRAGMA auto_vacuum = 1", "PRAGMA encoding = 'UTF-16'",
		"SELECT * FROM pragma_table_info('counters')", "SELECT * FROM pragma_user_version", "ANALYZE", "REINDEX", "VACUUM",
		"CREATE TABLE x (v)", "CREATE TEMP TABLE x (v)", "DROP VIEW v", "ALTER TABLE counters ADD w", "ATTACH ':memory:' AS o",
	} {
		kind := sqltext.Classify(sqltext.SQLite, query).Kind
		must(t, conn.Raw(func(driverConn any) error {
			return driverConn.(RawConn).Raw(func(inner any) error {
				stmt, err := inner.(*sqlite3.SQLiteConn).Prepare(query)
				if err != nil {
					return fmt.Errorf("%s: %w", query, err)
				}
				defer stmt.Close()
				if kind == sqltext.Read && !stmt.(*sqlite3.SQLiteStmt).Readonly() {
					t.Errorf("%s is taken for a read, and SQLite says that it writes", query)
				}
				return nil
			})
		}))
	}
}

// TestFirstReadsAreNotRefused, although the journal mode has still to be learnt and
// nobody is to wait for a lock.
func TestFirstReadsAreNotRefused(t *testing.T) {
	testdb.NoLeaks(t)
	for _, mode := range []string{"WAL", "DELETE"} {
		path := testdb.SQLite(t)
		bareSQLite(t, path, "PRAGMA journal_mode = "+mode, "CREATE TABLE t (v)", "INSERT INTO t VALUES (1)")
		for range 20 {
			db := openSQLite(t, "dblocker", "sqlite3?lock_timeout=0:"+path)
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					if err := db.QueryRowContext(asUser(1), "SELECT v FROM t").Scan(new(int)); err != nil {
						t.Errorf("%s: %v", mode, err)
					}
				})
			}
			wg.Wait()
			must(t, db.Close())
		}
	}
}

// TestFailedRowsMakeWay: rows whose context ends while they are read into memory give up SQLite's
// lock before the gate.
func TestFailedRowsMakeWay(t *testing.T) {
	for _, journal := range []string{"DELETE", "WAL"} {
		db := openJournal(t, journal, "")
		client, err := connectorIn(t, db).Connect(context.Background())
		must(t, err)
		defer client.Close()
		ctx, cancel := context.WithCancel(asUser(1))
		defer cancel()
		r, err := client.(driver.QueryerContext).QueryContext(ctx, "SELECT n FROM counters", nil)
		must(t, err)
		must(t, r.Next(make([]driver.Value, 1)))
		cancel()
		r.(interface{ Yield() }).Yield()
		_, err = db.ExecContext(asUser(1), "UPDATE counters SET n = 2")
		must(t, err)
		must(t, r.Close())
	}
}
