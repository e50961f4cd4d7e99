package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// pendingTxs begins transactions, of a user and of nobody, that write and that read.
func pendingTxs(t *testing.T, db *sql.DB) map[string]*sql.Tx {
	t.Helper()
	txs := make(map[string]*sql.Tx)
	for name, ctx := range map[string]context.Context{"tagged": asUser("idle"), "untagged": context.Background(), "without an owner": context.WithValue(context.Background(), UserKey, "other")} {
		for _, readOnly := range []bool{false, true} {
			tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: readOnly})
			if err != nil && readOnly && name == "without an owner" {
				continue // behind that user's other transaction
			}
			must(t, err)
			txs[fmt.Sprint(name, ", read-only ", readOnly)] = tx
		}
	}
	return txs
}

// TestIdleTxIsInNobodysWay: a transaction that has done nothing keeps nobody out, whatever the
// journal; and then it does its work as if it had just begun.
func TestIdleTxIsInNobodysWay(t *testing.T) {
	onJournals(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, _ string) {
		txs := pendingTxs(t, db)
		must(t, db.Ping())
		for _, ctx := range []context.Context{context.Background(), asUser(1)} {
			_, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1")
			must(t, err)
			must(t, db.QueryRowContext(ctx, "SELECT n FROM counters").Scan(new(int)))
			other, err := db.BeginTx(ctx, nil)
			must(t, err)
			mustExec(t, other, "UPDATE counters SET n = n + 1")
			must(t, other.Commit())
			stmt, err := db.PrepareContext(ctx, "SELECT n FROM counters")
			must(t, err)
			must(t, stmt.Close())
		}
		for name, tx := range txs {
			if n := txNumber(t, tx); n != 4 {
				t.Errorf("%s: it sees %d updates, want 4", name, n)
			}
			must(t, tx.Rollback())
		}
		for name, tx := range pendingTxs(t, db) { // nothing was ever begun
			if err := tx.Commit(); err != nil {
				t.Errorf("%s: Commit of nothing: %v", name, err)
			}
		}
	})
}

func txNumber(t *testing.T, tx *sql.Tx) (n int) {
	t.Helper()
	must(t, tx.QueryRow("SELECT n FROM counters").Scan(&n))
	return n
}

// TestIdleTxOnTheSameGoroutine: a program that has a transaction open goes on beside it, as on
// the bare driver, tagged or not.
func TestIdleTxOnTheSameGoroutine(t *testing.T) {
	onJournals(t, "max_idle_conns=1", func(t *testing.T, db *sql.DB, _ string) {
		for _, ctx := range []context.Context{context.Background(), asUser(1)} {
			tx, err := db.BeginTx(ctx, nil)
			must(t, err)
			_, err = db.ExecContext(ctx, "UPDATE counters SET n = 7")
			must(t, err)
			rows, err := db.QueryContext(ctx, "SELECT n FROM counters")
			must(t, err)
			rows.Next()
			must(t, rows.Close())
			_, err = tx.ExecContext(ctx, "UPDATE counters SET n = n + 1")
			must(t, err)
			must(t, tx.Commit())
			wantCounter(t, db, 8)
		}
	})
}

// TestFirstStatementBegins, of whatever kind it is: from then on nobody else writes.
func TestFirstStatementBegins(t *testing.T) {
	inRaw := func(conn *sql.Conn, _ *sql.Tx) error {
		return conn.Raw(func(dc any) error {
			return dc.(RawConn).Raw(func(inner any) error {
				if inner.(*sqlite3.SQLiteConn).AutoCommit() {
					return errors.New("the inner connection is in no transaction")
				}
				return nil
			})
		})
	}
	first := map[string]func(conn *sql.Conn, tx *sql.Tx) error{
		"exec":   func(_ *sql.Conn, tx *sql.Tx) error { return execError(tx, "UPDATE counters SET n = n + 1") },
		"read":   func(_ *sql.Conn, tx *sql.Tx) error { return tx.QueryRow("SELECT n FROM counters").Scan(new(int)) },
		"pragma": func(_ *sql.Conn, tx *sql.Tx) error { return tx.QueryRow("PRAGMA user_version").Scan(new(int)) },
		"prepare": func(_ *sql.Conn, tx *sql.Tx) error {
			stmt, err := tx.Prepare("SELECT n FROM counters")
			if err != nil {
				return err
			}
			return stmt.Close()
		},
		"savepoint": func(_ *sql.Conn, tx *sql.Tx) error { return execError(tx, "SAVEPOINT a") },
		"raw":       inRaw,
		"user joins": func(_ *sql.Conn, tx *sql.Tx) error {
			_, err := tx.ExecContext(asUser(5), "UPDATE counters SET n = 1")
			return err
		},
		"join to ask": func(_ *sql.Conn, tx *sql.Tx) error {
			return tx.QueryRowContext(asUser(5), "SELECT n FROM counters").Scan(new(int))
		},
	}
	onJournals(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, _ string) {
		for name, first := range first {
			conn, err := db.Conn(context.Background())
			must(t, err)
			tx, err := conn.BeginTx(context.Background(), nil)
			must(t, err)
			mustExec(t, db, "UPDATE counters SET n = 1")
			if err := first(conn, tx); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := execError(db, "UPDATE counters SET n = 2"); !errors.Is(err, ErrLockTimeout) {
				t.Errorf("%s: a write beside the transaction: got %v, want ErrLockTimeout", name, err)
			}
			must(t, tx.Rollback())
			mustExec(t, db, "UPDATE counters SET n = 0")
			must(t, conn.Close())
		}
	})
}

