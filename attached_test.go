package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// attaching is a SQLite driver whose hook attaches to each connection what attachTo has for its
// main file, as other.
const attaching = "sqlite3-attaching"

var attachTo sync.Map

func init() {
	sql.Register(attaching, &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
		other, ok := attachTo.Load(c.GetFilename("main"))
		if !ok {
			return nil
		}
		_, err := c.Exec("ATTACH '"+other.(string)+"' AS other", nil)
		return err
	}})
}

// attachedFiles makes two files in journal modes, each with a table counters as openJournal
// has it, and returns their paths.
func attachedFiles(t *testing.T, modes [2]string) (paths [2]string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	for i, mode := range modes {
		paths[i] = filepath.Join(dir, fmt.Sprintf("%d.db", i))
		bareSQLite(t, paths[i]+"?_journal_mode="+mode,
			"CREATE TABLE counters (id VARCHAR(20) PRIMARY KEY, n BIGINT NOT NULL)", "INSERT INTO counters VALUES ('1', 0), ('2', 0), ('3', 0), ('4', 0)")
	}
	return paths
}

// openAttaching opens path with other attached, unless that is "".
func openAttaching(t *testing.T, options, path, other string) *sql.DB {
	t.Helper()
	if other != "" {
		attachTo.Store(path, other)
		t.Cleanup(func() { attachTo.Delete(path) })
	}
	return openSQLite(t, "dblocker", attaching+"?"+options+":file:"+path+"?_busy_timeout=100&_sync=OFF")
}

var attachedModes = [][2]string{{"WAL", "WAL"}, {"DELETE", "DELETE"}, {"WAL", "DELETE"}, {"DELETE", "WAL"}}

// TestAttachedFilesAreNeverBusy: handles that have each other's file attached, and one that has
// none, do all kinds of work at once, and nobody hears of SQLite's locks.
func TestAttachedFilesAreNeverBusy(t *testing.T) {
	for _, modes := range attachedModes {
		t.Run(modes[0]+" "+modes[1], func(t *testing.T) {
			testdb.NoLeaks(t)
			paths := attachedFiles(t, modes)
			dbs := []*sql.DB{
				openAttaching(t, "self_wait=30s", paths[0], paths[1]),
				openSQLite(t, "dblocker", "sqlite3?self_wait=30s:file:"+paths[1]+"?_busy_timeout=100&_sync=OFF"),
			}
			ctx, cancel := context.WithTimeout(context.Background(), testTime(time.Second))
			defer cancel()
			var wg sync.WaitGroup
			loads := make([]*sqliteLoad, len(dbs))
			for i, db := range dbs {
				loads[i] = &sqliteLoad{t: t, db: db, mode: modes[i]}
				for n := range 12 {
					wg.Go(func() {
						for ctx.Err() == nil {
							loads[i].step(n%4+1, n%2 == 0)
						}
					})
				}
			}
			wg.Go(func() { // both files in one statement and one transaction
				for ctx.Err() == nil {
					mustWriteBoth(t, dbs[0])
				}
			})
			wg.Go(func() { // attached by text, the other way round
				for ctx.Err() == nil {
					attachByText(t, dbs[1], paths[0])
				}
			})
			wg.Wait()
			for i, db := range dbs {
				var n int64
				must(t, db.QueryRow("SELECT SUM(n) FROM counters WHERE id <> '4'").Scan(&n))
				var ok string
				must(t, db.QueryRow("PRAGMA integrity_check").Scan(&ok))
				if ok != "ok" {
					t.Errorf("file %d: %s", i, ok)
				}
				t.Logf("file %d: %d updates, %d reads", i, n, loads[i].reads.Load())
			}
		})
	}
}

