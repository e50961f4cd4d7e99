package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
)

// A rawStep runs on a sql.Conn of user 1; locked says whether the user's lock is
// held exclusively afterwards.
type rawStep struct {
	query  string
	locked bool
}

// TestRawTransactions writes transactions in SQL and looks after each statement
// whether the user is locked out.
func TestRawTransactions(t *testing.T) {
	begin := []rawStep{{"BEGIN", true}, {"UPDATE counters SET n = 1", true}, {"SELECT n FROM counters", true}, {"COMMIT", false}, {"UPDATE counters SET n = 2", false}}
	rollback := []rawStep{{"BEGIN", true}, {"UPDATE counters SET n = 3", true}, {"ROLLBACK", false}}
	savepoints := []rawStep{
		{"BEGIN", true}, {"SAVEPOINT a", true}, {"UPDATE counters SET n = 4", true}, {"ROLLBACK TO a", true},
		{"RELEASE SAVEPOINT a", true}, {"COMMIT", false},
	}
	failing := []rawStep{{"BEGIN", true}, {"nonsense", true}, {"ROLLBACK", false}}
	chain := []rawStep{{"BEGIN", true}, {"COMMIT AND CHAIN", true}, {"COMMIT", false}}
	common := [][]rawStep{begin, rollback, savepoints, failing}
	scripts := map[string][][]rawStep{
		"sqlite": append(common,
			[]rawStep{{"BEGIN IMMEDIATE", true}, {"END", false}},
			[]rawStep{{"SAVEPOINT a", true}, {"SAVEPOINT b", true}, {"RELEASE b", true}, {"RELEASE a", false}},
			[]rawStep{{"BEGIN; UPDATE counters SET n = 5; COMMIT", false}},
			[]rawStep{{"BEGIN; UPDATE counters SET n = 6", true}, {"COMMIT", false}},
			[]rawStep{{"BEGIN", true}, {"INSERT OR ROLLBACK INTO counters VALUES ('1', 0)", false}},
		),
		"postgres": append(common, chain,
			[]rawStep{{"START TRANSACTION ISOLATION LEVEL SERIALIZABLE", true}, {"END", false}},
			[]rawStep{{"SAVEPOINT a", false}},
			[]rawStep{{"BEGIN; UPDATE counters SET n = 5; COMMIT", false}},
			[]rawStep{{"BEGIN; UPDATE counters SET n = 5", true}, {"nonsense", true}, {"COMMIT", false}},
			[]rawStep{{"SET a.b = 'c'; BEGIN", true}, {"COMMIT; BEGIN", true}, {"END; SELECT 1", false}},
			[]rawStep{{"BEGIN", true}, {"PREPARE TRANSACTION 'nonsense'", false}}, // it is turned off, so the server rolls back
		),
		"mysql": append(common, chain,
			[]rawStep{{"START TRANSACTION", true}, {"COMMIT WORK", false}},
			[]rawStep{{"SAVEPOINT a", false}},
			[]rawStep{{"BEGIN", true}, {"CREATE TABLE IF NOT EXISTS other (n INTEGER)", false}, {"COMMIT", false}}, // commits
			[]rawStep{{"SET autocommit = 0", true}, {"UPDATE counters SET n = 7", true}, {"COMMIT", true}, {"SET autocommit = 1", false}},
			[]rawStep{{"SET @@autocommit = 0", true}, {"nonsense", true}, {"SET @@autocommit = 1", false}},
			[]rawStep{{"LOCK TABLES counters WRITE", true}, {"UPDATE counters SET n = 8", true}, {"UNLOCK TABLES", false}},
			[]rawStep{{"LOCK TABLES counters WRITE", true}, {"START TRANSACTION", true}, {"COMMIT", false}},
		),
	}
	onEngines(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, c *Connector) {
		ctx := asUser(1)
		locked := func() bool {
			tx, err := db.BeginTx(asUser(1), &sql.TxOptions{ReadOnly: true}) // as another request
			if err == nil {
				must(t, tx.Rollback())
			} else if !errors.Is(err, ErrLockTimeout) {
				t.Fatal(err)
			}
			return err != nil
		}
		for _, script := range scripts[c.engine.Name] {
			conn, err := db.Conn(ctx)
			must(t, err)
			for _, step := range script {
				_, err := conn.ExecContext(ctx, step.query)
				if err != nil && !strings.Contains(step.query, "nonsense") && !strings.Contains(step.query, "OR ROLLBACK") && step.query != "SAVEPOINT a" {
					t.Errorf("%s: %v", step.query, err)
				}
				if got := locked(); got != step.locked {
					t.Errorf("after %q of %v: locked %v, want %v", step.query, script, got, step.locked)
				}
			}
			must(t, conn.Close())
			if locked() {
				t.Errorf("still locked after %v and the return of the connection", script)
			}
		}
	})
}

