package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/testdb"
	"github.com/calmdocs/dblocker/internal/walsync"
)

// A syncScene is a SQLite file, of which the test knows what a power cut would leave: the file as SQLite has written it, which does so
// only when it checkpoints, and of the WAL what was in it when the last sync began.
type syncScene struct {
	*sql.DB
	t    *testing.T
	path string

	mu     sync.Mutex
	synced map[string][]byte // what is on disk of each WAL, by its name
	syncs  int
	before func() error // of each sync, which fails with its error; nil if there is none
}

// openSyncing opens a file, with options in front of those of the group sync. SQLite is not to checkpoint by itself.
func openSyncing(t *testing.T, driver, options, params string) *syncScene {
	t.Helper()
	s := &syncScene{t: t, path: testdb.SQLite(t), synced: make(map[string][]byte)}
	watching.Store(s)
	t.Cleanup(func() { watching.Store(nil) }) // after the handle is closed
	s.DB = s.open(driver, options, params)
	mustExec(t, s, "CREATE TABLE log (id INTEGER PRIMARY KEY, who TEXT UNIQUE)")
	return s
}

// watching is the scene whose test runs. A sync that nobody waits for may outlive its test.
var watching atomic.Pointer[syncScene]

func init() {
	plain := walsync.SyncFile
	walsync.SyncFile = func(f *os.File) error {
		if s := watching.Load(); s != nil {
			return s.sync(f)
		}
		return plain(f)
	}
}

// open opens another handle on the file.
func (s *syncScene) open(driver, options, params string) *sql.DB {
	s.t.Helper()
	return openSQLite(s.t, "dblocker", driver+"?durability=group&"+options+":file:"+s.path+"?"+params)
}

func (s *syncScene) sync(f *os.File) error {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	content, err := os.ReadFile(f.Name())
	if err != nil {
		return err
	}
	if before != nil {
		if err := before(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced[f.Name()] = content
	s.syncs++
	return nil
}

// beforeSyncs has f called before each sync; the sync fails with its error.
func (s *syncScene) beforeSyncs(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// count returns how many syncs there were.
func (s *syncScene) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.syncs
}

// afterPowerCut opens what a power cut would leave of a file: without dblocker.
func (s *syncScene) afterPowerCut(path string) *sql.DB {
	s.t.Helper()
	left := filepath.Join(s.t.TempDir(), "left.db")
	// Not in this process, where that would drop SQLite's locks.
	if out, err := osexec.Command("cp", path, left).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	s.mu.Lock()
	wal := s.synced[path+"-wal"]
	s.mu.Unlock()
	if _, err := os.Stat(path + "-wal"); err == nil {
		must(s.t, os.WriteFile(left+"-wal", wal, 0o600))
	}
	db, err := sql.Open("sqlite3", left)
	must(s.t, err)
	s.t.Cleanup(func() { db.Close() })
	return db
}

// left tells what a query finds there.
func (s *syncScene) left(path, query string) string {
	s.t.Helper()
	db := s.afterPowerCut(path)
	var found sql.NullString
	if err := db.QueryRow(query).Scan(&found); err != nil && err != sql.ErrNoRows {
		return err.Error()
	}
	return found.String
}

// quietDriver registers a driver whose connections do not checkpoint by themselves.
func quietDriver() string {
	return hookedDriver(&sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
		_, err := c.Exec("PRAGMA wal_autocheckpoint = 0", nil)
		return err
	}})
}

