package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestOtherJournalsSyncBySQLite: EXTRA, said once.
func TestOtherJournalsSyncBySQLite(t *testing.T) {
	testdb.NoLeaks(t)
	for _, mode := range []string{"DELETE", "TRUNCATE", "PERSIST"} {
		for _, level := range []string{"", "&_synchronous=NORMAL", "&_synchronous=EXTRA"} {
			file := testdb.SQLite(t)
			params := "?_journal_mode=" + mode + level
			db, log := openLogged(t, file+params, Durability(GroupDurability), MaxIdleConns(0))
			mustExec(t, db, "CREATE TABLE log (who TEXT)")
			for range 3 {
				mustExec(t, db, "INSERT INTO log VALUES ('a')")
			}
			if got := pragma(t, db, "synchronous"); got != "3" {
				t.Errorf("%s: synchronous is %s, want 3, EXTRA", params, got)
			}
			if n := strings.Count(log.String(), "synced by itself"); n != 1 {
				t.Errorf("%s: said %d times: %s", mode, n, log)
			}
			st, err := Stats(db)
			if must(t, err); st.Syncs != 0 {
				t.Errorf("%s: %d syncs of a WAL", mode, st.Syncs)
			}
		}
	}
	db, log := openLogged(t, ":memory:", Durability(GroupDurability))
	mustExec(t, db, "CREATE TABLE log (who TEXT)")
	if log.Len() > 0 {
		t.Errorf("in memory: %s", log)
	}
}

// TestJournalChangesUnderGroupSync: each commit is synced in the mode that it is in.
func TestJournalChangesUnderGroupSync(t *testing.T) {
	testdb.NoLeaks(t)
	s := openSyncing(t, quietDriver(), "", "_journal_mode=DELETE")
	other := s.open("sqlite3", "", "")
	write := func(db *sql.DB, who string) {
		t.Helper()
		_, err := db.ExecContext(WithUser(context.Background(), "1"), "INSERT INTO log (who) VALUES (?)", who)
		must(t, err)
		if got := s.left(s.path, "SELECT who FROM log WHERE who = '"+who+"'"); got != who {
			t.Errorf("after a power cut there is %q, want %q", got, who)
		}
	}
	for i, mode := range []string{"WAL", "DELETE", "WAL", "TRUNCATE", "WAL"} {
		if got := pragma(t, s, "journal_mode = "+mode); !strings.EqualFold(got, mode) {
			t.Fatalf("it is %s, not %s", got, mode)
		}
		want := "3"
		if mode == "WAL" {
			want = "1"
		}
		before := s.count()
		for j, db := range []*sql.DB{s.DB, other} {
			if got := pragma(t, db, "synchronous"); got != want {
				t.Errorf("%s, handle %d: synchronous is %s, want %s", mode, j, got, want)
			}
			write(db, fmt.Sprint(i, " ", j))
		}
		if n := s.count() - before; (n > 0) != (mode == "WAL") {
			t.Errorf("%s: %d syncs of a WAL", mode, n)
		}
	}
}

// TestWALIsDeletedAndMadeAnew: with the last connection, whose close copies what is in it.
func TestWALIsDeletedAndMadeAnew(t *testing.T) {
	testdb.NoLeaks(t)
	for _, options := range []string{"max_idle_conns=0", "max_idle_conns=1"} {
		s := openSyncing(t, quietDriver(), options, "")
		for i := range 20 {
			c, err := s.Conn(context.Background())
			must(t, err)
			_, err = c.ExecContext(context.Background(), "INSERT INTO log (who) VALUES (?)", fmt.Sprint(i))
			must(t, err)
			if got := s.left(s.path, "SELECT count(*) FROM log"); got != fmt.Sprint(i+1) {
				t.Errorf("%s: after a power cut there are %q rows, want %d", options, got, i+1)
			}
			c.Close()
			if i%5 == 4 {
				openBackend(t, s.DB).Database.Gate.CloseIdle()
			}
		}
	}
}

// TestAttachedFilesAreSynced: those that a statement, or a transaction, may have written to.
func TestAttachedFilesAreSynced(t *testing.T) {
	testdb.NoLeaks(t)
	s := openSyncing(t, quietDriver(), "", "")
	other := testdb.SQLite(t)
	attached, err := sql.Open("dblocker", "sqlite3:"+other)
	must(t, err)
	defer attached.Close()
	mustExec(t, attached, "CREATE TABLE far (who TEXT)")
	ctx := context.Background()
	onDisk := func(who string) {
		t.Helper()
		if got := s.left(other, "SELECT who FROM far WHERE who = '"+who+"'"); got != who {
			t.Errorf("after a power cut there is %q in the attached file, want %q", got, who)
		}
	}
	c, err := s.Conn(ctx)
	must(t, err)
	defer c.Close()
	exec := func(query string) {
		t.Helper()
		_, err := c.ExecContext(ctx, query)
		must(t, err)
	}
	exec("ATTACH '" + other + "' AS other; INSERT INTO far VALUES ('at once'); DETACH other")
	onDisk("at once")
	exec("ATTACH '" + other + "' AS other")
	exec("INSERT INTO far VALUES ('plain')")
	onDisk("plain")
	exec("BEGIN")
	exec("INSERT INTO far VALUES ('in a transaction')")
	exec("INSERT INTO log (who) VALUES ('in a transaction')")
	exec("COMMIT")
	onDisk("in a transaction")
	if got := s.left(s.path, "SELECT who FROM log"); got != "in a transaction" {
		t.Errorf("after a power cut there is %q in the file", got)
	}
	s.beforeSyncs(func() error { return errNoDisk })
	if _, err := c.ExecContext(ctx, "INSERT INTO far VALUES ('lost')"); !errors.Is(err, ErrNotDurable) {
		t.Errorf("the sync has failed: %v", err)
	}
	s.beforeSyncs(nil)
	exec("PRAGMA wal_checkpoint(TRUNCATE)")
	exec("INSERT INTO far VALUES ('again')")
	onDisk("again")
}