func mustWriteBoth(t *testing.T, db *sql.DB) {
	tx, err := db.Begin()
	if err != nil {
		t.Error(err)
		return
	}
	defer tx.Rollback()
	for _, query := range []string{"UPDATE main.counters SET n = n WHERE id = '4'", "UPDATE other.counters SET n = n WHERE id = '4'"} {
		if _, err := tx.Exec(query); err != nil {
			t.Error(err)
			return
		}
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
}

func attachByText(t *testing.T, db *sql.DB, path string) {
	ctx := context.Background()
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	for _, query := range []string{
		"ATTACH '" + path + "' AS first", "UPDATE first.counters SET n = n WHERE id = '4'", "BEGIN IMMEDIATE", "UPDATE counters SET n = n WHERE id = '4'",
		"UPDATE first.counters SET n = n WHERE id = '4'", "COMMIT", "SELECT COUNT(*) FROM first.counters, counters", "DETACH first",
	} {
		if _, err := conn.ExecContext(ctx, query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// TestTransactionLocksAttachedFiles, be it that it writes only to the main one: others wait for
// it, and are told of nothing by SQLite. What is in nobody's way is in nobody's way there
// either, and what is detached is free.
func TestTransactionLocksAttachedFiles(t *testing.T) {
	for _, modes := range attachedModes {
		testdb.NoLeaks(t)
		paths := attachedFiles(t, modes)
		a, b := openAttaching(t, "", paths[0], paths[1]), openSQLite(t, "dblocker", "sqlite3?lock_timeout=0:"+paths[1])
		free := func(when string, want bool) {
			t.Helper()
			_, err := b.ExecContext(asUser(2), "UPDATE counters SET n = n + 1")
			if want && err != nil || !want && !errors.Is(err, ErrLockTimeout) {
				t.Errorf("%v: %s, a write of the other handle: %v", modes, when, err)
			}
		}
		tx, err := a.BeginTx(asUser(1), nil)
		must(t, err)
		free("beside an idle transaction", true)
		mustExec(t, tx, "UPDATE main.counters SET n = 5")
		free("beside a transaction", false)
		if err := b.QueryRow("SELECT n FROM counters").Scan(new(int)); (modes[1] == "WAL") != (err == nil) || err != nil && !errors.Is(err, ErrLockTimeout) {
			t.Errorf("%v: a read beside it: %v", modes, err)
		}
		must(t, tx.Commit())
		free("afterwards", true)

		conn, err := b.Conn(context.Background())
		must(t, err)
		mustExec(t, conn, "ATTACH '"+paths[0]+"' AS first")
		other := openSQLite(t, "dblocker", "sqlite3?lock_timeout=0:"+paths[0])
		mustExec(t, conn, "DETACH first")
		mustExec(t, conn, "BEGIN IMMEDIATE")
		mustExec(t, other, "UPDATE counters SET n = 7")
		mustExec(t, conn, "ATTACH '"+paths[0]+"' AS first")
		mustExec(t, conn, "UPDATE first.counters SET n = 8")
		if err := execError(other, "UPDATE counters SET n = 9"); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("%v: beside a transaction that has attached the file: %v", modes, err)
		}
		mustExec(t, conn, "COMMIT")
		must(t, conn.Close())
		must(t, a.Close())
		must(t, b.Close())
		must(t, other.Close())
		if n := databasesIn(t, filepath.Dir(paths[0])); n != 0 {
			t.Errorf("%v: %d files are registered after all handles were closed", modes, n)
		}
	}
}

// TestAttachedElsewhere: a statement that draws a connection which has attached more than it knew
// of passes that gate too.
func TestAttachedElsewhere(t *testing.T) {
	testdb.NoLeaks(t)
	paths := attachedFiles(t, [2]string{"WAL", "WAL"})
	db, other := openSQLite(t, "sqlite3-dblocker", paths[0]), openSQLite(t, "dblocker", "sqlite3?lock_timeout=0:"+paths[1])
	conn, err := db.Conn(context.Background())
	must(t, err)
	must(t, conn.Raw(func(dc any) error { // of which no text tells
		return dc.(RawConn).Raw(func(inner any) error {
			_, err := inner.(*sqlite3.SQLiteConn).Exec("ATTACH '"+paths[1]+"' AS other", nil)
			return err
		})
	}))
	must(t, conn.Close())
	tx, err := db.Begin()
	must(t, err)
	mustExec(t, tx, "UPDATE other.counters SET n = 1")
	if err := execError(other, "UPDATE counters SET n = 2"); !errors.Is(err, ErrLockTimeout) {
		t.Errorf("a write to the attached file: got %v, want ErrLockTimeout", err)
	}
	must(t, db.Close())
	must(t, tx.Rollback())
	mustExec(t, other, "UPDATE counters SET n = 2")
	must(t, other.Close())
	if n := databasesIn(t, filepath.Dir(paths[0])); n != 0 {
		t.Errorf("%d files are registered after all handles were closed", n)
	}
}

// TestJournalOfAnAttachedFile: its readers shut out writers once it has left WAL mode, by
// whatever handle.
func TestJournalOfAnAttachedFile(t *testing.T) {
	testdb.NoLeaks(t)
	paths := attachedFiles(t, [2]string{"WAL", "DELETE"})
	db, other := openAttaching(t, "lock_timeout=0", paths[0], paths[1]), openSQLite(t, "dblocker", "sqlite3?lock_timeout=0:"+paths[1])
	for _, mode := range []string{"DELETE", "WAL", "DELETE"} {
		must(t, db.QueryRow("PRAGMA other.journal_mode = "+mode).Scan(new(string)))
		rows, err := db.Query("SELECT n FROM other.counters")
		must(t, err)
		rows.Next()
		err = execError(other, "UPDATE counters SET n = n + 1")
		if mode == "WAL" && err != nil || mode != "WAL" && !errors.Is(err, ErrLockTimeout) {
			t.Errorf("%s: a write beside rows of the attached file: %v", mode, err)
		}
		must(t, rows.Close())
		must(t, execError(other, "UPDATE counters SET n = n + 1"))
		must(t, other.Close()) // SQLite leaves WAL mode only when no other connection has the file open
		other = openSQLite(t, "dblocker", "sqlite3?lock_timeout=0:"+paths[1])
	}
}
