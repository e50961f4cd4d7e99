package dblocker

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// openLogged opens a handle on mattn/go-sqlite3 that logs into a buffer.
func openLogged(t *testing.T, dsn string, opts ...Option) (*sql.DB, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	d := &Driver{name: "sqlite3", opts: append(opts, Logger(slog.New(slog.NewTextHandler(&log, nil))))}
	c, err := d.OpenConnector(dsn)
	must(t, err)
	db := sql.OpenDB(c)
	t.Cleanup(func() { db.Close() })
	return db, &log
}

// pragma returns the value of a PRAGMA.
func pragma(t *testing.T, db interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, name string) string {
	t.Helper()
	var v string
	must(t, db.QueryRowContext(context.Background(), "PRAGMA "+name).Scan(&v))
	return v
}

// bareSQLite makes a database through the bare driver.
func bareSQLite(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite3", dsn)
	must(t, err)
	defer db.Close()
	for _, s := range statements {
		_, err := db.Exec(s)
		must(t, err)
	}
}

func TestNewSQLiteFilesAreInWALMode(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, path string){
		"new":   func(*testing.T, string) {},
		"empty": func(t *testing.T, path string) { must(t, os.WriteFile(path, nil, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := testdb.SQLite(t)
			prepare(t, path)
			db, log := openLogged(t, path)
			if got := pragma(t, db, "journal_mode"); got != "wal" {
				t.Errorf("the journal mode is %s, want wal", got)
			}
			if log.Len() > 0 {
				t.Errorf("logged: %s", log)
			}
		})
	}
}

