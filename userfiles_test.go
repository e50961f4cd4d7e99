package dblocker_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
)

// notesIn returns the notes of a SQLite file, on the bare driver.
func notesIn(t *testing.T, path string) string {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+path+"?mode=rw")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	return note(t, db, t.Context())
}

// TestBackupOfAUser: a copy of the user's own database, with the rights of its file, that is whole; a file that is there stays as it is.
func TestBackupOfAUser(t *testing.T) {
	db, dir := tenantDB(t, "")
	noted(t, db, "ann")
	noted(t, db, "bob")
	if err := os.Chmod(filepath.Join(dir, "uann.db"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "ann 'copy'.db")
	if err := dblocker.Backup(as(t, "ann"), db, to); err != nil {
		t.Fatal(err)
	}
	if n := notesIn(t, to); n != "ann" {
		t.Errorf("the copy has the notes %q", n)
	}
	if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy: %v, %v", info.Mode(), err)
	}
	noted(t, db, "ann")
	if err := dblocker.Backup(as(t, "ann"), db, to); !errors.Is(err, fs.ErrExist) {
		t.Errorf("where a file is already: %v", err)
	}
	if n := notesIn(t, to); n != "ann" {
		t.Errorf("the file that was there has the notes %q now", n)
	}
	if left, _ := os.ReadDir(filepath.Dir(to)); len(left) != 1 {
		t.Errorf("there are files besides: %v", left)
	}
	for ctx, want := range map[context.Context]error{as(t, "nobody"): dblocker.ErrNoDatabase, t.Context(): dblocker.ErrNoUser} {
		if err := dblocker.Backup(ctx, db, to+"2"); !errors.Is(err, want) {
			t.Errorf("want %v, got %v", want, err)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.db")); len(files) != 2 {
		t.Errorf("there are files of others: %v", files)
	}
}

// TestBackupKeepsTheJournal: a database that is in WAL mode is so in its copy, and another one is not. Both are whole.
func TestBackupKeepsTheJournal(t *testing.T) {
	for _, journal := range []string{"wal", "delete", "truncate"} {
		db, err := sql.Open("dblocker", "sqlite3:file:"+filepath.Join(t.TempDir(), "app.db")+"?_journal_mode="+journal)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		noted(t, db, "ann")
		to := filepath.Join(t.TempDir(), "copy.db")
		if err := dblocker.Backup(t.Context(), db, to); err != nil {
			t.Fatal(err)
		}
		bare, err := sql.Open("sqlite3", to)
		if err != nil {
			t.Fatal(err)
		}
		defer bare.Close()
		var got, integrity string
		err = bare.QueryRow("PRAGMA journal_mode").Scan(&got)
		err2 := bare.QueryRow("PRAGMA integrity_check").Scan(&integrity)
		want := journal
		if journal != "wal" {
			want = "delete" // of which SQLite keeps no more than that it is not WAL
		}
		if err != nil || err2 != nil || got != want || integrity != "ok" {
			t.Errorf("the copy of a database with journal %s has %s, and is %s; %v, %v", journal, got, integrity, err, err2)
		}
		if n := note(t, bare, t.Context()); n != "ann" {
			t.Errorf("the copy has the notes %q", n)
		}
	}
}

// TestBackupTakesTheSharedLock: readers of the user go on, its writers wait, and those of others do not.
func TestBackupTakesTheSharedLock(t *testing.T) {
	db, _ := tenantDB(t, "?lock_timeout=100ms")
	noted(t, db, "ann")
	noted(t, db, "bob")
	ctx, unlock, err := dblocker.RLock(as(t, "ann"), db)
	if err != nil {
		t.Fatal(err)
	}
	if err := dblocker.Backup(as(t, "ann"), db, filepath.Join(t.TempDir(), "1.db")); err != nil {
		t.Errorf("beside a reader: %v", err)
	}
	if err := dblocker.Backup(ctx, db, filepath.Join(t.TempDir(), "2.db")); err != nil {
		t.Errorf("inside a shared section: %v", err)
	}
	unlock()
	ctx, unlock, err = dblocker.Lock(as(t, "ann"), db)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := dblocker.Backup(as(t, "ann"), db, filepath.Join(t.TempDir(), "3.db")); !errors.Is(err, dblocker.ErrLockTimeout) {
		t.Errorf("beside a writer: %v", err)
	}
	if err := dblocker.Backup(as(t, "bob"), db, filepath.Join(t.TempDir(), "4.db")); err != nil {
		t.Errorf("beside the writer of another user: %v", err)
	}
	if err := dblocker.Backup(ctx, db, filepath.Join(t.TempDir(), "5.db")); err != nil {
		t.Errorf("inside an exclusive section: %v", err)
	}
}

// TestBackupOfAFileForAll: with whatever journal, while others write; nothing is half there. So with a database in memory.
func TestBackupOfAFileForAll(t *testing.T) {
	for _, dsn := range []string{"file:%s?_journal_mode=WAL", "file:%s?_journal_mode=DELETE", ":memory:"} {
		if strings.Contains(dsn, "%s") {
			dsn = fmt.Sprintf(dsn, filepath.Join(t.TempDir(), "all.db"))
		}
		db, err := sql.Open("sqlite3-dblocker", dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec("CREATE TABLE pairs (a, b)"); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var writing sync.WaitGroup
		for u := range 4 {
			writing.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					if _, err := db.ExecContext(dblocker.WithUser(t.Context(), fmt.Sprint(u)), "INSERT INTO pairs VALUES (?, ?), (?, ?)", u, n, u, n); err != nil {
						t.Errorf("%s: %v", dsn, err)
						return
					}
				}
			})
		}
		for i := range 5 {
			to := filepath.Join(t.TempDir(), fmt.Sprint(i))
			for ctx, who := range map[context.Context]string{t.Context(): "nobody", as(t, "reader"): "reader"} {
				to := to + who
				if err := dblocker.Backup(ctx, db, to); err != nil {
					t.Errorf("%s, %s: %v", dsn, who, err)
					continue
				}
				copied, err := sql.Open("sqlite3", to)
				if err != nil {
					t.Fatal(err)
				}
				defer copied.Close()
				var odd int
				if err := copied.QueryRow("SELECT count(*) FROM (SELECT count(*) c FROM pairs GROUP BY a, b) WHERE c <> 2").Scan(&odd); err != nil || odd != 0 {
					t.Errorf("%s: %d are not pairs, %v", dsn, odd, err)
				}
			}
		}
		stop()
		writing.Wait()
	}
}

