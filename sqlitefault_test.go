package dblocker

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestSQLitePathIsADirectory: an error until it is away.
func TestSQLitePathIsADirectory(t *testing.T) {
	testdb.NoLeaks(t)
	path := testdb.SQLite(t)
	must(t, os.Mkdir(path, 0o755))
	db := openSQLite(t, "sqlite3-dblocker", path)
	sameFailure(t, db, path, "CREATE TABLE t (v)")
	must(t, os.Remove(path))
	works(t, db, "CREATE TABLE t (v)")
}

// TestSQLiteFileIsNone: neither a file that never was a database, nor one that has
// been damaged, keeps its connections once it is replaced.
func TestSQLiteFileIsNone(t *testing.T) {
	for name, damage := range map[string]func(content []byte){
		"garbage": func(content []byte) { copy(content, strings.Repeat("no database ", 100)) },
		"damaged": func(content []byte) { clear(content[4096:]) },
	} {
		t.Run(name, func(t *testing.T) {
			testdb.NoLeaks(t)
			path := testdb.SQLite(t)
			bareSQLite(t, path, "CREATE TABLE t (v UNIQUE)", "INSERT INTO t VALUES (1)")
			good, err := os.ReadFile(path)
			must(t, err)
			bad := append([]byte(nil), good...)
			damage(bad)
			must(t, os.WriteFile(path, bad, 0o600))

			db := openSQLite(t, "sqlite3-dblocker", path)
			for range 3 {
				sameFailure(t, db, path, "INSERT INTO t VALUES (2)")
			}
			must(t, os.WriteFile(path+".new", good, 0o600))
			must(t, os.Rename(path+".new", path))
			works(t, db, "INSERT INTO t VALUES (2)")
		})
	}
}

// sameFailure fails the test unless a statement fails through dblocker as it does
// on the bare driver, and leaves no lock behind.
func sameFailure(t *testing.T, db *sql.DB, dsn, statement string) {
	t.Helper()
	bare, err := sql.Open("sqlite3", dsn)
	must(t, err)
	defer bare.Close()
	_, want := bare.Exec(statement)
	_, got := db.ExecContext(asUser(1), statement)
	if want == nil || fmt.Sprintf("%T %[1]v", got) != fmt.Sprintf("%T %[1]v", want) {
		t.Errorf("%s: got %T %v, the bare driver has %T %v", statement, got, got, want, want)
	}
	noLocksLeft(t)
}

// works runs a statement that must succeed, for the user of the failed ones.
func works(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(asUser(1), statement); err != nil {
		t.Errorf("%s, with the cause of the failure gone: %v", statement, err)
	}
	noLocksLeft(t)
}

// noLocksLeft fails the test if an open database has a user's lock.
func noLocksLeft(t *testing.T) {
	t.Helper()
	for _, s := range databasesOpen() {
		if left := s.Users().Snapshot(); len(left) > 0 {
			t.Errorf("locks are left: %v", left)
		}
	}
}