// TestOldSQLiteFilesKeepTheirMode: they are told about, once.
func TestOldSQLiteFilesKeepTheirMode(t *testing.T) {
	path := testdb.SQLite(t)
	bareSQLite(t, path, "CREATE TABLE t (v)")
	db, log := openLogged(t, path, MaxIdleConns(0))
	for range 3 {
		if got := pragma(t, db, "journal_mode"); got != "delete" {
			t.Errorf("the journal mode is %s, want delete", got)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "_journal_mode=WAL") {
		t.Errorf("want one line that names _journal_mode=WAL, got %d: %s", n, log)
	}
	db, log = openLogged(t, path+"?_journal_mode=WAL")
	if got := pragma(t, db, "journal_mode"); got != "wal" || log.Len() > 0 {
		t.Errorf("with the parameter: journal mode %s, log %q", got, log)
	}
	db, log = openLogged(t, path)
	if got := pragma(t, db, "journal_mode"); got != "wal" || log.Len() > 0 {
		t.Errorf("afterwards: journal mode %s, log %q", got, log)
	}
}

func TestSQLiteDSNOverrulesDefaults(t *testing.T) {
	for _, param := range []string{"_journal_mode=DELETE", "_journal=truncate", "_journal_mode=PERSIST"} {
		db, log := openLogged(t, testdb.SQLite(t)+"?_busy_timeout=77&_sync=OFF&"+param)
		_, want, _ := strings.Cut(strings.ToLower(param), "=")
		for name, want := range map[string]string{"journal_mode": want, "busy_timeout": "77", "synchronous": "0"} {
			if got := pragma(t, db, name); got != want {
				t.Errorf("%s: %s is %s, want %s", param, name, got, want)
			}
		}
		if log.Len() > 0 {
			t.Errorf("%s: logged %s", param, log)
		}
	}
}

// TestSQLiteDSNWithDriver: a DSN for the driver "dblocker" that has come to another is a
// file name, as on the bare driver, and is told about.
func TestSQLiteDSNWithDriver(t *testing.T) {
	t.Chdir(t.TempDir())
	for dsn, want := range map[string]bool{"sqlite3:app.db": true, "sqlite3?_fk=1:app.db": true, "sqlite://app.db": true, "file:app.db": false, ":memory:": false, "./sqlite3:app.db": false} {
		_, log := openLogged(t, dsn)
		if got := strings.Contains(log.String(), "name of a driver"); got != want {
			t.Errorf("%s: logged %q", dsn, log)
		}
	}
}

// TestOverruledTxLockIsLogged: a DSN asks for transactions that begin deferred, and gets others.
func TestOverruledTxLockIsLogged(t *testing.T) {
	for param, want := range map[string]bool{"_txlock=deferred": true, "_txlock=immediate": false, "_fk=1": false} {
		_, log := openLogged(t, testdb.SQLite(t)+"?"+param)
		if got := strings.Contains(log.String(), "_txlock=deferred") && strings.Contains(log.String(), "ReadOnly: true"); got != want {
			t.Errorf("%s: logged %q", param, log)
		}
	}
}

// TestTxOnAConnectionThatOnlyReads: what the program has made read-only by query_only reads in a
// transaction as on the bare driver, and its writes get SQLite's own error.
func TestTxOnAConnectionThatOnlyReads(t *testing.T) {
	path := testdb.SQLite(t)
	writer := openSQLite(t, "sqlite3-dblocker", path)
	_, err := writer.Exec("CREATE TABLE t (a INT)")
	must(t, err)
	read := func(tx *sql.Tx) {
		t.Helper()
		must(t, tx.QueryRow("SELECT count(*) FROM t").Scan(new(int)))
		if _, err := tx.Exec("INSERT INTO t VALUES (1)"); err == nil || !strings.Contains(err.Error(), "readonly") {
			t.Errorf("a write: got %v, want SQLite's own error", err)
		}
		must(t, tx.Commit())
	}
	byDSN := openSQLite(t, "sqlite3-dblocker", path+"?_query_only=true")
	tx, err := byDSN.Begin()
	must(t, err)
	read(tx)
	conn, err := writer.Conn(context.Background())
	must(t, err)
	defer conn.Close()
	_, err = conn.ExecContext(context.Background(), "PRAGMA query_only = 1")
	must(t, err)
	tx, err = conn.BeginTx(context.Background(), nil)
	must(t, err)
	read(tx)
	_, err = conn.ExecContext(context.Background(), "PRAGMA query_only = 0")
	must(t, err)
}

// TestSQLiteParamsOnPlainPaths: mattn/go-sqlite3 drops them.
func TestSQLiteParamsOnPlainPaths(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b%20#.db")
	db := openSQLite(t, "sqlite3-dblocker", path)
	_, err := db.Exec("CREATE TABLE t (v)")
	must(t, err)
	ro := openSQLite(t, "sqlite3-dblocker", path+"?mode=ro&_fk=1")
	if got := pragma(t, ro, "foreign_keys"); got != "1" {
		t.Errorf("_fk=1 is lost: %s", got)
	}
	if _, err := ro.Exec("INSERT INTO t VALUES (1)"); err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("a write with mode=ro: %v", err)
	}
	if got := pragma(t, ro, "database_list; SELECT count(*) FROM t"); got != "0" {
		t.Errorf("rows: %s", got)
	}
	missing := openSQLite(t, "sqlite3-dblocker", filepath.Join(t.TempDir(), "none.db")+"?mode=rw")
	if err := missing.Ping(); err == nil {
		t.Error("mode=rw has made a file")
	}
}

func TestUnknownSQLiteParamsAreLogged(t *testing.T) {
	_, log := openLogged(t, testdb.SQLite(t)+"?_foreign_key=secret")
	for _, want := range []string{"_foreign_key ", "_foreign_keys", mattnPkg} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not name %s: %s", want, log)
		}
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("the log shows a value: %s", log)
	}
	path := testdb.SQLite(t)
	db, log := openLogged(t, path+"?mode=memory")
	must(t, db.Ping())
	if _, err := os.Stat(path); err != nil || !strings.Contains(log.String(), "mode=memory") {
		t.Errorf("a file that the driver would have opened despite mode=memory: %v, log %q", err, log)
	}
}