// TestRawTransactionByQuery: the statement counts, not the method.
func TestRawTransactionByQuery(t *testing.T) {
	onEngines(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, _ *Connector) {
		ctx := asUser(1)
		conn, err := db.Conn(ctx)
		must(t, err)
		run := func(query string) {
			rows, err := conn.QueryContext(ctx, query)
			must(t, err)
			for rows.Next() {
			}
			must(t, rows.Close())
		}
		run("BEGIN")
		if _, err := db.ExecContext(asUser(1), "UPDATE counters SET n = 1"); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("beside the transaction: got %v, want ErrLockTimeout", err)
		}
		run("COMMIT")
		_, err = db.ExecContext(ctx, "UPDATE counters SET n = 1")
		must(t, err)
		must(t, conn.Close())
	})
}

// TestRawTransactionReturnedToThePool goes on, with its lock, for whoever gets the
// connection next, as on the bare driver; a warning tells.
func TestRawTransactionReturnedToThePool(t *testing.T) {
	onEngines(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, c *Connector) {
		var log strings.Builder
		c.logger = textLogger(&log)
		ctx := asUser(1)
		for _, query := range []string{"BEGIN", "UPDATE counters SET n = 1"} {
			_, err := db.ExecContext(ctx, query)
			must(t, err)
		}
		if !strings.Contains(log.String(), "inside a transaction") {
			t.Errorf("no warning: %q", log.String())
		}
		if n := len(holdsOf(t, c)); n != 1 {
			t.Errorf("%d locks are held inside the transaction, want 1", n)
		}
		_, err := db.ExecContext(ctx, "ROLLBACK")
		must(t, err)
		if left := holdsOf(t, c); len(left) != 0 {
			t.Errorf("locks are left after it: %v", left)
		}
		var n int
		must(t, db.QueryRow("SELECT MAX(n) FROM counters").Scan(&n))
		if n != 0 {
			t.Errorf("the transaction was not rolled back: n is %d", n)
		}
	})
}

// TestUserJoinsRawTransaction as one that was begun with BeginTx.
func TestUserJoinsRawTransaction(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0), Dialect("postgres"))
	conn, err := db.Conn(context.Background())
	must(t, err)
	_, err = conn.ExecContext(context.Background(), "BEGIN")
	must(t, err)
	_, err = conn.ExecContext(asUser(1), "UPDATE t SET v = 1")
	must(t, err)
	if _, err := db.ExecContext(asUser(1), "UPDATE t SET v = 1"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("beside the transaction that the user joined: got %v, want ErrLockTimeout", err)
	}
	_, err = conn.ExecContext(context.Background(), "COMMIT")
	must(t, err)
	_, err = db.ExecContext(asUser(1), "UPDATE t SET v = 1")
	must(t, err)
	must(t, conn.Close())
}

