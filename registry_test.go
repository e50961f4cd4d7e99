package dblocker

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/databases"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/testdb"
)

const mattnPkg = "github.com/mattn/go-sqlite3"

// TestHandlesShareLocks opens one SQLite file by all its names.
func TestHandlesShareLocks(t *testing.T) {
	testdb.NoLeaks(t)
	path := testdb.SQLite(t)
	dir := filepath.Dir(path)
	first := openSQLite(t, "sqlite3-dblocker", path)
	_, err := first.Exec("CREATE TABLE t (v)")
	must(t, err)
	must(t, os.Symlink(path, filepath.Join(dir, "symlink.db")))
	must(t, os.Link(path, filepath.Join(dir, "hardlink.db")))
	must(t, os.Symlink(dir, filepath.Join(dir, "symdir")))

	tx, err := first.BeginTx(asUser(1), nil)
	must(t, err)
	for _, dsn := range []string{
		path, "file:" + path, "file:" + path + "?_fk=1", filepath.Join(dir, "symlink.db"), filepath.Join(dir, "hardlink.db"),
		filepath.Join(dir, "symdir", filepath.Base(path)), filepath.Join(dir, "no", "..", filepath.Base(path)),
	} {
		db := openSQLite(t, "dblocker", "sqlite3?lock_timeout=0:"+dsn)
		if _, err := db.ExecContext(asUser(1), "INSERT INTO t VALUES (1)"); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("%s: the handle does not share locks: %v", dsn, err)
		}
		must(t, db.Close())
	}
	must(t, tx.Rollback())
}

// TestFileMadeAfterOpening: two handles that name a file in two ways before it
// exists.
func TestFileMadeAfterOpening(t *testing.T) {
	path := testdb.SQLite(t)
	a, err := databases.Open("sqlite:"+sqlite.Engine.Database(path), "lib")
	must(t, err)
	defer a.Release()
	b, err := databases.Open("sqlite:"+sqlite.Engine.Database("file:"+path), "lib")
	must(t, err)
	defer b.Release()
	if a != b {
		t.Error("one file, not made yet, has two databases")
	}
}

// TestSQLiteFileIsKnownAgain: what happens to a file between the openings of two
// handles does not part them.
func TestSQLiteFileIsKnownAgain(t *testing.T) {
	for name, happen := range map[string]func(t *testing.T, first *sql.DB, path, other string){
		"a symbolic link to a file that is not there": func(t *testing.T, first *sql.DB, path, other string) {
			must(t, os.Symlink(filepath.Base(path), other))
			use(t, first)
		},
		"a hard link to a file made after opening": func(t *testing.T, first *sql.DB, path, other string) {
			use(t, first)
			must(t, os.Link(path, other))
		},
		"renamed": func(t *testing.T, first *sql.DB, path, other string) {
			use(t, first)
			must(t, os.Rename(path, other))
		},
		"deleted and made again": func(t *testing.T, first *sql.DB, path, other string) {
			use(t, first)
			must(t, os.Remove(path))
			bareSQLite(t, path, "CREATE TABLE t (v)")
			must(t, os.Link(path, other))
		},
	} {
		t.Run(name, func(t *testing.T) {
			testdb.NoLeaks(t)
			dir := t.TempDir()
			path, other := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
			first := openSQLite(t, "sqlite3-dblocker", path+"?_journal_mode=DELETE")
			happen(t, first, path, other)
			second := openSQLite(t, "sqlite3-dblocker", other)
			must(t, errors.Join(first.Ping(), second.Ping()))
			if n := databasesIn(t, dir); n != 1 {
				t.Errorf("the file has %d databases", n)
			}
		})
	}
}

// databasesIn counts the databases of the SQLite files in a directory. Those of earlier tests may
// still be on their way out.
func databasesIn(t *testing.T, dir string) (n int) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	must(t, err)
	for _, s := range databasesOpen() {
		if strings.Contains(s.ID, dir) {
			n++
		}
	}
	return n
}

// use makes a table, and with it the file.
func use(t *testing.T, db *sql.DB) {
	t.Helper()
	_, err := db.Exec("CREATE TABLE t (v)")
	must(t, err)
}