// writes are all ways to write. Each writes one row for who; it is called in a request of a user.
var writes = []struct {
	name  string
	write func(ctx context.Context, db *sql.DB, who string) error
}{
	{"Exec", func(ctx context.Context, db *sql.DB, who string) error {
		_, err := db.ExecContext(ctx, "INSERT INTO log (who) VALUES (?)", who)
		return err
	}},
	{"Exec of a prepared statement", func(ctx context.Context, db *sql.DB, who string) error {
		stmt, err := db.PrepareContext(ctx, "INSERT INTO log (who) VALUES (?)")
		if err != nil {
			return err
		}
		defer stmt.Close()
		_, err = stmt.ExecContext(ctx, who)
		return err
	}},
	{"Exec of several statements", func(ctx context.Context, db *sql.DB, who string) error {
		_, err := db.ExecContext(ctx, "DELETE FROM log WHERE who = 'nobody'; INSERT INTO log (who) VALUES ('"+who+"')")
		return err
	}},
	{"Exec of several statements with a transaction", func(ctx context.Context, db *sql.DB, who string) error {
		_, err := db.ExecContext(ctx, "BEGIN; INSERT INTO log (who) VALUES ('"+who+"'); COMMIT")
		return err
	}},
	{"Exec that leaves a transaction open", inSQL("INSERT INTO log (who) VALUES ('%s'); BEGIN", "ROLLBACK")},
	{"QueryRow with RETURNING", func(ctx context.Context, db *sql.DB, who string) error {
		var id int
		return db.QueryRowContext(ctx, "INSERT INTO log (who) VALUES (?) RETURNING id", who).Scan(&id)
	}},
	{"Query with RETURNING, of which no row is read", func(ctx context.Context, db *sql.DB, who string) error {
		rows, err := db.QueryContext(ctx, "INSERT INTO log (who) VALUES (?) RETURNING id", who)
		if err != nil {
			return err
		}
		return rows.Close()
	}},
	{"Query of a prepared statement with RETURNING", func(ctx context.Context, db *sql.DB, who string) error {
		stmt, err := db.PrepareContext(ctx, "INSERT INTO log (who) VALUES (?) RETURNING id")
		if err != nil {
			return err
		}
		defer stmt.Close()
		var id int
		return stmt.QueryRowContext(ctx, who).Scan(&id)
	}},
	{"Tx", func(ctx context.Context, db *sql.DB, who string) error {
		return inTx(ctx, db, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO log (who) VALUES (?)", who)
			return err
		})
	}},
	{"Tx on a sql.Conn", func(ctx context.Context, db *sql.DB, who string) error {
		return onOneConn(ctx, db, func(c *sql.Conn) error {
			return inTx(ctx, c, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, "INSERT INTO log (who) VALUES (?)", who)
				return err
			})
		})
	}},
	{"Tx with RETURNING", func(ctx context.Context, db *sql.DB, who string) error {
		return inTx(ctx, db, func(tx *sql.Tx) error {
			var id int
			return tx.QueryRowContext(ctx, "INSERT INTO log (who) VALUES (?) RETURNING id", who).Scan(&id)
		})
	}},
	{"COMMIT in a Tx", func(ctx context.Context, db *sql.DB, who string) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		_, err = tx.ExecContext(ctx, "INSERT INTO log (who) VALUES (?)", who)
		if err == nil {
			_, err = tx.ExecContext(ctx, "COMMIT")
		}
		return err
	}},
	{"Exec on a sql.Conn", inSQL("INSERT INTO log (who) VALUES ('%s')")},
	{"COMMIT", inSQL("BEGIN", "INSERT INTO log (who) VALUES ('%s')", "COMMIT")},
	{"END by Query", inSQL("BEGIN IMMEDIATE", "INSERT INTO log (who) VALUES ('%s')", "?END")},
	{"outermost RELEASE", inSQL("SAVEPOINT a", "INSERT INTO log (who) VALUES ('%s')", "SAVEPOINT b", "RELEASE b", "RELEASE a")},
	{"RELEASE of all", inSQL("SAVEPOINT a", "SAVEPOINT b", "INSERT INTO log (who) VALUES ('%s')", "RELEASE a")},
	{"COMMIT of savepoints", inSQL("SAVEPOINT a", "INSERT INTO log (who) VALUES ('%s')", "COMMIT")},
	{"COMMIT after ROLLBACK TO", inSQL("BEGIN", "SAVEPOINT a", "INSERT INTO log (who) VALUES ('x')", "ROLLBACK TO a", "INSERT INTO log (who) VALUES ('%s')", "COMMIT")},
	{"DDL", inSQL("CREATE TABLE \"t%[1]s\" AS SELECT '%[1]s' AS who", "INSERT INTO log (who) SELECT who FROM \"t%[1]s\"")},
	{"section", func(ctx context.Context, db *sql.DB, who string) error {
		return Do(ctx, db, func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, "INSERT INTO log (who) VALUES (?)", who)
			return err
		})
	}},
	{"pinned section", func(ctx context.Context, db *sql.DB, who string) error {
		return Do(ctx, db, func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, "INSERT INTO log (who) VALUES (?)", who)
			return err
		}, Pin())
	}},
	{"transaction in SQL in a pinned section", func(ctx context.Context, db *sql.DB, who string) error {
		return Do(ctx, db, func(ctx context.Context) error {
			return onOneConn(ctx, db, func(c *sql.Conn) error {
				for _, query := range []string{"BEGIN", "INSERT INTO log (who) VALUES ('" + who + "')", "COMMIT"} {
					if _, err := c.ExecContext(ctx, query); err != nil {
						c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
						return err
					}
				}
				return nil
			})
		}, Pin())
	}},
	{"Raw", func(ctx context.Context, db *sql.DB, who string) error {
		return onOneConn(ctx, db, func(c *sql.Conn) error {
			return c.Raw(func(dc any) error {
				return dc.(RawConn).Raw(func(dc any) error {
					_, err := dc.(*sqlite3.SQLiteConn).Exec("INSERT INTO log (who) VALUES ('"+who+"')", nil)
					return err
				})
			})
		})
	}},
}