// TestTransactionInsideTransaction: MySQL ends the first when it begins the second;
// the locks nest. Neither the user that the first was begun for nor one that joined
// it waits for itself.
func TestTransactionInsideTransaction(t *testing.T) {
	for _, outer := range []context.Context{asUser(1), context.Background()} {
		ctx := asUser(1)
		db := openStub(t, &stub{}, SelfWait(0), Dialect("mysql"))
		conn, err := db.Conn(outer)
		must(t, err)
		_, err = conn.ExecContext(outer, "BEGIN")
		must(t, err)
		_, err = conn.ExecContext(ctx, "UPDATE t SET v = 1")
		must(t, err)
		tx, err := conn.BeginTx(ctx, nil)
		must(t, err)
		_, err = tx.ExecContext(ctx, "UPDATE t SET v = 1")
		must(t, err)
		must(t, tx.Commit())
		_, err = conn.ExecContext(ctx, "COMMIT")
		must(t, err)
		must(t, conn.Close())
	}
}

// TestUnclearStatementBesideTx: what may begin a transaction, for all that its text
// tells, is still a single statement that its owner runs beside its own Tx.
func TestUnclearStatementBesideTx(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0), SelfWait(0), Dialect("mysql"))
	ctx := asUser(1)
	tx, err := db.BeginTx(ctx, nil)
	must(t, err)
	for _, query := range []string{"CALL p()", `INSERT INTO t VALUES ('it\'s')`} {
		_, err = db.ExecContext(ctx, query)
		must(t, err)
		rows, err := db.QueryContext(ctx, query)
		must(t, err)
		must(t, rows.Close())
	}
	must(t, tx.Commit())
}

// TestForgottenTransaction: who draws the connection of another user's transaction
// from the pool still has a lock of their own.
func TestForgottenTransaction(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0), Dialect("postgres"))
	_, err := db.ExecContext(asUser(1), "BEGIN")
	must(t, err)
	tx, err := db.BeginTx(asUser(2), nil) // on that connection
	must(t, err)
	if _, err := db.ExecContext(asUser(2), "UPDATE t SET v = 1"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("beside the other user's Tx: got %v, want ErrLockTimeout", err)
	}
	must(t, tx.Commit())
	_, err = db.ExecContext(asUser(2), "ROLLBACK")
	must(t, err)
}

// TestSavepointsByText is for drivers that do not tell whether they are in autocommit:
// whatever becomes of the savepoints, nothing is locked once the connection is back.
func TestSavepointsByText(t *testing.T) {
	for _, script := range [][]string{
		{"SAVEPOINT a", "SAVEPOINT b", "ROLLBACK TO b", "RELEASE a"},
		{"SAVEPOINT a", "RELEASE a"},
		{"SAVEPOINT a", "SAVEPOINT b", "RELEASE b", "RELEASE a"},
		{"BEGIN", "SAVEPOINT a", "RELEASE a", "COMMIT"},
	} {
		db := openStub(t, &stub{}, LockTimeout(0), Dialect("sqlite"))
		conn, err := db.Conn(t.Context())
		must(t, err)
		for i, query := range script {
			_, err := conn.ExecContext(asUser(1), query)
			must(t, err)
			if i == len(script)-1 {
				continue
			}
			if _, err := db.ExecContext(asUser(1), "DELETE FROM t"); !errors.Is(err, ErrLockTimeout) {
				t.Errorf("after %s of %v: got %v, want ErrLockTimeout", query, script, err)
			}
		}
		must(t, conn.Close())
		if _, err := db.ExecContext(asUser(1), "DELETE FROM t"); err != nil {
			t.Errorf("after %v: %v", script, err)
		}
	}
}

// TestTxEndsTransactionItBeganIn, on engines where BEGIN inside one ends it.
func TestTxEndsTransactionItBeganIn(t *testing.T) {
	db := openStub(t, &stub{}, LockTimeout(0), Dialect("mysql"))
	conn, err := db.Conn(t.Context())
	must(t, err)
	_, err = conn.ExecContext(asUser(1), "BEGIN")
	must(t, err)
	tx, err := conn.BeginTx(asUser(1), nil)
	must(t, err)
	must(t, tx.Commit())
	_, err = db.ExecContext(asUser(1), "DELETE FROM t")
	must(t, err)
	must(t, conn.Close())
}