// TestTxThatCannotBegin answers with the error, and writes nothing; and the next statement
// tries again. The context of the statement counts for the wait, not that of the transaction.
func TestTxThatCannotBegin(t *testing.T) {
	onJournals(t, "", func(t *testing.T, db *sql.DB, _ string) {
		for name, ctx := range map[string]context.Context{"tagged": asUser(1), "untagged": context.Background()} {
			blocker, err := db.Begin()
			must(t, err)
			mustExec(t, blocker, "UPDATE counters SET n = 0")
			tx, err := db.BeginTx(ctx, nil)
			must(t, err)
			short, cancel := context.WithCancel(ctx)
			ended := make(chan error)
			go func() {
				_, err := tx.ExecContext(short, "UPDATE counters SET n = 1")
				ended <- err
			}()
			waitFor(t, func() bool { return waitingAtGates() == 1 })
			cancel()
			var lockErr *LockError
			if err := <-ended; !errors.Is(err, context.Canceled) || !errors.As(err, &lockErr) || !strings.Contains(err.Error(), "gate") {
				t.Errorf("%s: beside another: %v", name, err)
			}
			must(t, blocker.Commit())
			wantCounter(t, db, 0)
			mustExec(t, tx, "UPDATE counters SET n = 2")
			must(t, tx.Rollback())
			wantCounter(t, db, 0)
		}
	})
}

// TestTxIsRefusedByAnotherProcess: what SQLite says to BEGIN is the error of the first statement,
// and of each other until it lets the transaction begin.
func TestTxIsRefusedByAnotherProcess(t *testing.T) {
	testdb.NoLeaks(t)
	path := testdb.SQLite(t)
	db := openSQLite(t, "sqlite3-dblocker", "file:"+path+"?_busy_timeout=0")
	mustExec(t, db, "CREATE TABLE counters (n)")
	mustExec(t, db, "INSERT INTO counters VALUES (0)")
	bare, err := openSQLite(t, "sqlite3", "file:"+path).Conn(context.Background()) // as another process would
	must(t, err)
	defer bare.Close()
	for name, ctx := range map[string]context.Context{"tagged": asUser(1), "untagged": context.Background()} {
		mustExec(t, bare, "BEGIN IMMEDIATE")
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		for range 2 {
			var sqliteErr sqlite3.Error
			if err := execError(tx, "UPDATE counters SET n = 1"); !errors.As(err, &sqliteErr) || sqliteErr.Code != sqlite3.ErrBusy {
				t.Errorf("%s: got %v, want SQLite's own error", name, err)
			}
		}
		mustExec(t, bare, "ROLLBACK")
		mustExec(t, tx, "UPDATE counters SET n = 2")
		must(t, tx.Rollback())
		wantCounter(t, db, 0)
	}
}

// TestIdleTxOfNoFile: a file that cannot be opened is the error of Begin, as on the bare
// driver.
func TestIdleTxOfNoFile(t *testing.T) {
	db := openSQLite(t, "sqlite3-dblocker", "file:"+t.TempDir()+"/none/a.db")
	if tx, err := db.Begin(); err == nil {
		t.Errorf("a transaction on a file that cannot be opened: %v", tx.Rollback())
	}
	if _, err := os.Stat(t.TempDir() + "/none"); err == nil {
		t.Error("it was made")
	}
}