func onOneConn(ctx context.Context, db *sql.DB, f func(*sql.Conn) error) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return f(c)
}

func inTx(ctx context.Context, db interface {
	BeginTx(context.Context, *sql.TxOptions) (*sql.Tx, error)
}, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// inSQL executes statements, in which %s is who, on a sql.Conn; those with "?" in front by Query.
func inSQL(statements ...string) func(ctx context.Context, db *sql.DB, who string) error {
	return func(ctx context.Context, db *sql.DB, who string) error {
		return onOneConn(ctx, db, func(c *sql.Conn) error {
			for _, text := range statements {
				query, rows := strings.CutPrefix(text, "?")
				if strings.Contains(query, "%") {
					query = fmt.Sprintf(query, who)
				}
				var err error
				if rows {
					var r *sql.Rows
					if r, err = c.QueryContext(ctx, query); err == nil {
						err = r.Close()
					}
				} else {
					_, err = c.ExecContext(ctx, query)
				}
				if err != nil {
					c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") // an error if there is none
					return fmt.Errorf("%s: %w", query, err)
				}
			}
			return nil
		})
	}
}

// TestWritesAreOnDiskWhenAnswered: in whatever way a program writes, a power cut after the answer leaves the write.
func TestWritesAreOnDiskWhenAnswered(t *testing.T) {
	testdb.NoLeaks(t)
	s := openSyncing(t, quietDriver(), "", "")
	for _, w := range writes {
		t.Run(w.name, func(t *testing.T) {
			s.t = t
			before := s.count()
			if err := w.write(WithUser(context.Background(), "1"), s.DB, w.name); err != nil {
				t.Fatal(err)
			}
			if n := s.count() - before; n == 0 {
				t.Errorf("it was not synced")
			}
			if got := s.left(s.path, "SELECT who FROM log WHERE who = '"+w.name+"'"); got != w.name {
				t.Errorf("after a power cut there is %q, want the row", got)
			}
		})
	}
}

// TestWhatWritesNothingIsNotSynced: reads, transactions that only read or are rolled back, statements that fail, settings.
func TestWhatWritesNothingIsNotSynced(t *testing.T) {
	testdb.NoLeaks(t)
	s := openSyncing(t, quietDriver(), "", "")
	mustExec(t, s, "INSERT INTO log (who) VALUES ('there')")
	ctx := WithUser(context.Background(), "1")
	for name, f := range map[string]func(ctx context.Context, db *sql.DB, who string) error{
		"read":           inSQL("?SELECT count(*) FROM log"),
		"setting":        inSQL("PRAGMA foreign_keys = ON"),
		"ROLLBACK":       inSQL("BEGIN", "INSERT INTO log (who) VALUES ('gone')", "ROLLBACK"),
		"reading in SQL": inSQL("BEGIN", "?SELECT count(*) FROM log", "COMMIT"),
		"inner RELEASE":  inSQL("BEGIN", "SAVEPOINT a", "INSERT INTO log (who) VALUES ('gone')", "RELEASE a", "ROLLBACK"),
		"Tx that reads":  func(ctx context.Context, db *sql.DB, _ string) error { return inTx(ctx, db, countLog(ctx)) },
		"Tx rolled back": func(ctx context.Context, db *sql.DB, _ string) error {
			tx, err := db.BeginTx(ctx, nil)
			if err == nil {
				_, err = tx.ExecContext(ctx, "INSERT INTO log (who) VALUES ('gone')")
			}
			return errors.Join(err, tx.Rollback())
		},
		"Tx read-only": func(ctx context.Context, db *sql.DB, _ string) error {
			tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
			if err != nil {
				return err
			}
			return errors.Join(countLog(ctx)(tx), tx.Commit())
		},
		"failure": func(ctx context.Context, db *sql.DB, _ string) error {
			if _, err := db.ExecContext(ctx, "INSERT INTO log (who) VALUES ('there')"); err == nil {
				return errors.New("a row is there twice")
			}
			return nil
		},
	} {
		before := s.count()
		if err := f(ctx, s.DB, ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := s.count() - before; n != 0 {
			t.Errorf("%s: %d syncs, want none", name, n)
		}
	}
}

func countLog(ctx context.Context) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		var n int
		return tx.QueryRowContext(ctx, "SELECT count(*) FROM log").Scan(&n)
	}
}

