package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// writesUnseen is a SQLite driver with a function that writes, of which no text tells.
const writesUnseen = "sqlite3-writing-function"

func init() {
	sql.Register(writesUnseen, &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
		return c.RegisterFunc("writing", func() (int, error) {
			_, err := c.Exec("UPDATE counters SET n = n + 1", nil)
			return 1, err
		}, false)
	}})
}

// A beginning is a way to begin a transaction that may only read.
type beginning struct {
	name  string
	begin func(ctx context.Context, db *sql.DB) (transactionTester, error)
}

// A transactionTester is an open transaction.
type transactionTester interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	Rollback() error
}

func beginSQL(text string) beginning {
	return beginning{text, func(ctx context.Context, db *sql.DB) (transactionTester, error) {
		conn, err := db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := conn.ExecContext(ctx, text); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return rawTester{conn, ctx}, nil
	}}
}

func beginTx(name string, opts *sql.TxOptions) beginning {
	return beginning{name, func(ctx context.Context, db *sql.DB) (transactionTester, error) { return db.BeginTx(ctx, opts) }}
}

type rawTester struct {
	*sql.Conn
	ctx context.Context
}

func (r rawTester) Rollback() error {
	_, err := r.ExecContext(r.ctx, "ROLLBACK")
	return errors.Join(err, r.Close())
}

// sharedSections are the ways into one of user 1.
var sharedSections = map[string]func(db *sql.DB) (context.Context, func(), error){
	"RLock":  func(db *sql.DB) (context.Context, func(), error) { return RLock(asUser(1), db) },
	"pinned": func(db *sql.DB) (context.Context, func(), error) { return RLock(asUser(1), db, Pin()) },
	"nested": func(db *sql.DB) (context.Context, func(), error) {
		ctx, unlockOuter, err := RLock(asUser(1), db)
		if err != nil {
			return ctx, unlockOuter, err
		}
		ctx, unlock, err := RLock(ctx, db)
		return ctx, func() { unlock(); unlockOuter() }, err
	},
}

// TestSharedSectionTakesNoWriteLock: what is begun in a shared section passes the gate as a
// reader, so SQLite may not be made to take its write lock there. It can only read, and
// who writes beside it is where he would be beside any reader.
func TestSharedSectionTakesNoWriteLock(t *testing.T) {
	beginnings := []beginning{
		beginTx("BeginTx", nil), beginTx("BeginTx read-only", &sql.TxOptions{ReadOnly: true}),
		beginSQL("BEGIN"), beginSQL("BEGIN DEFERRED TRANSACTION"), beginSQL("SAVEPOINT a"),
	}
	for _, txlock := range []string{"", "&_txlock=immediate"} {
		for _, mode := range []string{"WAL", "DELETE"} {
			path := testdb.SQLite(t)
			bareSQLite(t, path+"?_journal_mode="+mode, "CREATE TABLE counters (n)", "INSERT INTO counters VALUES (0)")
			db := openSQLite(t, "dblocker", writesUnseen+"?lock_timeout=0:file:"+path+"?_busy_timeout=100"+txlock)
			for in, section := range sharedSections {
				for _, b := range beginnings {
					ctx, unlock, err := section(db)
					must(t, err)
					tx, err := b.begin(ctx, db)
					if err != nil {
						t.Fatalf("%s in %s: %v", b.name, in, err)
					}
					must(t, tx.QueryRowContext(ctx, "SELECT n FROM counters").Scan(new(int)))
					if err := tx.QueryRowContext(ctx, "SELECT writing() FROM counters").Scan(new(int)); !errors.Is(err, ErrReadOnly) {
						t.Errorf("%s in %s, %s: a function that writes: got %v, want ErrReadOnly", b.name, in, mode, err)
					}
					_, err = db.ExecContext(asUser(2), "UPDATE counters SET n = 0")
					if mode == "WAL" && err != nil || mode != "WAL" && !errors.Is(err, ErrLockTimeout) {
						t.Errorf("%s in %s, %s: a write of another user beside it: %v", b.name, in, mode, err)
					}
					if err := tx.Rollback(); err != nil && b.name != "SAVEPOINT a" {
						t.Errorf("%s in %s: the end: %v", b.name, in, err)
					}
					unlock()
					mustExec(t, db, "UPDATE counters SET n = 0") // the connection can write again
				}
			}
		}
	}
}