func TestLockspaceJoinsAndParts(t *testing.T) {
	testdb.NoLeaks(t)
	path := testdb.SQLite(t)
	a := openSQLite(t, "dblocker", "sqlite3?lockspace=x:"+path)
	b := openSQLite(t, "dblocker", "sqlite3?lockspace=x&lock_timeout=0:"+testdb.SQLite(t))
	c := openSQLite(t, "dblocker", "sqlite3?lock_timeout=0:"+path)
	tx, err := a.BeginTx(asUser(1), &sql.TxOptions{ReadOnly: true}) // not to keep the file's one writer
	must(t, err)
	if _, err := b.ExecContext(asUser(1), "CREATE TABLE t (v)"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("another database of the same lockspace: %v", err)
	}
	if _, err := c.ExecContext(asUser(1), "CREATE TABLE t (v)"); err != nil {
		t.Errorf("the same database without the lockspace: %v", err)
	}
	must(t, tx.Rollback())
}

// TestLocksOutliveTheirHandleWhileInUse: a transaction that goes on after its handle
// was closed still excludes others, and then nothing is left.
func TestLocksOutliveTheirHandleWhileInUse(t *testing.T) {
	testdb.NoLeaks(t)
	path := testdb.SQLite(t)
	a := openSQLite(t, "sqlite3-dblocker", path)
	tx, err := a.BeginTx(asUser(1), nil)
	must(t, err)
	must(t, a.Close())
	b := openSQLite(t, "dblocker", "sqlite3?lock_timeout=0:"+path)
	if _, err := b.ExecContext(asUser(1), "CREATE TABLE t (v)"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("beside the transaction of a closed handle: %v", err)
	}
	must(t, tx.Rollback())
	_, err = b.ExecContext(asUser(1), "CREATE TABLE t (v)")
	must(t, err)
	if n := databasesIn(t, filepath.Dir(path)); n != 1 {
		t.Errorf("%d databases are registered while a handle is open", n)
	}
	must(t, b.Close())
	if n := databasesIn(t, filepath.Dir(path)); n != 0 {
		t.Errorf("%d databases are registered after all handles were closed", n)
	}
}

func openSQLite(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

// openFiles opens the databases of n files, for as long as the test runs.
func openFiles(t testing.TB, n int) {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("%d.db", i))
		must(t, os.WriteFile(path, nil, 0o600))
		s, err := databases.Open("sqlite:"+path, mattnPkg)
		must(t, err)
		t.Cleanup(s.Release)
	}
}

// TestOpeningLooksAtNoOtherFile: a database costs the same to open beside thousands as
// beside one.
func TestOpeningLooksAtNoOtherFile(t *testing.T) {
	looks := func() int64 {
		before := sqlite.Looks.Load()
		db := openSQLite(t, "sqlite3-dblocker", testdb.SQLite(t))
		use(t, db)
		must(t, db.Close())
		return sqlite.Looks.Load() - before
	}
	openFiles(t, 1)
	first := looks()
	openFiles(t, 3999)
	if last := looks(); last != first {
		t.Errorf("beside 4,000 databases files were looked at %d times to open another, beside one %d times", last, first)
	}
}

// TestConnectionsPassTheRegistry: to connect to a known file takes nothing that all
// databases have in common.
func TestConnectionsPassTheRegistry(t *testing.T) {
	db := openSQLite(t, "dblocker", "sqlite3?max_idle_conns=0:"+testdb.SQLite(t))
	use(t, db)
	var once sync.Once
	databases.Each(func(*databases.Database) { // one of those that are open
		once.Do(func() {
			done := make(chan error, 1)
			go func() {
				_, err := db.Exec("INSERT INTO t VALUES (1)")
				done <- err
			}()
			select {
			case err := <-done:
				must(t, err)
			case <-time.After(10 * time.Second):
				t.Error("a connection waits for what all databases have in common")
			}
		})
	})
}

// BenchmarkOpenManyDatabases opens and closes a handle on one more database beside n
// that are open.
func BenchmarkOpenManyDatabases(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 4000} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			openFiles(b, n-1)
			path := testdb.SQLite(b)
			for b.Loop() {
				db, err := sql.Open("sqlite3-dblocker", path)
				must(b, err)
				must(b, db.Ping())
				must(b, db.Close())
			}
		})
	}
}