// TestDurabilityOption: what is refused, and what is said.
func TestDurabilityOption(t *testing.T) {
	for dsn, want := range map[string]string{
		"sqlite3?durability=always:app.db":                                     "driver or group",
		"postgres?durability=group:host=/nowhere":                              "is for SQLite",
		"mysql?durability=group:u@tcp(nowhere)/app":                            "is for SQLite",
		"sqlite3?durability=group:file:app.db?_synchronous=OFF":                "_synchronous=OFF",
		"sqlite3?durability=group:app.db?_sync=0":                              "_synchronous=OFF",
		"sqlite3?durability=driver:app.db?_synchronous=OFF":                    "",
		"sqlite3?durability=group:app.db?_synchronous=FULL":                    "",
		"postgres?durability=driver:host=/nowhere":                             "",
		"sqlite3?durability=group:file::memory:?_synchronous=OFF&cache=shared": "",
	} {
		db, err := sql.Open("dblocker", dsn)
		if err == nil {
			db.Close()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dsn, err, want)
		}
	}
	for params, told := range map[string]bool{"?_synchronous=FULL": true, "?_sync=EXTRA": true, "?_synchronous=NORMAL": false, "": false} {
		file := testdb.SQLite(t)
		if _, log := openLogged(t, file+params); strings.Contains(log.String(), "durability=group") != told {
			t.Errorf("%q: the log says %s", params, log)
		}
		if _, log := openLogged(t, file+params, Durability(DriverDurability)); log.Len() > 0 {
			t.Errorf("%q, and the option: the log says %s", params, log)
		}
	}
	s := openSyncing(t, "sqlite3", "", "_synchronous=FULL")
	if got := pragma(t, s, "synchronous"); got != "1" {
		t.Errorf("beside _synchronous=FULL: got %s, want 1, NORMAL", got)
	}
}

// TestLocksGoBeforeTheSync: while a write waits for its sync, others write, and read what it has written, of its own user too, and with
// its server connection if there is only one.
func TestLocksGoBeforeTheSync(t *testing.T) {
	testdb.NoLeaks(t)
	for _, options := range []string{"", "max_open_conns=1"} {
		for _, w := range writes {
			switch w.name {
			case "Exec", "Exec of a prepared statement", "Tx":
			default:
				continue
			}
			t.Run(w.name+" "+options, func(t *testing.T) {
				s := openSyncing(t, quietDriver(), options, "")
				began, letGo := make(chan bool, 10), make(chan bool)
				s.beforeSyncs(func() error {
					began <- true
					<-letGo
					return nil
				})
				ctx := WithUser(context.Background(), "1")
				answers := make(chan error, 2)
				write := func(who string) { answers <- w.write(ctx, s.DB, who) }
				go write("first")
				<-began
				go write("second")
				for n := 0; n < 2; { // which are committed, one after the other
					must(t, s.QueryRowContext(ctx, "SELECT count(*) FROM log").Scan(&n))
				}
				if len(answers) > 0 {
					t.Errorf("a write is answered before its sync: %v", <-answers)
				}
				close(letGo)
				must(t, <-answers)
				must(t, <-answers)
				if n := s.count(); n != 3 { // with that of the table
					t.Errorf("%d syncs, want 3", n)
				}
			})
		}
	}
}