// TestHandlesShareSyncs: those with durability=group; and one without is as it is.
func TestHandlesShareSyncs(t *testing.T) {
	testdb.NoLeaks(t)
	s := openSyncing(t, quietDriver(), "", "")
	other := s.open("sqlite3", "", "")
	plain := openSQLite(t, "dblocker", "sqlite3:file:"+s.path)
	mustExec(t, other, "INSERT INTO log (who) VALUES ('before')") // its connection is there
	mustExec(t, plain, "INSERT INTO log (who) VALUES ('plain before')")
	began, letGo := make(chan bool, 10), make(chan bool)
	s.beforeSyncs(func() error {
		began <- true
		<-letGo
		return nil
	})
	const each = 5
	answers := make(chan error, 2*each+1)
	insert := func(db *sql.DB, who string) {
		_, err := db.ExecContext(WithUser(context.Background(), who), "INSERT INTO log (who) VALUES (?)", who)
		answers <- err
	}
	go insert(s.DB, "first")
	<-began
	for i := range each {
		go insert(s.DB, fmt.Sprint("a", i))
		go insert(other, fmt.Sprint("b", i))
	}
	for n := 0; n < 2*each+3; {
		must(t, plain.QueryRow("SELECT count(*) FROM log").Scan(&n))
	}
	mustExec(t, plain, "INSERT INTO log (who) VALUES ('plain')")
	if len(answers) > 0 {
		t.Errorf("a write is answered before its sync: %v", <-answers)
	}
	before := s.count()
	close(letGo)
	for range 2*each + 1 {
		must(t, <-answers)
	}
	if n := s.count() - before; n > 3 {
		t.Errorf("%d syncs for %d writes, want 2 or 3", n, 2*each+1)
	}
	if got := pragma(t, plain, "synchronous"); got != "1" {
		t.Errorf("the plain handle has synchronous %s", got)
	}
	for i, db := range []*sql.DB{s.DB, other, plain} {
		st, err := Stats(db)
		must(t, err)
		if i < 2 != (st.Syncs > 0) || i < 2 != (st.SyncWaits > 0) {
			t.Errorf("handle %d: %d syncs, %d waits", i, st.Syncs, st.SyncWaits)
		}
	}
}

// TestCombinedCallersShareASync: each waits for one after its commit, and their leader has given up the gate by then.
func TestCombinedCallersShareASync(t *testing.T) {
	testdb.NoLeaks(t)
	s := openSyncing(t, quietDriver(), "", "")
	mustExec(t, s, "CREATE TABLE counters (id TEXT PRIMARY KEY, n INTEGER)")
	const query = "INSERT INTO log (who) VALUES (?)"
	scene := &combineScene{s.DB, t}
	scene.short(query)
	env := &openBackend(t, s.DB).Combining
	env.Longest, env.Long = time.Hour, time.Hour
	began, letGo := make(chan bool, 10), make(chan bool)
	s.beforeSyncs(func() error {
		began <- true
		<-letGo
		return nil
	})
	var execs []*queuedExec
	for i := range 10 {
		execs = append(execs, call(i%3+1, query, fmt.Sprint(i)))
	}
	before := s.count()
	commit, committed := scene.queue(execs...), make(chan bool)
	go func() {
		defer close(committed)
		commit()
	}()
	<-began
	for n := 0; n < len(execs); { // its readers wait for no lock
		must(t, s.QueryRowContext(WithUser(context.Background(), "1"), "SELECT count(*) FROM log").Scan(&n))
	}
	s.beforeSyncs(nil)
	for _, e := range execs {
		select {
		case <-e.done:
			t.Errorf("a call is answered before its sync: %v", e.err)
		default:
		}
	}
	close(letGo)
	<-committed
	for _, e := range execs {
		<-e.done
		must(t, e.err)
	}
	if n, st := s.count()-before, scene.stats(); n > 3 || st.Combined == 0 {
		t.Errorf("%d syncs for %d calls, %d of them combined; want 3 at most", n, len(execs), st.Combined)
	}
	if got := s.left(s.path, "SELECT count(*) FROM log"); got != fmt.Sprint(len(execs)) {
		t.Errorf("after a power cut there are %s rows", got)
	}
}

