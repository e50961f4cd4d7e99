package dblocker_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/calmdocs/dblocker"
)

// tenantDB opens a handle with a file for each user, in a directory of the test. Options stand in front of the colon.
func tenantDB(t *testing.T, opts string) (db *sql.DB, dir string) {
	t.Helper()
	dir = t.TempDir()
	db, err := sql.Open("dblocker", "sqlite3"+opts+":"+filepath.Join(dir, "{user}.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db, dir
}

func as(t *testing.T, user string) context.Context { return dblocker.WithUser(t.Context(), user) }

// noted makes the table notes for a user, with one note that names him.
func noted(t *testing.T, db *sql.DB, user string) {
	t.Helper()
	for _, q := range []string{"CREATE TABLE IF NOT EXISTS notes (n TEXT)", "INSERT INTO notes VALUES ('" + user + "')"} {
		if _, err := db.ExecContext(as(t, user), q); err != nil {
			t.Fatal(err)
		}
	}
}

func note(t *testing.T, q interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, ctx context.Context) string {
	t.Helper()
	var n string
	if err := q.QueryRowContext(ctx, "SELECT group_concat(n) FROM notes").Scan(&n); err != nil {
		t.Errorf("%v", err)
	}
	return n
}

// TestEachUserHasAFile: statements, transactions, connections, prepared statements and sections are on the database of their user.
func TestEachUserHasAFile(t *testing.T) {
	db, dir := tenantDB(t, "")
	for _, user := range []string{"ann", "bob"} {
		noted(t, db, user)
	}
	if files, _ := os.ReadDir(dir); len(files) == 0 || !strings.HasPrefix(files[0].Name(), "uann.db") {
		t.Errorf("the files are %v", files)
	}
	stmt, err := db.PrepareContext(t.Context(), "SELECT n FROM notes")
	if err != nil {
		t.Fatal(err)
	}
	defer stmt.Close()
	for _, user := range []string{"ann", "bob", "ann"} {
		ctx := as(t, user)
		if n := note(t, db, ctx); n != user {
			t.Errorf("Query of %s: %s", user, n)
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := note(t, tx, t.Context()); n != user {
			t.Errorf("Tx of %s: %s", user, n)
		}
		tx.Rollback()
		conn, err := db.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n := note(t, conn, ctx); n != user {
			t.Errorf("Conn of %s: %s", user, n)
		}
		conn.Close()
		var n string
		if err := stmt.QueryRowContext(ctx).Scan(&n); err != nil || n != user {
			t.Errorf("Stmt of %s: %s, %v", user, n, err)
		}
		err = dblocker.Do(ctx, db, func(ctx context.Context) error {
			if n := note(t, db, ctx); n != user {
				t.Errorf("section of %s: %s", user, n)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestAnotherUserInATx is an error in words; in a section he has his own database.
func TestAnotherUserInATx(t *testing.T) {
	db, _ := tenantDB(t, "")
	noted(t, db, "ann")
	noted(t, db, "bob")
	tx, err := db.BeginTx(as(t, "ann"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(as(t, "bob"), "DELETE FROM notes"); err == nil || !strings.Contains(err.Error(), "another database") {
		t.Errorf("another user in a Tx: %v", err)
	}
	if n := note(t, tx, as(t, "ann")); n != "ann" {
		t.Errorf("the Tx is of no use any more: %s", n)
	}
	tx.Rollback()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	note(t, conn, as(t, "ann"))
	if _, err := conn.ExecContext(as(t, "bob"), "DELETE FROM notes"); err == nil || !strings.Contains(err.Error(), "another database") {
		t.Errorf("another user on a Conn: %v", err)
	}
	err = dblocker.Do(as(t, "ann"), db, func(ctx context.Context) error {
		bob := dblocker.WithUser(ctx, "bob")
		if n := note(t, db, bob); n != "bob" {
			t.Errorf("in a section of ann: %s", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestNobodysStatements: only Ping, and a SELECT without FROM.
func TestNobodysStatements(t *testing.T) {
	db, dir := tenantDB(t, "?untagged=pass")
	ctx := t.Context()
	if err := db.PingContext(ctx); err != nil {
		t.Error(err)
	}
	var version string
	if err := db.QueryRowContext(ctx, "select sqlite_version()").Scan(&version); err != nil || version == "" {
		t.Errorf("%q, %v", version, err)
	}
	for _, q := range []string{"CREATE TABLE t (n)", "SELECT * FROM sqlite_master", "PRAGMA journal_mode", "VACUUM"} {
		if _, err := db.ExecContext(ctx, q); !errors.Is(err, dblocker.ErrNoUser) {
			t.Errorf("%s: %v", q, err)
		}
	}
	if _, err := db.BeginTx(ctx, nil); !errors.Is(err, dblocker.ErrNoUser) {
		t.Errorf("BeginTx: %v", err)
	}
	if _, err := db.BeginTx(dblocker.WithoutUser(ctx), nil); !errors.Is(err, dblocker.ErrNoUser) {
		t.Errorf("BeginTx: %v", err)
	}
	if files, _ := os.ReadDir(dir); len(files) > 0 {
		t.Errorf("there are files: %v", files)
	}
}

// TestUsersOfManyFilesHaveOneLockTable: LockUsers and LockAll are for all of them, open or not.
func TestUsersOfManyFilesHaveOneLockTable(t *testing.T) {
	db, _ := tenantDB(t, "?lock_timeout=50ms")
	noted(t, db, "ann")
	ctx, unlock, err := dblocker.LockAll(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"ann", "carl"} {
		if _, err := db.ExecContext(as(t, user), "CREATE TABLE IF NOT EXISTS notes (n)"); !errors.Is(err, dblocker.ErrLockTimeout) {
			t.Errorf("%s beside LockAll: %v", user, err)
		}
		if _, err := db.ExecContext(dblocker.WithUser(ctx, user), "CREATE TABLE IF NOT EXISTS notes (n)"); err != nil {
			t.Errorf("%s inside LockAll: %v", user, err)
		}
	}
	unlock()
	ctx, unlock, err = dblocker.LockUsers(t.Context(), db, "ann", "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for user, locked := range map[string]bool{"ann": true, "bob": true, "carl": false} {
		_, err := db.ExecContext(as(t, user), "CREATE TABLE IF NOT EXISTS notes (n)")
		if errors.Is(err, dblocker.ErrLockTimeout) != locked {
			t.Errorf("%s beside LockUsers: %v", user, err)
		}
	}
	if _, err := db.ExecContext(ctx, "SELECT * FROM notes"); !errors.Is(err, dblocker.ErrNoUser) {
		t.Errorf("nobody in a section of two: %v", err)
	}
}

// TestFewDatabasesAreOpen: no more than max_open_databases, whatever many users do, and nothing is lost.
func TestFewDatabasesAreOpen(t *testing.T) {
	db, dir := tenantDB(t, "?max_open_databases=4&lock_timeout=20s")
	const users, each = 20, 10
	var wait sync.WaitGroup
	for u := range users {
		wait.Go(func() {
			user := fmt.Sprint(u)
			if _, err := db.ExecContext(as(t, user), "CREATE TABLE c (n)"); err != nil {
				t.Error(err)
			}
			for range each {
				if _, err := db.ExecContext(as(t, user), "INSERT INTO c VALUES (1)"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	for u := range users {
		var n int
		if err := db.QueryRowContext(as(t, fmt.Sprint(u)), "SELECT count(*) FROM c").Scan(&n); err != nil || n != each {
			t.Errorf("user %d: %d rows, %v", u, n, err)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.db")); len(files) != users {
		t.Errorf("%d files", len(files))
	}
}

// TestTransactionInSQLKeepsItsDatabase open when its connection has gone back to the pool.
func TestTransactionInSQLKeepsItsDatabase(t *testing.T) {
	db, _ := tenantDB(t, "?max_open_databases=2&database_idle=0")
	noted(t, db, "ann")
	noted(t, db, "bob")
	if _, err := db.ExecContext(as(t, "ann"), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(as(t, "ann"), "INSERT INTO notes VALUES ('more')"); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if n := note(t, db, as(t, "bob")); n != "bob" {
			t.Error(n)
		}
	}
	if st, err := dblocker.Stats(db); err != nil || st.Databases.Open != 1 || st.Held != 1 {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := db.ExecContext(as(t, "ann"), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if n := note(t, db, as(t, "ann")); n != "ann,more" {
		t.Error(n)
	}
	if st, err := dblocker.Stats(db); err != nil || st.Databases.Open != 0 || st.Held != 0 {
		t.Errorf("in the end: %+v, %v", st, err)
	}
}

// TestTenantsStayWhereTheyAre when the program changes its working directory.
func TestTenantsStayWhereTheyAre(t *testing.T) {
	t.Chdir(t.TempDir())
	db, err := sql.Open("dblocker", "sqlite3?durability=group:data/{user}/app.db?_busy_timeout=100")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	noted(t, db, "ann")
	if _, err := db.QueryContext(t.Context(), "SELECT 1"); err != nil {
		t.Error(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	noted(t, db, "bob")
	if _, err := os.Stat(filepath.Join(here, "data", "ubob", "app.db")); err != nil {
		t.Error(err)
	}
}

// TestTwoHandlesOnOnePattern lose nothing of each other: they have one table of locks, and each its own open databases.
func TestTwoHandlesOnOnePattern(t *testing.T) {
	a, dir := tenantDB(t, "?max_open_databases=2&lock_timeout=1m")
	b, err := sql.Open("dblocker", "sqlite3?max_open_databases=3&lock_timeout=1m:"+filepath.Join(dir, "{user}.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	users := []string{"ann", "bob", "carl", "dave"}
	countEach(t, a, users)
	const each = 10
	var wait sync.WaitGroup
	for _, db := range []*sql.DB{a, b} {
		for _, user := range users {
			wait.Go(func() {
				for range each {
					if err := dblocker.Do(as(t, user), db, func(ctx context.Context) error { return countUp(ctx, db) }); err != nil {
						t.Errorf("%s: %v", user, err)
					}
				}
			})
		}
	}
	wait.Wait()
	expectCounts(t, b, users, 2*each)
}

// TestTenantsWithFewClientConnections: a limit that the program has left in keeps requests waiting, but none for ever.
func TestTenantsWithFewClientConnections(t *testing.T) {
	db, _ := tenantDB(t, "?max_open_databases=2&lock_timeout=1m")
	db.SetMaxOpenConns(1)
	users := []string{"ann", "bob", "carl"}
	countEach(t, db, users)
	const each = 10
	var wait sync.WaitGroup
	for _, user := range users {
		for range 3 {
			wait.Go(func() {
				for range each {
					tx, err := db.BeginTx(as(t, user), nil)
					if err != nil {
						t.Errorf("%s: %v", user, err)
						return
					}
					if err := countUp(as(t, user), tx); err != nil {
						t.Errorf("%s: %v", user, err)
					}
					if err := tx.Commit(); err != nil {
						t.Errorf("%s: %v", user, err)
					}
				}
			})
		}
	}
	wait.Wait()
	expectCounts(t, db, users, 3*each)
}

// countEach makes the table c for each user, with a count of zero.
func countEach(t *testing.T, db *sql.DB, users []string) {
	t.Helper()
	for _, user := range users {
		for _, query := range []string{"CREATE TABLE c (n INTEGER)", "INSERT INTO c VALUES (0)"} {
			if _, err := db.ExecContext(as(t, user), query); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func expectCounts(t *testing.T, db *sql.DB, users []string, want int) {
	t.Helper()
	for _, user := range users {
		var n int
		if err := db.QueryRowContext(as(t, user), "SELECT n FROM c").Scan(&n); err != nil || n != want {
			t.Errorf("%s has counted to %d, want %d; %v", user, n, want, err)
		}
	}
}