// TestReadOnlySQLite: what cannot be written is read, and nothing is written beside
// it.
func TestReadOnlySQLite(t *testing.T) {
	for _, mode := range []string{"DELETE", "WAL"} {
		for _, param := range []string{"mode=ro", "immutable=1", "_query_only=1"} {
			t.Run(mode+" "+param, func(t *testing.T) {
				path := testdb.SQLite(t)
				bareSQLite(t, path+"?_journal_mode="+mode, "CREATE TABLE t (v)", "INSERT INTO t VALUES (7)")
				db, log := openLogged(t, path+"?"+param)
				var v int
				must(t, db.QueryRow("SELECT v FROM t").Scan(&v))
				tx, err := db.BeginTx(context.Background(), &sql.TxOptions{ReadOnly: true})
				must(t, err)
				must(t, tx.QueryRow("SELECT v FROM t").Scan(&v))
				must(t, tx.Commit())
				if _, err := db.Exec("INSERT INTO t VALUES (1)"); err == nil {
					t.Error("a write has been accepted")
				}
				must(t, db.QueryRow("SELECT v FROM t").Scan(&v))
				if lines := strings.Count(log.String(), "\n"); lines > 1 || lines == 1 && !strings.Contains(log.String(), "count here") {
					t.Errorf("logged: %s", log)
				}
			})
		}
	}
}

// TestFilesShareNoCache: with cache=shared, which many DSNs have from a time when that was
// advised, readers of a file in WAL mode would wait for the writer.
func TestFilesShareNoCache(t *testing.T) {
	testdb.NoLeaks(t)
	for _, form := range []string{"%s?_journal=WAL&cache=shared&_busy_timeout=30000&_txlock=immediate", "file:%s?cache=shared&_journal=WAL"} {
		db, log := openLogged(t, fmt.Sprintf(form, testdb.SQLite(t)), LockTimeout(0))
		mustExec(t, db, "CREATE TABLE t (v)")
		mustExec(t, db, "INSERT INTO t VALUES (1), (2)")
		tx, err := db.Begin()
		must(t, err)
		_, err = tx.Exec("INSERT INTO t VALUES (3)")
		must(t, err)
		must(t, db.QueryRow("SELECT COUNT(*) FROM t").Scan(new(int)))
		must(t, tx.Commit())
		rows, err := db.Query("SELECT v FROM t")
		must(t, err)
		rows.Next()
		mustExec(t, db, "INSERT INTO t VALUES (4)")
		must(t, rows.Close())
		if n := strings.Count(log.String(), "cache=shared is dropped"); n != 1 {
			t.Errorf("%s: %d lines tell that cache=shared is dropped: %s", form, n, log)
		}
	}
}

// TestSQLiteDSNIsExplained: where a DSN means something else than it seems to, the log or the
// error says so.
func TestSQLiteDSNIsExplained(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	bareSQLite(t, path, "CREATE TABLE t (v)")
	for dsn, want := range map[string]string{
		path + "?mode=ro":               "parameters=mode",
		path + "?immutable=1&nolock=1":  `parameters="immutable, nolock"`,
		"file:" + path + "?mode=ro":     "",
		path + "?_fk=1":                 "",
		"file:" + path + "#.db?mode=ro": "write %23",
		"file:" + path + "?mode=ro#x":   "",
	} {
		db, log := openLogged(t, dsn)
		must(t, db.QueryRow("SELECT COUNT(*) FROM t").Scan(new(int)))
		must(t, db.QueryRow("SELECT COUNT(*) FROM t").Scan(new(int)))
		log.Reset()
		db, log = openLogged(t, dsn)
		must(t, db.Ping())
		got := ""
		for line := range strings.Lines(log.String()) {
			if !strings.Contains(line, "is not in WAL mode") {
				got += line
			}
		}
		if !strings.Contains(got, want) || want == "" && got != "" || strings.Count(got, "\n") > 1 {
			t.Errorf("%s: logged %q, want %q", dsn, got, want)
		}
	}
	db, _ := openLogged(t, filepath.Join(dir, "none.db?mode=rw"))
	if err := db.Ping(); err == nil || !strings.Contains(err.Error(), "with mode=rw the file must exist") || sqlite.Code(err) != sqlite.CodeCantOpen {
		t.Errorf("mode=rw of a file that is not there: %v", err)
	}
	db, _ = openLogged(t, "file:"+filepath.Join(dir, "none.db?mode=rw"))
	if err := db.Ping(); err == nil || strings.Contains(err.Error(), "must exist") {
		t.Errorf("the same where the driver reads it: %v", err)
	}
}