// TestSessionsOutliveTheSync: what was done on a sql.Conn, a statement prepared on it, or a pinned section is on its server
// connection while it waits for the sync, and after that.
func TestSessionsOutliveTheSync(t *testing.T) {
	testdb.NoLeaks(t)
	s := openSyncing(t, quietDriver(), "", "")
	ctx := WithUser(context.Background(), "1")
	const insert = "INSERT INTO log (who) VALUES (?)"
	other := 0
	var others sync.WaitGroup
	defer others.Wait()
	during := func() error { // another write takes a connection that is given back
		s.beforeSyncs(nil)
		done := make(chan error, 1)
		other++
		who := fmt.Sprint("other", other)
		go func() {
			c, err := s.Conn(context.Background())
			if err == nil {
				others.Go(func() { // which waits for the next sync
					defer c.Close()
					c.ExecContext(WithUser(context.Background(), "2"), insert, who)
				})
				for n := 0; n == 0 && err == nil; {
					err = s.QueryRow("SELECT count(*) FROM log WHERE who = ?", who).Scan(&n)
				}
			}
			done <- err
		}()
		return <-done
	}
	for name, write := range map[string]func(ctx context.Context, c *sql.Conn) error{
		"text": func(ctx context.Context, c *sql.Conn) error { _, err := c.ExecContext(ctx, insert, "text"); return err },
		"prepared": func(ctx context.Context, c *sql.Conn) error {
			stmt, err := c.PrepareContext(ctx, insert)
			if err != nil {
				return err
			}
			defer stmt.Close()
			_, err = stmt.ExecContext(ctx, "prepared")
			return err
		},
		"Tx": func(ctx context.Context, c *sql.Conn) error {
			return inTx(ctx, c, func(tx *sql.Tx) error { _, err := tx.ExecContext(ctx, insert, "Tx"); return err })
		},
		"prepared in a Tx": func(ctx context.Context, c *sql.Conn) error {
			return inTx(ctx, c, func(tx *sql.Tx) error {
				stmt, err := tx.PrepareContext(ctx, insert)
				if err == nil {
					_, err = stmt.ExecContext(ctx, "prepared in a Tx")
				}
				return err
			})
		},
	} {
		must(t, onOneConn(ctx, s.DB, func(c *sql.Conn) error {
			must(t, c.PingContext(ctx))
			s.beforeSyncs(during)
			if err := write(ctx, c); err != nil {
				return err
			}
			var who string
			err := c.QueryRowContext(ctx, "SELECT who FROM log WHERE id = last_insert_rowid()").Scan(&who)
			if who != name {
				t.Errorf("%s: last_insert_rowid is that of %q", name, who)
			}
			return err
		}))
	}
}

// TestContextEndsTheWaitForASync: the call ends with its error, and the commit stays.
func TestContextEndsTheWaitForASync(t *testing.T) {
	testdb.NoLeaks(t)
	s := openSyncing(t, quietDriver(), "", "")
	for _, w := range writes {
		if w.name == "Raw" { // has no context
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(WithUser(context.Background(), "1"))
			letGo := make(chan bool)
			s.beforeSyncs(func() error {
				cancel()
				<-letGo
				return nil
			})
			err := w.write(ctx, s.DB, w.name)
			close(letGo)
			s.beforeSyncs(nil)
			if !errors.Is(err, context.Canceled) || errors.Is(err, ErrNotDurable) {
				t.Errorf("got %v, want the context's error", err)
			}
			var n int
			must(t, s.QueryRow("SELECT count(*) FROM sqlite_master WHERE name = ?", "t"+w.name).Scan(&n))
			if n == 0 {
				must(t, s.QueryRow("SELECT count(*) FROM log WHERE who = ?", w.name).Scan(&n))
			}
			if n != 1 {
				t.Errorf("%d rows are there, want the one that was committed", n)
			}
		})
	}
}

var errNoDisk = errors.New("no disk")

// TestFailedSync: whoever waits for it, and every later write, gets ErrNotDurable, until a wal_checkpoint(TRUNCATE) has succeeded.
func TestFailedSync(t *testing.T) {
	testdb.NoLeaks(t)
	for _, w := range writes {
		t.Run(w.name, func(t *testing.T) {
			s := openSyncing(t, quietDriver(), "", "")
			s.beforeSyncs(func() error { return errNoDisk })
			ctx := WithUser(context.Background(), "1")
			if err := w.write(ctx, s.DB, w.name); !errors.Is(err, ErrNotDurable) || !errors.Is(err, errNoDisk) || !strings.Contains(err.Error(), "is committed") {
				t.Fatalf("the sync has failed: got %v", err)
			}
			s.beforeSyncs(nil)
			for i := range 2 {
				if err := w.write(ctx, s.DB, fmt.Sprint("later", i)); !errors.Is(err, ErrNotDurable) {
					t.Errorf("after that: got %v", err)
				}
			}
			var n int
			must(t, s.QueryRow("SELECT count(*) FROM log WHERE who LIKE 'later%'").Scan(&n))
			if n != 0 && w.name != "Raw" { // which is behind nothing
				t.Errorf("a later write was done")
			}
			mustExec(t, s, "PRAGMA wal_checkpoint(TRUNCATE)")
			if err := w.write(ctx, s.DB, "again"); err != nil {
				t.Errorf("after a checkpoint: %v", err)
			}
		})
	}
}