// TestBackupThatFails leaves nothing: without a directory, or when its context has ended.
func TestBackupThatFails(t *testing.T) {
	db, _ := tenantDB(t, "")
	noted(t, db, "ann")
	if err := dblocker.Backup(as(t, "ann"), db, filepath.Join(t.TempDir(), "none", "copy.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the directory: %v", err)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(as(t, "ann"))
	cancel()
	if err := dblocker.Backup(ctx, db, filepath.Join(dir, "copy.db")); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("there is %v", left)
	}
}

// TestRemoveUser: the files are gone, those of others are not, and the user begins anew; with create=off there is no database any more.
func TestRemoveUser(t *testing.T) {
	for _, pattern := range []string{"{user}.db", "{user}/app.db", "of-{user}/{user}.db"} {
		for _, create := range []string{"on", "off"} {
			dir := t.TempDir()
			seed, err := sql.Open("dblocker", "sqlite3:"+filepath.Join(dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			noted(t, seed, "ann")
			noted(t, seed, "bob")
			seed.Close()
			db, err := sql.Open("dblocker", "sqlite3?create="+create+":"+filepath.Join(dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			note(t, db, as(t, "ann"))
			if err := dblocker.RemoveUser(as(t, "ann"), db); err != nil {
				t.Fatal(err)
			}
			if left := filesWith(t, dir, "ann"); len(left) > 0 {
				t.Errorf("%s: there is %v", pattern, left)
			}
			if n := note(t, db, as(t, "bob")); n != "bob" {
				t.Errorf("bob has %q", n)
			}
			if err := dblocker.RemoveUser(as(t, "ann"), db); !errors.Is(err, dblocker.ErrNoDatabase) {
				t.Errorf("a second time: %v", err)
			}
			_, err = db.ExecContext(as(t, "ann"), "CREATE TABLE notes (n)")
			if create == "on" && err != nil || create == "off" && !errors.Is(err, dblocker.ErrNoDatabase) {
				t.Errorf("create=%s: afterwards %v", create, err)
			}
		}
	}
}

// filesWith returns the paths below dir that have the text.
func filesWith(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); err == nil && strings.Contains(rel, text) {
			found = append(found, rel)
		}
		return err
	})
	return found
}

// TestFilesOfAHandleOfAStore: it stays on its user's, with or without a context that names the user; a context of another one is refused.
func TestFilesOfAHandleOfAStore(t *testing.T) {
	dir := t.TempDir()
	store, err := dblocker.New(t.Context(), "sqlite3", filepath.Join(dir, "{user}.db"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	exists := func(user string) bool {
		_, err := os.Stat(filepath.Join(dir, "u"+user+".db"))
		return err == nil
	}
	for i, ctx := range []context.Context{t.Context(), as(t, "ann")} {
		cancelBob, bobs, err := store.RWGetDB("bob", t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		noted(t, bobs.DB, "bob")
		cancelBob()
		cancel, anns, err := store.RWGetDB("ann", t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		noted(t, anns.DB, "ann")
		copied := filepath.Join(t.TempDir(), "copy.db")
		if err := dblocker.Backup(ctx, anns, copied); err != nil || notesIn(t, copied) != "ann" {
			t.Errorf("context %d: the copy: %v", i, err)
		}
		for name, f := range map[string]func() error{
			"RemoveUser": func() error { return dblocker.RemoveUser(as(t, "bob"), anns) },
			"Backup":     func() error { return dblocker.Backup(as(t, "bob"), anns, copied+"2") },
		} {
			if err := f(); err == nil || !strings.Contains(err.Error(), "the handle is that of user \"ann\"") || !exists("bob") {
				t.Errorf("%s of bob on ann's handle: %v", name, err)
			}
		}
		if err := dblocker.RemoveUser(ctx, anns); err != nil || exists("ann") || !exists("bob") {
			t.Errorf("context %d: ann's file is there: %v, bob's: %v; %v", i, exists("ann"), exists("bob"), err)
		}
		cancel()
	}
}

// TestRemoveUserWhileOthersWait: whatever waits for the lock, statements, transactions and sections, is done on the new database, and nothing of it is lost.
func TestRemoveUserWhileOthersWait(t *testing.T) {
	db, dir := tenantDB(t, "")
	do := map[string]func(ctx context.Context, who string) error{
		"Exec": func(ctx context.Context, who string) error {
			_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS notes (n TEXT)")
			return err
		},
		"Tx": func(ctx context.Context, who string) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if _, err := tx.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS notes (n TEXT)"); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "INSERT INTO notes VALUES (?)", who); err != nil {
				return err
			}
			return tx.Commit()
		},
		"section": func(ctx context.Context, who string) error {
			return dblocker.Do(ctx, db, func(ctx context.Context) error {
				if _, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS notes (n TEXT)"); err != nil {
					return err
				}
				_, err := db.ExecContext(ctx, "INSERT INTO notes VALUES (?)", who)
				return err
			})
		},
	}
	const rounds = 10
	for round := range rounds {
		noted(t, db, "ann")
		ctx, unlock, err := dblocker.Lock(as(t, "ann"), db)
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		all.Go(func() {
			if err := dblocker.RemoveUser(as(t, "ann"), db); err != nil {
				t.Errorf("RemoveUser: %v", err)
			}
		})
		awaitWaiting(t, db, 1)
		for what, f := range do {
			for i := range 3 {
				all.Go(func() {
					if err := f(as(t, "ann"), fmt.Sprint(what, i)); err != nil {
						t.Errorf("%s: %v", what, err)
					}
				})
			}
		}
		awaitWaiting(t, db, 10)
		if n := note(t, db, ctx); n != "ann" {
			t.Errorf("inside the section that is in the way: %q", n)
		}
		unlock()
		all.Wait()
		var n, old int
		if err := db.QueryRowContext(as(t, "ann"), "SELECT count(*), coalesce(sum(n = 'ann'), 0) FROM notes").Scan(&n, &old); err != nil || n != 6 || old != 0 {
			t.Fatalf("round %d: there are %d notes, of which %d old ones, %v; want the 6 of those who have waited", round, n, old, err)
		}
		if err := dblocker.RemoveUser(as(t, "ann"), db); err != nil {
			t.Fatal(err)
		}
	}
	if left := filesWith(t, dir, "ann"); len(left) > 0 {
		t.Errorf("there is %v", left)
	}
}

func awaitWaiting(t *testing.T, db *sql.DB, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		st, err := dblocker.Stats(db)
		if err != nil {
			t.Fatal(err)
		}
		if st.Waiting >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, want %d", st.Waiting, n)
		}
	}
}