// TestCombinedWritesAreOnDisk, also where transactions are among them.
func TestCombinedWritesAreOnDisk(t *testing.T) {
	testdb.NoLeaks(t)
	s := openSyncing(t, quietDriver(), "", "")
	const goroutines, calls = 16, 40
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range calls {
				who := fmt.Sprint(g, " ", i)
				var err error
				if i%4 == 0 {
					err = inTx(WithUser(context.Background(), g), s, func(tx *sql.Tx) error {
						_, err := tx.Exec("INSERT INTO log (who) VALUES (?)", who)
						return err
					})
				} else {
					_, err = s.ExecContext(WithUser(context.Background(), g), "INSERT INTO log (who) VALUES (?)", who)
				}
				if err != nil {
					t.Error(err)
				}
				s.mu.Lock()
				there := strings.Contains(string(s.synced[s.path+"-wal"]), who)
				s.mu.Unlock()
				if !there {
					t.Errorf("%q is answered and not synced", who)
				}
			}
		})
	}
	wg.Wait()
	st, err := Stats(s.DB)
	must(t, err)
	t.Logf("%d syncs for %d calls, %d batches of %d", s.count(), goroutines*calls, st.Batches, st.Combined)
}

// TestGroupSyncWithoutADSN: the file of a connector is asked of SQLite.
func TestGroupSyncWithoutADSN(t *testing.T) {
	testdb.NoLeaks(t)
	s := openSyncing(t, quietDriver(), "", "")
	db, err := OpenDB(dsnConnector{&sqlite3.SQLiteDriver{}, s.path}, Durability(GroupDurability))
	must(t, err)
	defer db.Close()
	before := s.count()
	mustExec(t, db, "INSERT INTO log (who) VALUES ('a')")
	if s.count() == before || s.left(s.path, "SELECT who FROM log") != "a" {
		t.Errorf("it was not synced")
	}
}

// TestGroupSyncOfUsersDatabases: a Store whose users have databases of their own, opened by us or by the program.
func TestGroupSyncOfUsersDatabases(t *testing.T) {
	testdb.NoLeaks(t)
	s := openSyncing(t, quietDriver(), "", "")
	write := func(store *Store, user string, then func()) error {
		return store.RWDo(user, context.Background(), "test", func(db *sqlx.DB) error {
			_, err := db.Exec("CREATE TABLE log (who TEXT)")
			then()
			return err
		})
	}
	files := map[string]string{"a": testdb.SQLite(t), "b": testdb.SQLite(t)}
	store, err := New(context.Background(), "sqlite3", "unused", false, Durability(GroupDurability),
		DSNFunc(func(_ context.Context, user string) (string, error) { return files[user], nil }))
	must(t, err)
	defer store.Close()
	for user, file := range files {
		must(t, write(store, user, func() {}))
		if got := s.left(file, "SELECT name FROM sqlite_master"); got != "log" {
			t.Errorf("user %s: after a power cut there is %q", user, got)
		}
	}
	for level, synced := range map[string]bool{"OFF": false, "NORMAL": true, "FULL": false} {
		file := testdb.SQLite(t)
		bare, err := sqlx.Open("sqlite3", "file:"+file+"?_journal_mode=WAL&_synchronous="+level)
		must(t, err)
		store, err := New(context.Background(), "sqlite3", "unused", false, Durability(GroupDurability),
			ConnectFunc(func(context.Context, string, string, string) (*sqlx.DB, error) { return bare, nil }))
		must(t, err)
		before := s.count()
		now := ""
		err = write(store, "a", func() { must(t, bare.Get(&now, "PRAGMA synchronous")) }) // after the last handle bare is closed
		if (err == nil) != (level != "OFF") {
			t.Errorf("the program's own connection with %s: %v", level, err)
		}
		if got := s.count() > before; got != synced {
			t.Errorf("the program's own connection with %s: synced %v, want %v", level, got, synced)
		}
		if want := map[string]string{"OFF": "0", "NORMAL": "1", "FULL": "2"}[level]; now != want {
			t.Errorf("the program's own connection with %s has %q now", level, now)
		}
		must(t, store.Close())
	}
}

// TestNoDescriptorIsLeft of the WAL when the handles are closed.
func TestNoDescriptorIsLeft(t *testing.T) {
	s := openSyncing(t, quietDriver(), "", "")
	open := func() (n int) {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		for _, fd := range fds {
			if name, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(name, s.path) {
				n++
			}
		}
		return n
	}
	if open() == 0 {
		t.Error("nothing is open before")
	}
	must(t, s.Close())
	if n := open(); n != 0 {
		t.Errorf("%d descriptors are left", n)
	}
}

// A dsnConnector is one that tells nobody its DSN.
type dsnConnector struct {
	driver driver.Driver
	dsn    string
}

func (c dsnConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c dsnConnector) Driver() driver.Driver                        { return c.driver }
