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
	was := walsync.SyncFile
	walsync.SyncFile = s.sync
	t.Cleanup(func() { walsync.SyncFile = was }) // after the handle is closed
	s.DB = s.open(driver, options, params)
	mustExec(t, s, "CREATE TABLE log (id INTEGER PRIMARY KEY, who TEXT UNIQUE)")
	return s
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
	if wal != nil {
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

var errNoDisk = errors.New("no disk")