// TestOnlyACheckpointOfAllRestores: none that leaves something in the WAL.
func TestOnlyACheckpointOfAllRestores(t *testing.T) {
	testdb.NoLeaks(t)
	s := openSyncing(t, quietDriver(), "", "_busy_timeout=10")
	restores := func(query string, want bool) {
		t.Helper()
		s.beforeSyncs(func() error { return errNoDisk })
		s.Exec("INSERT INTO log (who) VALUES (hex(randomblob(8)))")
		s.beforeSyncs(nil)
		rows, err := s.Query(query)
		if err == nil {
			rows.Close()
		}
		_, err = s.Exec("INSERT INTO log (who) VALUES (hex(randomblob(8)))")
		if (err == nil) != want || err != nil && !errors.Is(err, ErrNotDurable) {
			t.Errorf("after %s: %v", query, err)
		}
	}
	restores("PRAGMA wal_checkpoint", false)
	restores("PRAGMA wal_checkpoint(PASSIVE)", false)
	restores("PRAGMA wal_checkpoint(RESTART)", false)
	restores("SELECT 'PRAGMA wal_checkpoint(TRUNCATE)'", false)
	restores("PRAGMA Main.WAL_Checkpoint=truncate", true)

	other, err := sql.Open("sqlite3", s.path) // as another process: it reads, and keeps the WAL
	must(t, err)
	defer other.Close()
	reads, err := other.Begin()
	must(t, err)
	must(t, countLog(context.Background())(reads))
	restores("PRAGMA wal_checkpoint(TRUNCATE)", false)
	reads.Rollback()
	restores("PRAGMA wal_checkpoint(TRUNCATE)", true)
}

// TestRowsThatAreNotReadAheadAreSyncedAtTheirEnd: SQLite commits no earlier.
func TestRowsThatAreNotReadAheadAreSyncedAtTheirEnd(t *testing.T) {
	testdb.NoLeaks(t)
	for _, close := range []bool{true, false} {
		for _, fails := range []bool{false, true} {
			s := openSyncing(t, quietDriver(), "spill_limit=1", "")
			before := s.count()
			rows, err := s.QueryContext(WithUser(context.Background(), "1"), "INSERT INTO log (who) VALUES ('a'), ('b'), ('c'), ('d') RETURNING who, hex(zeroblob(100))")
			must(t, err)
			if n := s.count() - before; n != 0 {
				t.Errorf("%d syncs before the end", n)
			}
			if fails {
				s.beforeSyncs(func() error { return errNoDisk })
			}
			if !close {
				for rows.Next() {
				}
				err = rows.Err()
				rows.Close()
			} else {
				rows.Next()
				err = rows.Close()
			}
			s.beforeSyncs(nil)
			if errors.Is(err, ErrNotDurable) != fails || (err == nil) == fails {
				t.Errorf("closed early: %v, sync fails: %v: got %v", close, fails, err)
			}
			if got := s.left(s.path, "SELECT count(*) FROM log"); !fails && got != "4" {
				t.Errorf("closed early: %v: after a power cut there is %q, want 4", close, got)
			}
		}
	}
}

// TestReadsThatWriteAreSynced, if the program says so: by itself at the end of its rows, and in a transaction with that.
func TestReadsThatWriteAreSynced(t *testing.T) {
	testdb.NoLeaks(t)
	s := openSyncing(t, quietDriver(), "", "")
	ctx := WithMode(WithUser(context.Background(), "1"), Exclusive)
	mustExec(t, s, "CREATE VIRTUAL TABLE words USING fts4(word)")
	const merges = "SELECT optimize(words) FROM words LIMIT 1" // writes, if there is something to do
	read := func(q interface {
		QueryRowContext(context.Context, string, ...any) *sql.Row
	}) error {
		var done string
		return q.QueryRowContext(ctx, merges).Scan(&done)
	}
	for name, f := range map[string]func() error{
		"by itself": func() error { return read(s) },
		"in a Tx":   func() error { return inTx(ctx, s, func(tx *sql.Tx) error { return read(tx) }) },
	} {
		mustExec(t, s, "INSERT INTO words VALUES ('one')")
		mustExec(t, s, "INSERT INTO words VALUES ('two')")
		before := s.count()
		must(t, f())
		if s.count() == before {
			t.Errorf("%s: it was not synced", name)
		}
	}
}