// TestRemoveUserRefuses what would leave a request, another process or a reader without its file.
func TestRemoveUserRefuses(t *testing.T) {
	db, dir := tenantDB(t, "?lock_timeout=100ms&self_wait=100ms")
	noted(t, db, "ann")
	check := func(what string, ctx context.Context, want error, words string) {
		t.Helper()
		err := dblocker.RemoveUser(ctx, db)
		if err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", what, err)
		}
		if n := note(t, db, as(t, "ann")); n != "ann" {
			t.Errorf("%s: there are %q", what, n)
		}
	}
	check("without a user", t.Context(), dblocker.ErrNoUser, "")
	ctx, unlock, err := dblocker.RLock(as(t, "ann"), db)
	if err != nil {
		t.Fatal(err)
	}
	check("beside a reader", as(t, "ann"), dblocker.ErrLockTimeout, "")
	check("in a shared section", ctx, dblocker.ErrReadOnly, "")
	unlock()

	own := as(t, "ann")
	tx, err := db.BeginTx(own, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := dblocker.RemoveUser(own, db); !errors.Is(err, dblocker.ErrLockTimeout) && !errors.Is(err, dblocker.ErrDeadlock) {
		t.Errorf("beside an own transaction: %v", err)
	}
	tx.Rollback()
	rows, err := db.QueryContext(own, "SELECT n FROM notes")
	if err != nil {
		t.Fatal(err)
	}
	check("beside own rows", own, nil, "this request itself")
	rows.Close()

	other, err := sql.Open("sqlite3", filepath.Join(dir, "uann.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	note(t, other, t.Context())
	check("beside another handle", as(t, "ann"), nil, "another handle")
	other.Close()
	if err := dblocker.RemoveUser(as(t, "ann"), db); err != nil {
		t.Error(err)
	}
}

// TestRemoveUserAfterACrash: files that a process has left beside the database are no sign of another one.
func TestRemoveUserAfterACrash(t *testing.T) {
	db, dir := tenantDB(t, "")
	noted(t, db, "ann")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		b, err := os.ReadFile(filepath.Join(dir, "uann.db"+suffix))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "ubob.db"+suffix), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"ucid.db": "no database, but longer than the head of one, that is sure: " + strings.Repeat("x", 200), "ucid.db-shm": "x", "ucid.db-journal": "x", "ucid.db-locks": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range []string{"bob", "cid"} {
		if err := dblocker.RemoveUser(as(t, user), db); err != nil {
			t.Errorf("%s: %v", user, err)
		}
		if left := filesWith(t, dir, user); len(left) > 0 {
			t.Errorf("there is %v", left)
		}
	}
}

// TestFilesOfServers: what is for files says so, and what to use.
func TestFilesOfServers(t *testing.T) {
	one, err := sql.Open("dblocker", "sqlite3:"+filepath.Join(t.TempDir(), "all.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	server, err := sql.Open("dblocker", "postgres:host=localhost dbname={user}")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, c := range []struct {
		err   error
		words string
	}{
		{dblocker.RemoveUser(as(t, "ann"), one), "{user}"},
		{dblocker.RemoveUser(as(t, "ann"), server), "DROP SCHEMA or DROP DATABASE with the name uann"},
		{dblocker.Backup(as(t, "ann"), server, "x"), "pg_dump"},
	} {
		if !errors.Is(c.err, errors.ErrUnsupported) || !strings.Contains(c.err.Error(), c.words) {
			t.Errorf("want words of %s, got %v", c.words, c.err)
		}
	}
}