// TestRawTransactionEndsWithItsSection: it is rolled back, and lock and server connection are
// free at once. Who began it hears of that until he ends it, nobody else does.
func TestRawTransactionEndsWithItsSection(t *testing.T) {
	onEngines(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, c *Connector) {
		isGone := func(doing string) {
			t.Helper()
			if n := statsOf(t, c).InUse; n != 0 || !isFree(t, db, 1) {
				t.Errorf("%s: %d server connections are out, the lock is free: %v", doing, n, isFree(t, db, 1))
			}
			var n int
			must(t, db.QueryRow("SELECT n FROM counters WHERE id = '1'").Scan(&n))
			if n != 0 {
				t.Errorf("%s: the transaction was committed", doing)
			}
		}
		for _, end := range []string{"ROLLBACK", "COMMIT"} {
			ctx, unlock := beginTest(t, Lock, asUser(1), db)
			conn, err := db.Conn(ctx)
			must(t, err)
			for _, query := range []string{"BEGIN", "UPDATE counters SET n = 1"} {
				_, err := conn.ExecContext(ctx, query)
				must(t, err)
			}
			unlock()
			isGone("unlock")
			for i, query := range []string{"UPDATE counters SET n = 2", "UPDATE counters SET n = 2", end} {
				if _, err := conn.ExecContext([]context.Context{ctx, asUser(1), ctx}[i], query); !errors.Is(err, ErrReleased) {
					t.Errorf("%s in what has ended with its section: %v", query, err)
				}
			}
			must(t, conn.QueryRowContext(asUser(1), "SELECT n FROM counters WHERE id = '1'").Scan(new(int)))
			must(t, conn.Close())
			isGone(end)
		}

		ctx, unlock := beginTest(t, Lock, asUser(1), db)
		_, err := db.ExecContext(ctx, "BEGIN") // on a connection of the pool, which keeps it
		must(t, err)
		unlock()
		isGone("unlock of what the pool has")
		for range 3 {
			must(t, db.QueryRowContext(asUser(2), "SELECT n FROM counters WHERE id = '1'").Scan(new(int)))
		}
	})
}

// TestRowsThatBegin: while rows are open the driver does not know yet whether the statement has begun
// a transaction; the lock lasts until that has ended all the same.
func TestRowsThatBegin(t *testing.T) {
	texts := map[string][2]string{
		"sqlite":   {"BEGIN; SELECT 1", "BEGIN; SELECT 1; COMMIT"},
		"postgres": {"BEGIN; SELECT 1", "BEGIN; SELECT 1; COMMIT"},
		"mysql":    {"CALL begins()", "CALL ends()"},
	}
	onEngines(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, c *Connector) {
		if c.engine.Name == "mysql" {
			for _, text := range []string{
				"CREATE PROCEDURE begins() BEGIN START TRANSACTION; SELECT 1; END", "CREATE PROCEDURE ends() BEGIN START TRANSACTION; SELECT 1; COMMIT; END",
			} {
				_, err := db.Exec(text)
				must(t, err)
			}
		}
		ctx := asUser(1)
		conn, err := db.Conn(ctx)
		must(t, err)
		defer conn.Close()
		rows, err := conn.QueryContext(ctx, texts[c.engine.Name][0])
		must(t, closeRows(rows, err))
		if _, err := db.ExecContext(asUser(1), "UPDATE counters SET n = 1"); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("beside the transaction: got %v, want ErrLockTimeout", err)
		}
		_, err = conn.ExecContext(ctx, "COMMIT")
		must(t, err)
		_, err = db.ExecContext(asUser(1), "UPDATE counters SET n = 1")
		must(t, err)
		rows, err = conn.QueryContext(ctx, texts[c.engine.Name][1])
		must(t, closeRows(rows, err))
		_, err = db.ExecContext(asUser(1), "UPDATE counters SET n = 1")
		must(t, err)
	})
}
