package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// testedEngines are the databases that the contract is tested on. dsn makes a new one
// and returns its driver and DSN.
var testedEngines = []struct {
	name string
	dsn  func(t testing.TB) (driver, dsn string)
}{
	{"sqlite", func(t testing.TB) (string, string) { return "sqlite3", testdb.SQLite(t) }},
	{"postgres", func(t testing.TB) (string, string) {
		return "postgres", testdb.Postgres(t).NewDatabase(t).URL()
	}},
	{"mysql", func(t testing.TB) (string, string) { return "mysql", testdb.MySQL(t).NewDatabase(t).DSN() }},
}

// onEngines runs a test on each engine, on a table counters with a row for each
// user. options are those of a DSN.
func onEngines(t *testing.T, options string, test func(t *testing.T, db *sql.DB, c *Connector)) {
	for _, e := range testedEngines {
		t.Run(e.name, func(t *testing.T) {
			testdb.NoLeaks(t)
			driver, dsn := e.dsn(t)
			c, err := (&Driver{}).OpenConnector(driver + "?" + options + ":" + dsn)
			must(t, err)
			db := sql.OpenDB(c)
			t.Cleanup(func() {
				must(t, db.Close())
				if left := holdsOf(t, c); len(left) > 0 {
					t.Errorf("locks left when the test ended: %v", left)
				}
			})
			for _, query := range []string{
				"CREATE TABLE counters (id VARCHAR(20) PRIMARY KEY, n BIGINT NOT NULL)",
				"INSERT INTO counters VALUES ('1', 0), ('2', 0)",
			} {
				_, err := db.Exec(query)
				must(t, err)
			}
			test(t, db, c.(*Connector))
		})
	}
}

// TestNoConnectionForWaiters is TestWaitersHoldNoConnection on real servers: at
// most four connections are ever open.
func TestNoConnectionForWaiters(t *testing.T) {
	const waiters = 500
	onEngines(t, "max_open_conns=4&lock_timeout=10m", func(t *testing.T, db *sql.DB, c *Connector) {
		tx, err := db.BeginTx(asUser(1), nil)
		must(t, err)
		errs := make(chan error, waiters)
		for range waiters {
			go func() {
				_, err := db.ExecContext(asUser(1), "UPDATE counters SET n = n + 1 WHERE id = '1'")
				errs <- err
			}()
		}
		waitFor(t, func() bool { return len(holdsOf(t, c)) == waiters+1 })
		if n := statsOf(t, c).OpenConnections; n > 4 {
			t.Errorf("%d waiters have %d server connections open", waiters, n)
		}
		for range 20 {
			var n int
			must(t, db.QueryRowContext(asUser(2), "SELECT n FROM counters WHERE id = '2'").Scan(&n))
		}
		must(t, tx.Commit())
		for range waiters {
			must(t, <-errs)
			if n := statsOf(t, c).OpenConnections; n > 4 {
				t.Errorf("%d server connections open, want 4 at most", n)
			}
		}
		var n int
		must(t, db.QueryRowContext(asUser(1), "SELECT n FROM counters WHERE id = '1'").Scan(&n))
		if n != waiters {
			t.Errorf("%d of %d updates were kept", n, waiters)
		}
	})
}

// waitFor polls a condition that is about to become true.
func waitFor(t testing.TB, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited 30 seconds in vain")
		}
	}
}

// TestNoLostUpdates has requests of one user read a number in a transaction and
// write it back increased. On the bare drivers PostgreSQL and MariaDB lose most.
func TestNoLostUpdates(t *testing.T) {
	const workers, rounds = 8, 25
	onEngines(t, "", func(t *testing.T, db *sql.DB, c *Connector) {
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range rounds {
					if err := increment(asUser(1), db, "1"); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		var n int
		must(t, db.QueryRow("SELECT n FROM counters WHERE id = '1'").Scan(&n))
		if n != workers*rounds {
			t.Errorf("%d of %d updates were kept", n, workers*rounds)
		}
	})
}

func increment(ctx context.Context, db *sql.DB, id string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT n FROM counters WHERE id = '"+id+"'").Scan(&n); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, update(n+1, id)); err != nil {
		return err
	}
	return tx.Commit()
}

// update is written without placeholders, which differ between the engines.
func update(n int, id string) string {
	return fmt.Sprintf("UPDATE counters SET n = %d WHERE id = '%s'", n, id)
}

// TestReturningIsExclusive: a Query that writes waits for the readers of its user. When it
// returns its lock is free, unless the program has asked for it by WithMode.
func TestReturningIsExclusive(t *testing.T) {
	onEngines(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, c *Connector) {
		insert := func(ctx context.Context, id string) (*sql.Rows, error) {
			return db.QueryContext(ctx, "INSERT INTO counters (id, n) VALUES ('"+id+"', 0) RETURNING n")
		}
		_, unlock := beginTest(t, RLock, asUser(3), db)
		if _, err := insert(asUser(3), "3"); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("INSERT ... RETURNING beside a reader: got %v, want ErrLockTimeout", err)
		}
		unlock()
		rows, err := insert(asUser(3), "3")
		must(t, err)
		waitFor(t, func() bool { return heldBy(t, c, "3") == 0 }) // no later than the rows have come
		must(t, db.QueryRowContext(asUser(3), "SELECT n FROM counters WHERE id = '3'").Scan(new(int)))
		must(t, rows.Close())
		rows, err = insert(WithMode(asUser(3), Exclusive), "4")
		must(t, err)
		if err := db.QueryRowContext(asUser(3), "SELECT n FROM counters").Scan(new(int)); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("a reader beside open rows with WithMode(Exclusive): got %v, want ErrLockTimeout", err)
		}
		must(t, rows.Close())
		must(t, db.QueryRowContext(asUser(3), "SELECT n FROM counters WHERE id = '4'").Scan(new(int)))
	})
}

// TestReadOnlyTransactionsRunTogether, and refuse to write on every engine.
func TestReadOnlyTransactionsRunTogether(t *testing.T) {
	onEngines(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, c *Connector) {
		readOnly := &sql.TxOptions{ReadOnly: true}
		a, err := db.BeginTx(asUser(1), readOnly)
		must(t, err)
		b, err := db.BeginTx(asUser(1), readOnly)
		must(t, err)
		for _, tx := range []*sql.Tx{a, b} {
			must(t, tx.QueryRow("SELECT n FROM counters WHERE id = '1'").Scan(new(int)))
		}
		if _, err := a.Exec(update(1, "1")); err == nil {
			t.Error("a read-only transaction wrote")
		}
		must(t, a.Rollback())
		must(t, b.Commit())
	})
}

// TestPinnedSession: what is set on a sql.Conn stays while others work.
func TestPinnedSession(t *testing.T) {
	onEngines(t, "", func(t *testing.T, db *sql.DB, c *Connector) {
		ctx := asUser(1)
		conn, err := db.Conn(ctx)
		must(t, err)
		_, err = conn.ExecContext(ctx, "CREATE TEMPORARY TABLE session_only (v INTEGER)")
		must(t, err)
		for range 5 {
			_, err = db.ExecContext(ctx, update(1, "1"))
			must(t, err)
			_, err = conn.ExecContext(ctx, "INSERT INTO session_only VALUES (1)")
			must(t, err)
		}
		var n int
		must(t, conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM session_only").Scan(&n))
		if n != 5 {
			t.Errorf("the session has %d of its 5 rows", n)
		}
		must(t, conn.Close())
	})
}