// memoryDSNs are of one database each, however many connections there are.
var memoryDSNs = []string{":memory:", ":memory:?_fk=1", "file::memory:", "file::memory:?cache=shared", ":memory:?cache=shared",
	"file:x?mode=memory", "file:x?mode=memory&cache=shared", "file:/x?vfs=memdb", "file:x?vfs=memdb"}

// TestMemoryDatabaseIsOne: its connections see the same data, also after all of
// them have been closed in between.
func TestMemoryDatabaseIsOne(t *testing.T) {
	for _, dsn := range memoryDSNs {
		for _, opts := range [][]Option{nil, {MaxIdleConns(0)}, {ConnMaxLifetime(time.Nanosecond)}, {ConnMaxIdleTime(time.Nanosecond)}} {
			testdb.NoLeaks(t)
			db, log := openLogged(t, dsn, opts...)
			_, err := db.Exec("CREATE TABLE t (v)")
			must(t, err)
			conns := make([]*sql.Conn, 8)
			for i := range conns {
				conns[i], err = db.Conn(context.Background())
				must(t, err)
				_, err = conns[i].ExecContext(context.Background(), "INSERT INTO t VALUES (1)")
				must(t, err)
			}
			for _, conn := range conns {
				if got := pragma(t, conn, "user_version; SELECT count(*) FROM t"); got != "8" {
					t.Errorf("%s: a connection sees %s of 8 rows", dsn, got)
				}
				must(t, conn.Close())
			}
			if got := pragma(t, db, "user_version; SELECT count(*) FROM t"); got != "8" {
				t.Errorf("%s: %s of 8 rows are left", dsn, got)
			}
			must(t, db.Close())
			db, _ = openLogged(t, dsn)
			if got := pragma(t, db, "user_version; SELECT count(*) FROM sqlite_master"); got != "0" {
				t.Errorf("%s: the database has outlived its handle", dsn)
			}
			must(t, db.Close())
			if log.Len() > 0 {
				t.Errorf("%s: logged %s", dsn, log)
			}
		}
	}
}

// TestMemoryDatabasesMeetByName: two handles on each DSN.
func TestMemoryDatabasesMeetByName(t *testing.T) {
	for dsn, shared := range map[string]bool{
		":memory:": false, "file::memory:": false, "file:x?mode=memory": false, "file:x?vfs=memdb": false,
		":memory:?cache=shared": true, "file::memory:?cache=shared": true, "file:x?mode=memory&cache=shared": true, "file:/x?vfs=memdb": true,
	} {
		a, b := openSQLite(t, "sqlite3-dblocker", dsn), openSQLite(t, "sqlite3-dblocker", dsn)
		_, err := a.Exec("CREATE TABLE t (v)")
		must(t, err)
		if _, err := b.Exec("INSERT INTO t VALUES (1)"); (err == nil) != shared {
			t.Errorf("%s: a second handle: %v, want it to share the database: %v", dsn, err, shared)
		}
		must(t, a.Close())
		must(t, b.Close())
	}
}