// TestSharedSectionRefusesBeginImmediate, in whatever way it is written, and nothing of it
// comes to SQLite.
func TestSharedSectionRefusesBeginImmediate(t *testing.T) {
	run := map[string]func(ctx context.Context, conn *sql.Conn, text string) error{
		"exec": func(ctx context.Context, conn *sql.Conn, text string) error {
			return errorOf(conn.ExecContext(ctx, text))
		},
		"query": func(ctx context.Context, conn *sql.Conn, text string) error { return queryError(ctx, conn, text) },
		"prepared": func(ctx context.Context, conn *sql.Conn, text string) error {
			stmt, err := conn.PrepareContext(ctx, text)
			if err != nil {
				return err
			}
			return errors.Join(errorOf(stmt.ExecContext(ctx)), stmt.Close())
		},
	}
	onJournals(t, "lock_timeout=0", func(t *testing.T, db *sql.DB, mode string) {
		for in, section := range sharedSections {
			for how, run := range run {
				for _, text := range []string{"BEGIN IMMEDIATE", "begin /* x */ exclusive transaction", "BEGIN IMMEDIATE; SELECT 1", "SELECT 1; BEGIN IMMEDIATE"} {
					if how == "prepared" && text[len(text)-1] == '1' {
						continue // the drivers prepare the first statement only
					}
					ctx, unlock, err := section(db)
					must(t, err)
					conn, err := db.Conn(ctx)
					must(t, err)
					if err := run(ctx, conn, text); !errors.Is(err, ErrReadOnly) {
						t.Errorf("%s by %s in %s: got %v, want ErrReadOnly", text, how, in, err)
					}
					must(t, conn.QueryRowContext(ctx, "SELECT n FROM counters").Scan(new(int)))
					_, err = db.ExecContext(asUser(2), "UPDATE counters SET n = 0")
					must(t, err)
					must(t, conn.Close())
					unlock()
				}
			}
		}
	})
}

func errorOf(_ sql.Result, err error) error { return err }

func queryError(ctx context.Context, conn *sql.Conn, text string) error {
	rows, err := conn.QueryContext(ctx, text)
	if err != nil {
		return err
	}
	return rows.Close()
}

// TestStoreReadsBesideWriters: a transaction on a handle of ReadGetDB reads beside another
// user's RWGetDB.
func TestStoreReadsBesideWriters(t *testing.T) {
	testdb.NoLeaks(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	store, err := New(ctx, "sqlite3", fmt.Sprintf("file:%s?_busy_timeout=100", testdb.SQLite(t)), false)
	must(t, err)
	defer store.Close()
	cancelA, db, err := store.RWGetDB("a", ctx, "make")
	must(t, err)
	mustExec(t, db, "CREATE TABLE t (n)")
	cancelA()
	cancelA, db, err = store.ReadGetDB("a", ctx, "read")
	must(t, err)
	defer cancelA()
	tx, err := db.Beginx()
	must(t, err)
	must(t, tx.Get(new(int), "SELECT COUNT(*) FROM t"))
	cancelB, other, err := store.RWGetDB("b", ctx, "write")
	must(t, err)
	mustExec(t, other, "INSERT INTO t VALUES (1)")
	cancelB()
	if _, err := tx.Exec("INSERT INTO t VALUES (2)"); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a write there: got %v, want ErrReadOnly", err)
	}
	must(t, tx.Rollback())
}