// TestInterruptedFirstStatement: the first statement begins the transaction, and its
// interruption ends that; nothing that follows is written.
func TestInterruptedFirstStatement(t *testing.T) {
	onJournals(t, "", func(t *testing.T, db *sql.DB, mode string) {
		if mode == "OFF" {
			t.Skip("SQLite cannot roll back")
		}
		for name, ctx := range map[string]context.Context{"tagged": asUser(1), "untagged": context.Background()} {
			tx, err := db.BeginTx(ctx, nil)
			must(t, err)
			interrupt(t, tx)
			if err := execError(tx, "UPDATE counters SET n = 200"); !errors.Is(err, ErrRolledBack) {
				t.Errorf("%s: got %v, want ErrRolledBack", name, err)
			}
			if err := tx.Commit(); !errors.Is(err, ErrRolledBack) {
				t.Errorf("%s: Commit: got %v, want ErrRolledBack", name, err)
			}
			wantCounter(t, db, 0)
		}
	})
}

// TestGateAndUserInACircle: who has the gate wants the lock of a user whose idle transaction
// wants the gate, at once or a while ago, directly or by way of a third. All get what they want.
func TestGateAndUserInACircle(t *testing.T) {
	users := map[string]context.Context{"owner": asUser("u"), "no owner": context.WithValue(context.Background(), UserKey, "u")}
	for _, order := range []string{"gate first", "user first", "section"} {
		for name, u := range users {
			for joiner, again := range map[string]context.Context{"owner": asUser("u"), "no owner": context.WithValue(context.Background(), UserKey, "u")} {
				t.Run(order+", "+name+", "+joiner, func(t *testing.T) {
					testdb.NoLeaks(t)
					db := openJournal(t, "WAL", "lock_timeout=1m&self_wait=1m")
					gateAndUserInACircle(t, db, order, u, again)
				})
			}
		}
	}
}

func gateAndUserInACircle(t *testing.T, db *sql.DB, order string, u, again context.Context) {
	start := time.Now()
	hasGate, err := db.Begin()
	must(t, err)
	mustExec(t, hasGate, "UPDATE counters SET n = n + 1")
	idle, err := db.BeginTx(u, nil)
	must(t, err)
	joined, begun := make(chan error, 1), make(chan error, 1)
	join := func() {
		_, err := hasGate.ExecContext(again, "UPDATE counters SET n = n + 1")
		joined <- errors.Join(err, hasGate.Commit())
	}
	begin := func() {
		_, err := idle.ExecContext(u, "UPDATE counters SET n = n + 1")
		begun <- errors.Join(err, idle.Commit())
	}
	switch order {
	case "gate first":
		go begin()
		waitFor(t, func() bool { return waitingAtGates() == 1 })
		go join()
	case "user first":
		go join()
		waitFor(t, func() bool { return waitingFor(t, db) == 1 })
		go begin()
	case "section": // which the one with the gate waits for waits itself
		two := WithUser(context.Background(), 2)
		section, unlock := beginTest(t, Lock, two, db)
		go func() {
			_, err := hasGate.ExecContext(asUser(2), "UPDATE counters SET n = n + 1")
			joined <- errors.Join(err, hasGate.Commit())
		}()
		waitFor(t, func() bool { return waitingFor(t, db) == 1 })
		nested := make(chan error, 1)
		go func() {
			_, unlockNested, err := Lock(WithUser(section, "u"), db)
			unlockNested()
			unlock()
			nested <- err
		}()
		waitFor(t, func() bool { return waitingFor(t, db) == 2 })
		go begin()
		must(t, <-nested)
	}
	must(t, <-joined)
	must(t, <-begun)
	wantCounter(t, db, 3)
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("that took %v", d)
	}
}

func waitingFor(t *testing.T, db *sql.DB) int {
	t.Helper()
	stats, err := Stats(db)
	must(t, err)
	return stats.Waiting
}