// TestNamedMemoryDatabaseMeetsTheBareDriver: a shared cache is shared with code that
// does not know of dblocker.
func TestNamedMemoryDatabaseMeetsTheBareDriver(t *testing.T) {
	const dsn = "file:met?mode=memory&cache=shared"
	db := openSQLite(t, "sqlite3-dblocker", dsn)
	_, err := db.Exec("CREATE TABLE t (v)")
	must(t, err)
	bareSQLite(t, dsn, "INSERT INTO t VALUES (1)")
	if got := pragma(t, db, "user_version; SELECT count(*) FROM t"); got != "1" {
		t.Errorf("%s rows", got)
	}
}

// TestMemoryDatabaseMayBeLarge: SQLite's limit for a named one, 1 GiB, is lifted.
func TestMemoryDatabaseMayBeLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("fills more than 1 GiB of memory")
	}
	if free := availableMemory(t); free < 4<<30 {
		t.Skipf("%d MiB of memory are available, 4 GiB are needed", free>>20)
	}
	db := openSQLite(t, "sqlite3-dblocker", ":memory:")
	_, err := db.Exec("PRAGMA journal_mode = OFF; CREATE TABLE t (v)")
	must(t, err)
	for range 11 {
		_, err := db.Exec("INSERT INTO t VALUES (zeroblob(100000000))")
		must(t, err)
	}
}

// TestSQLiteFirstOpens: sixteen handles and as many goroutines make one file at the
// same time.
func TestSQLiteFirstOpens(t *testing.T) {
	testdb.NoLeaks(t)
	for range 10 {
		path := testdb.SQLite(t) + "?_sync=OFF"
		var wg sync.WaitGroup
		for i := range 16 {
			db := openSQLite(t, "sqlite3-dblocker", path)
			wg.Go(func() {
				defer db.Close()
				if _, err := db.Exec(fmt.Sprintf("CREATE TABLE t%d (v)", i)); err != nil {
					t.Error(err)
				}
				var mode string
				if err := db.QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
					t.Errorf("journal mode %s, %v", mode, err)
				}
			})
		}
		wg.Wait()
	}
}

// TestRelativePathIsResolvedOnce: a program that changes its working directory has
// one database, and it is the one that the bare driver would have opened first.
func TestRelativePathIsResolvedOnce(t *testing.T) {
	for _, dsn := range []string{"rel.db", "file:rel.db?_fk=1"} {
		first, second := t.TempDir(), t.TempDir()
		db := openSQLite(t, "sqlite3-dblocker", dsn)
		db.SetMaxIdleConns(0)
		t.Chdir(first)
		_, err := db.Exec("CREATE TABLE t (v)")
		must(t, err)
		t.Chdir(second)
		conn, err := db.Conn(context.Background())
		must(t, err)
		_, err = conn.ExecContext(context.Background(), "INSERT INTO t VALUES (1)")
		must(t, err)
		_, err = db.Exec("INSERT INTO t VALUES (1)") // on another connection
		must(t, err)
		must(t, conn.Close())
		if _, err := os.Stat(filepath.Join(first, "rel.db")); err != nil {
			t.Error(err)
		}
		other := openSQLite(t, "dblocker", "sqlite3?lock_timeout=0:"+filepath.Join(first, "rel.db"))
		tx, err := db.BeginTx(asUser(1), nil)
		must(t, err)
		if _, err := other.ExecContext(asUser(1), "INSERT INTO t VALUES (1)"); err == nil {
			t.Error("a handle by the absolute path does not share the locks")
		}
		must(t, tx.Rollback())
		must(t, db.Close())
		must(t, other.Close())
	}
}

// availableMemory returns what the system says is there for a test, in bytes.
func availableMemory(t *testing.T) int64 {
	t.Helper()
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	var kib int64
	if _, after, ok := strings.Cut(string(info), "MemAvailable:"); ok {
		fmt.Sscan(after, &kib)
	}
	return kib << 10
}
