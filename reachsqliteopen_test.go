package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestReachFileRefused: where locks among processes cannot be had, the handle says why, and what to write instead.
func TestReachFileRefused(t *testing.T) {
	path := testdb.SQLite(t)
	for params, says := range map[string]string{
		"immutable=1":              "leave one of the two out",
		"nolock=1":                 "leave one of the two out",
		"_locking_mode=EXCLUSIVE":  "leave one of the two out",
		"vfs=unix-none":            "write vfs=unix",
		"vfs=unix-excl":            "write vfs=unix",
		"vfs=unix-dotfile&mode=ro": "write vfs=unix",
		"mode=ro":                  "no database file yet",
		"mode=rw":                  "no database file yet",
	} {
		t.Run(params, func(t *testing.T) { isRefused(t, "sqlite3?lock_scope=database:file:"+path+"?"+params, says) })
	}
	t.Run("a file that is none", func(t *testing.T) {
		isRefused(t, "sqlite3?lock_scope=database:"+filepath.Dir(path), "no ordinary file")
	})
	t.Run("a lock file that is none", func(t *testing.T) {
		path := testdb.SQLite(t)
		must(t, os.Mkdir(path+"-locks", 0o700))
		isRefused(t, "sqlite3?lock_scope=database:"+path, "lock file")
	})
	t.Run("a connector", func(t *testing.T) {
		_, err := NewConnector(dsnConnector{&sqlite3.SQLiteDriver{}, path}, LockScope(DatabaseScope))
		if err == nil || !strings.Contains(err.Error(), "by its driver and DSN") {
			t.Errorf("got %v", err)
		}
	})
}

// isRefused fails the test unless a handle cannot be opened, or used, for a reason that says something.
func isRefused(t *testing.T, dsn, says string) {
	t.Helper()
	db, err := sql.Open("dblocker", dsn)
	if err == nil {
		err = db.Ping()
		db.Close()
	}
	if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "lock_scope=database") {
		t.Errorf("got %v, want an error that says %q", err, says)
	}
}

// TestReachFileReadOnlyDirectory: where no lock file can be made, the handle says so; where there is one, it is used.
func TestReachFileReadOnlyDirectory(t *testing.T) {
	if os.Getenv(childTask) != "" {
		isRefused(t, "sqlite3?lock_scope=database:file:"+os.Getenv(childTask)+"?mode=ro", "lock file")
		return
	}
	dir := openDir(t)
	path := filepath.Join(dir, "test.db")
	bareSQLite(t, path, "CREATE TABLE t (n)")
	must(t, os.Chmod(dir, 0o555))
	t.Cleanup(func() { os.Chmod(dir, 0o755) })
	runChild(t, "TestReachFileReadOnlyDirectory", path)
}

// TestReachFilePrivate: a database that no other process can open needs no lock among processes.
func TestReachFilePrivate(t *testing.T) {
	testdb.NoLeaks(t)
	wd := t.TempDir()
	t.Chdir(wd)
	for _, dsn := range []string{":memory:", "file:shared?mode=memory&cache=shared", ""} {
		db, err := sql.Open("dblocker", "sqlite3?lock_scope=database:"+dsn)
		must(t, err)
		ctx, unlock, err := Lock(WithUser(context.Background(), "a"), db)
		must(t, err)
		_, err = db.ExecContext(ctx, "CREATE TABLE t (n)")
		must(t, err)
		unlock()
		must(t, db.Close())
	}
	if files, _ := filepath.Glob(filepath.Join(wd, "*")); len(files) > 0 {
		t.Errorf("there are files: %v", files)
	}
}

// TestReachFileMixed: the handles of a process on one file, or of one lockspace, must agree.
func TestReachFileMixed(t *testing.T) {
	path, other := testdb.SQLite(t), testdb.SQLite(t)
	open := func(options, path string) *sql.DB {
		db, err := sql.Open("dblocker", "sqlite3?"+options+":"+path)
		must(t, err)
		t.Cleanup(func() { db.Close() })
		return db
	}
	must(t, open("lock_scope=database&lockspace=one", path).Ping())
	for _, c := range []struct{ options, path, says string }{
		{"lock_scope=process", path, "open all of them in one way"},
		{"lock_scope=process&lockspace=one", path, "open all of them in one way"},
		{"lock_scope=process&lockspace=two", path, "open all of them in one way"},
		{"lock_scope=database&lockspace=one", other, "a lockspace of its own"},
	} {
		if err := open(c.options, c.path).Ping(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s on %s: got %v, want an error that says %q", c.options, c.path, err, c.says)
		}
	}
	must(t, open("lock_scope=database&lockspace=three", path).Ping())
	must(t, open("lock_scope=database", path).Ping())
	must(t, open("lock_scope=database&lockspace=two", other).Ping())
}