// TestGivingWayLosesNoUpdate: a transaction whose owner has read beside it, under its lock, does
// not give that up.
func TestGivingWayLosesNoUpdate(t *testing.T) {
	testdb.NoLeaks(t)
	db := openJournal(t, "WAL", "lock_timeout=1m&self_wait=1m")
	u := asUser("u")
	hasGate, err := db.Begin()
	must(t, err)
	mustExec(t, hasGate, "UPDATE counters SET n = n WHERE id = '2'")
	idle, err := db.BeginTx(u, nil)
	must(t, err)
	var n int
	must(t, db.QueryRowContext(u, "SELECT n FROM counters WHERE id = '1'").Scan(&n))
	joined := make(chan error, 1)
	go func() {
		_, err := hasGate.ExecContext(asUser("u"), "UPDATE counters SET n = n + 1 WHERE id = '1'")
		if err == nil {
			err = hasGate.Commit()
		} else {
			hasGate.Rollback()
		}
		joined <- err
	}()
	waitFor(t, func() bool { return waitingFor(t, db) == 1 })
	_, err = idle.ExecContext(u, "UPDATE counters SET n = ? WHERE id = '1'", n+1)
	if err == nil {
		err = idle.Commit()
	} else {
		idle.Rollback()
	}
	updates := 0
	for _, err := range []error{err, <-joined} {
		if err == nil {
			updates++
		} else if !errors.Is(err, ErrDeadlock) {
			t.Errorf("got %v, want ErrDeadlock", err)
		}
	}
	must(t, db.QueryRow("SELECT n FROM counters WHERE id = '1'").Scan(&n))
	if n != updates {
		t.Errorf("%d updates were acknowledged, and %d are there", updates, n)
	}
}

// TestIdleTxKeepsNoConnection from those who have the gate and wait for one.
func TestIdleTxKeepsNoConnection(t *testing.T) {
	testdb.NoLeaks(t)
	db := openJournal(t, "WAL", "max_open_conns=2&lock_timeout=1m")
	for _, ctx := range []context.Context{context.Background(), asUser(1)} {
		one, err := db.BeginTx(ctx, nil)
		must(t, err)
		two, err := db.Begin()
		must(t, err)
		done := make(chan error, 1)
		go func() { done <- execError(db, "UPDATE counters SET n = n + 1") }()
		waitFor(t, func() bool {
			stats, err := Stats(db)
			must(t, err)
			return stats.Server.InUse == 2 && waitingForConns(t, db) == 1
		})
		mustExec(t, one, "UPDATE counters SET n = n + 1")
		must(t, one.Commit())
		must(t, <-done)
		must(t, two.Commit())
	}
	wantCounter(t, db, 4)
}

func waitingForConns(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	_, b, err := backendOf(db)
	must(t, err)
	defer b.Release()
	for _, i := range b.Servers.Slots.Snapshot() {
		if i.Waiting {
			n++
		}
	}
	return n
}

// TestIdleTxEndsWithItsSection, and its connection lives on.
func TestIdleTxEndsWithItsSection(t *testing.T) {
	onJournals(t, "", func(t *testing.T, db *sql.DB, _ string) {
		for name, options := range map[string][]SectionOption{"plain": nil, "pinned": {Pin()}} {
			ctx, unlock, err := Lock(asUser(1), db, options...)
			must(t, err)
			tx, err := db.BeginTx(ctx, nil)
			must(t, err)
			unlock()
			if err := execError(tx, "UPDATE counters SET n = 5"); !errors.Is(err, ErrReleased) && !errors.Is(err, sql.ErrTxDone) && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: a statement after the section: %v", name, err)
			}
			tx.Rollback()
			wantCounter(t, db, 0)
		}
	})
}

// TestIdleTxOfAPinnedSection begins with a statement of whoever uses the connection.
func TestIdleTxOfAPinnedSection(t *testing.T) {
	onJournals(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, _ string) {
		ctx, unlock, err := Lock(asUser(1), db, Pin())
		must(t, err)
		defer unlock()
		for _, first := range []string{"UPDATE counters SET n = 5", "SELECT n FROM counters"} {
			tx, err := db.BeginTx(ctx, nil)
			must(t, err)
			mustExec(t, db, "UPDATE counters SET n = 0")
			_, err = db.ExecContext(ctx, first)
			must(t, err)
			_, err = db.ExecContext(ctx, "UPDATE counters SET n = 6")
			must(t, err)
			if err := execError(db, "UPDATE counters SET n = 7"); !errors.Is(err, ErrLockTimeout) {
				t.Errorf("%s: a write beside it: got %v, want ErrLockTimeout", first, err)
			}
			must(t, tx.Rollback())
			wantCounter(t, db, 0)
		}
	})
}