// TestReachFileLockspaces: the locks of several lockspaces on one file have nothing to do with each other, in several processes, too.
func TestReachFileLockspaces(t *testing.T) {
	s := newFileScene(t, "&lockspace=one", "")
	p := newPeer(t, s.dsn(""))
	q := newPeer(t, fileDSN(s.path, "&lockspace=two", ""))
	p.do("section", "it", "a")
	s.keptOut("try", "a")
	q.do("try", "a")
	p.do("end", "it")
	q.do("section", "it", "a")
	must(t, s.do("try", "a"))
}

// TestReachFileReplaced: when the lock file is gone, nothing is to be had any more, since others may make a new one.
func TestReachFileReplaced(t *testing.T) {
	s := newFileScene(t, "", "")
	must(t, os.Remove(s.path+"-locks"))
	s.soon("an error", func() bool {
		err := s.do("write", "a")
		return err != nil && strings.Contains(err.Error(), "lock file was deleted or replaced")
	})
}

// TestReachFileAttached: a write passes the gates of attached files among processes, too.
func TestReachFileAttached(t *testing.T) {
	for journal, params := range journals {
		t.Run(journal, func(t *testing.T) {
			s := newFileScene(t, "&lock_timeout=1m", params)
			other := &fileScene{T: t, path: filepath.Join(filepath.Dir(s.path), "other.db")}
			bareSQLite(t, other.path+"?_journal_mode="+journal, "CREATE TABLE others (name TEXT PRIMARY KEY, n INT)", "CREATE TABLE counters (name TEXT PRIMARY KEY, n INT)", "INSERT INTO counters VALUES ('a', 0)")
			p := newPeer(t, fileDSN(other.path, "", params))
			c, err := s.db.Conn(context.Background())
			must(t, err)
			defer c.Close()
			ctx := WithUser(context.Background(), "b")
			_, err = c.ExecContext(ctx, "ATTACH ? AS other", other.path)
			must(t, err)
			answer := p.begin("count", 4, 50, "write")
			for range 50 {
				tx, err := c.BeginTx(ctx, nil)
				must(t, err)
				_, err = tx.ExecContext(ctx, "UPDATE other.counters SET n = n + 1 WHERE name = 'a'")
				must(t, err)
				must(t, tx.Commit())
			}
			if text := p.await(answer); text != "ok" {
				t.Error(text)
			}
			var n int
			must(t, c.QueryRowContext(ctx, "SELECT n FROM other.counters WHERE name = 'a'").Scan(&n))
			if n != 250 {
				t.Errorf("the counter is at %d, want 250", n)
			}
		})
	}
}

// TestReachFileStore: the handles of a Store exclude other processes, each by the lock file of its own database.
func TestReachFileStore(t *testing.T) {
	testdb.NoLeaks(t)
	dir := t.TempDir()
	ctx := context.Background()
	file := func(user string) string { return filepath.Join(dir, user+".db") }
	store, err := New(ctx, "sqlite3", file("none"), false, LockScope(DatabaseScope),
		DSNFunc(func(_ context.Context, user string) (string, error) {
			return "file:" + file(user) + "?_busy_timeout=0", nil
		}))
	must(t, err)
	defer store.Close()
	for _, user := range []string{"a", "b"} {
		cancel, db, err := store.RWGetDB(user, WithUser(ctx, user), "test")
		must(t, err)
		_, err = db.Exec("CREATE TABLE counters (name TEXT PRIMARY KEY, n INT)")
		must(t, err)
		p := newPeer(t, fileDSN(file(user), "", ""))
		p.keptOut("try", user)
		p.do("try", "other")
		cancel()
		p.do("section", "it", user)
		short, stop := context.WithTimeout(WithUser(ctx, user), filePatience)
		if cancel, _, err := store.ReadGetDB(user, short, "test"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("beside a section of another process: got %v", err)
			cancel()
		}
		stop()
		p.do("end", "it")
		if _, err := os.Stat(file(user) + "-locks"); err != nil {
			t.Error(err)
		}
	}
}
