package dblocker_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

var tenantDrivers atomic.Int64

// tenantDBWith is tenantDB with options that have no form in a DSN.
func tenantDBWith(t *testing.T, pattern string, opts ...dblocker.Option) *sql.DB {
	t.Helper()
	bare, err := sql.Open("sqlite3", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	name := "tenants" + string(rune('a'+tenantDrivers.Add(1)))
	if err := dblocker.Register(name, bare.Driver(), append(opts, dblocker.Dialect("sqlite"))...); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open(name, pattern)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestOnOpen: it is called each time a database is opened, before anybody's statement, and all that it does is in its section, with
// whatever context.
func TestOnOpen(t *testing.T) {
	var calls sync.Map
	onOpen := func(ctx context.Context, user string, db *sql.DB) error {
		n, _ := calls.LoadOrStore(user, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		if _, err := db.Exec("CREATE TABLE IF NOT EXISTS notes (n)"); err != nil { // untagged, as migration tools do
			return err
		}
		tx, err := db.BeginTx(context.Background(), nil)
		if err != nil {
			return err
		}
		if _, err := tx.Exec("INSERT INTO notes VALUES (?)", user); err != nil {
			return err
		}
		return tx.Commit()
	}
	db := tenantDBWith(t, filepath.Join(t.TempDir(), "{user}", "app.db"), dblocker.OnOpen(onOpen), dblocker.MaxOpenDatabases(1))
	for range 3 {
		for _, user := range []string{"ann", "bob"} {
			var wait sync.WaitGroup
			for range 8 {
				wait.Go(func() {
					var n int
					if err := db.QueryRowContext(as(t, user), "SELECT count(*) FROM notes").Scan(&n); err != nil || n == 0 {
						t.Errorf("%s: %d notes, %v", user, n, err)
					}
				})
			}
			wait.Wait()
		}
	}
	for _, user := range []string{"ann", "bob"} {
		n, _ := calls.Load(user)
		var notes int64
		if err := db.QueryRowContext(as(t, user), "SELECT count(*) FROM notes").Scan(&notes); err != nil || n.(*atomic.Int64).Load() != notes || notes < 3 {
			t.Errorf("%s: OnOpen was called %d times, and wrote %d notes; %v", user, n.(*atomic.Int64).Load(), notes, err)
		}
	}
}

// TestOnOpenFails: its error and its panic go to all who wait, the next call runs it again, and other users do not notice.
func TestOnOpenFails(t *testing.T) {
	fault := errors.New("the migration fails")
	var calls atomic.Int64
	began, goOn := make(chan bool), make(chan string)
	onOpen := func(ctx context.Context, user string, db *sql.DB) error {
		if user == "bob" {
			return nil
		}
		calls.Add(1)
		began <- true
		switch what := <-goOn; what {
		case "error":
			return fault
		case "panic":
			panic(what)
		case "goexit":
			runtime.Goexit()
		}
		_, err := db.Exec("CREATE TABLE t (n)")
		return err
	}
	db := tenantDBWith(t, filepath.Join(t.TempDir(), "{user}.db"), dblocker.OnOpen(onOpen), dblocker.LockTimeout(time.Minute))
	for _, what := range []string{"error", "panic", "goexit", "fine"} {
		const callers = 5
		errs := make(chan error, callers)
		for range callers {
			go func() {
				_, err := db.ExecContext(as(t, "ann"), "SELECT 1")
				errs <- err
			}()
		}
		<-began
		waitsFor(t, db, callers-1)
		if _, err := db.ExecContext(as(t, "bob"), "SELECT 1"); err != nil {
			t.Errorf("another user: %v", err)
		}
		goOn <- what
		for range callers {
			switch err := <-errs; {
			case what == "fine" && err != nil, what == "error" && !errors.Is(err, fault), what == "panic" && (err == nil || !strings.Contains(err.Error(), "panicked")),
				what == "goexit" && (err == nil || !strings.Contains(err.Error(), "ended its goroutine")):
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	if n := calls.Load(); n != 4 {
		t.Errorf("OnOpen was called %d times, want once for each", n)
	}
}

// waitsFor returns when so many wait for users' locks of the handle.
func waitsFor(t *testing.T, db *sql.DB, n int) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		st, err := dblocker.Stats(db)
		if err != nil {
			t.Fatal(err)
		}
		if st.Waiting >= n {
			return
		}
	}
	t.Fatalf("there are not %d who wait", n)
}

// TestOnOpenIsTheFirstCallers: when that one's context ends, the next runs it, and has no error of it.
func TestOnOpenIsTheFirstCallers(t *testing.T) {
	began := make(chan bool, 1)
	var calls atomic.Int64
	onOpen := func(ctx context.Context, user string, db *sql.DB) error {
		if calls.Add(1) > 1 {
			return nil
		}
		began <- true
		<-ctx.Done()
		return ctx.Err()
	}
	db := tenantDBWith(t, filepath.Join(t.TempDir(), "{user}.db"), dblocker.OnOpen(onOpen))
	ctx, cancel := context.WithCancel(as(t, "ann"))
	errs := make(chan error, 2)
	go func() { _, err := db.ExecContext(ctx, "SELECT 1"); errs <- err }()
	<-began
	second := make(chan error)
	go func() { _, err := db.ExecContext(as(t, "ann"), "SELECT 1"); second <- err }()
	waitsFor(t, db, 1)
	cancel()
	if err := <-errs; err == nil {
		t.Error("the first had no error")
	}
	if err := <-second; err != nil {
		t.Errorf("the second: %v", err)
	}
	// One that hangs is waited for as long as for a lock.
}

// TestOnOpenInsideSections of several users, which have its lock already.
func TestOnOpenInsideSections(t *testing.T) {
	var calls atomic.Int64
	db := tenantDBWith(t, filepath.Join(t.TempDir(), "{user}.db"), dblocker.LockTimeout(5*time.Second), dblocker.OnOpen(func(ctx context.Context, user string, db *sql.DB) error {
		calls.Add(1)
		_, err := db.Exec("CREATE TABLE IF NOT EXISTS t (n)")
		return err
	}))
	ctx, unlock, err := dblocker.LockAll(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	stranger := make(chan error)
	go func() { _, err := db.ExecContext(as(t, "ann"), "INSERT INTO t VALUES (1)"); stranger <- err }()
	waitsFor(t, db, 1)
	if _, err := db.ExecContext(dblocker.WithUser(ctx, "ann"), "INSERT INTO t VALUES (1)"); err != nil {
		t.Errorf("inside LockAll, behind a stranger: %v", err)
	}
	unlock()
	if err := <-stranger; err != nil {
		t.Error(err)
	}
	err = dblocker.RDo(as(t, "bob"), db, func(ctx context.Context) error {
		return db.QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(new(int))
	})
	if err != nil || calls.Load() != 2 {
		t.Errorf("a shared section: %v; OnOpen was called %d times", err, calls.Load())
	}
}

// TestCreateOff: unknown users get no file.
func TestCreateOff(t *testing.T) {
	db, dir := tenantDB(t, "?create=off")
	if _, err := db.ExecContext(as(t, "ann"), "SELECT 1"); !errors.Is(err, dblocker.ErrNoDatabase) || !strings.Contains(err.Error(), "ann") {
		t.Errorf("a user without a file: %v", err)
	}
	if err := db.PingContext(as(t, "ann")); !errors.Is(err, dblocker.ErrNoDatabase) {
		t.Errorf("Ping: %v", err)
	}
	if _, _, err := dblocker.Lock(as(t, "ann"), db); !errors.Is(err, dblocker.ErrNoDatabase) {
		t.Errorf("Lock: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "uann.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(as(t, "ann"), "CREATE TABLE t (n)"); err != nil {
		t.Errorf("with a file: %v", err)
	}
}

// TestPatternsThatCannotBe are errors in words when the handle is opened.
func TestPatternsThatCannotBe(t *testing.T) {
	for dsn, want := range map[string]string{
		"sqlite3?lockspace={user}:data/{user}.db":      "among the options",
		"sqlite3:data/app.db?_key={user}":              "path of a file",
		"sqlite3::memory:{user}":                       "", // a file of that name
		"sqlite3:file:{user}?mode=memory":              "path of a file",
		"sqlite3:file:/{user}?vfs=memdb":               "path of a file",
		"sqlite3?dialect=generic:data/{user}.db":       "engine is not known",
		"sqlite3?untagged_database=a%3Bb:{user}.db":    "untagged_database",
		"sqlite3?max_open_databases=-1:data/{user}.db": "max_open_databases",

		"sqlite3:{User}.db":                           "does not stand for the user",
		"sqlite3:data/{users}/app.db":                 "does not stand for the user",
		"sqlite3:{user}/{user_id}.db":                 "does not stand for the user",
		"sqlite3:file:%7BuserID%7D.db":                "does not stand for the user",
		"postgres://localhost/app?search_path={USER}": "does not stand for the user",
		"mysql:{users}:x@tcp(h)/app":                  "does not stand for the user",
		"postgres://u:p@h/{users}?application_name=x": "does not stand for the user",
		"mysql:u:a{users}b@tcp(h)/app":                "", // a password
		"postgres://u:a{users}b@h/app":                "",
		"postgres:host=h password='a {users}' user=x": "",
		"postgres:host=h password=a dbname={users}":   "does not stand for the user",
		"sqlite3?max_open_databases=3:app.db":         "option max_open_databases",
		"sqlite3?database_idle=1m:app.db":             "option database_idle",
		"sqlite3?create=off:app.db":                   "option create",
		"mysql?untagged_database=x:user@tcp(h)/app":   "option untagged_database",
	} {
		db, err := sql.Open("dblocker", dsn)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", dsn, err)
		}
		if err == nil {
			db.Close()
		}
	}
}

// TestEncodedPatterns: {user} means the user also as package net/url writes it, in whatever form the handle is opened.
func TestEncodedPatterns(t *testing.T) {
	pg := testdb.Postgres(t).NewDatabase(t)
	server, err := url.Parse(pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	query := server.Query()
	query.Set("search_path", "{user}")
	server.RawQuery = query.Encode()
	bare, err := sql.Open("postgres", pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	if _, err := bare.Exec("CREATE SCHEMA uann; CREATE SCHEMA ubob"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, dsn := range map[string]string{
		"postgres": server.String(),
		"sqlite3":  "file:" + dir + "/%7Buser%7D.db",
	} {
		for form, open := range map[string]func() (*sql.DB, error){
			"a DSN":         func() (*sql.DB, error) { return sql.Open("dblocker", name+":"+dsn) },
			"a driver name": func() (*sql.DB, error) { return sql.Open(name+"-dblocker", dsn) },
			"Openx":         func() (*sql.DB, error) { db, err := dblocker.Openx(name, dsn); return db.DB, err },
			"Openx of a DSN": func() (*sql.DB, error) {
				db, err := dblocker.Openx("dblocker", name+":"+dsn)
				return db.DB, err
			},
		} {
			db, err := open()
			if err != nil {
				t.Errorf("%s, %s: %v", name, form, err)
				continue
			}
			worksOnAnns(t, db, name, form)
			db.Close()
		}
		store, err := dblocker.New(t.Context(), name, dsn, false)
		if err != nil {
			t.Fatal(err)
		}
		cancel, db, err := store.RWGetDB("ann", t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		worksOnAnns(t, db.DB, name, "New")
		cancel()
		store.Close()
	}
}

// worksOnAnns looks what ann's database is.
func worksOnAnns(t *testing.T, db *sql.DB, engine, form string) {
	t.Helper()
	where := "SELECT current_schema()"
	if engine == "sqlite3" {
		where = "SELECT file FROM pragma_database_list WHERE name = 'main'"
	}
	var got string
	if err := db.QueryRowContext(as(t, "ann"), where).Scan(&got); err != nil || !strings.Contains(got, "uann") {
		t.Errorf("%s, %s: ann works on %q, %v", engine, form, got, err)
	}
}

// TestOpeningIsNoNews: what there is to say of the DSN, or of the journals, is said once, however many databases are opened, and how often.
func TestOpeningIsNoNews(t *testing.T) {
	dir := t.TempDir()
	for _, user := range []string{"ann", "bob", "carl"} {
		bare, err := sql.Open("sqlite3", filepath.Join(dir, "u"+user+".db"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bare.Exec("CREATE TABLE notes (n TEXT)"); err != nil { // with a journal that is no WAL
			t.Fatal(err)
		}
		bare.Close()
	}
	var log strings.Builder
	db := tenantDBWith(t, filepath.Join(dir, "{user}.db")+"?_foreign_key=1&_txlok=immediate", dblocker.DatabaseIdle(0),
		dblocker.Logger(slog.New(slog.NewTextHandler(&log, nil))))
	for range 3 {
		for _, user := range []string{"ann", "bob", "carl"} {
			if _, err := db.ExecContext(as(t, user), "INSERT INTO notes VALUES ('x')"); err != nil {
				t.Error(err)
			}
		}
	}
	db.Close()
	for _, text := range []string{"parameter=_foreign_key", "parameter=_txlok", "is not in WAL mode"} {
		if n := strings.Count(log.String(), text); n != 1 {
			t.Errorf("%q was said %d times:\n%s", text, n, &log)
		}
	}
}

// TestUsersShareNoFile, whatever links there are.
func TestUsersShareNoFile(t *testing.T) {
	for name, link := range map[string]func(old, new string) error{"symbolic": os.Symlink, "hard": os.Link} {
		t.Run(name, func(t *testing.T) {
			db, dir := tenantDB(t, "")
			noted(t, db, "ann")
			if err := link(filepath.Join(dir, "uann.db"), filepath.Join(dir, "ubob.db")); err != nil {
				t.Skip(err)
			}
			if _, err := db.ExecContext(as(t, "bob"), "DELETE FROM notes"); err == nil || !strings.Contains(err.Error(), "by a link") {
				t.Errorf("bob: %v", err)
			}
			if n := note(t, db, as(t, "ann")); n != "ann" {
				t.Errorf("ann has %s", n)
			}
		})
	}
	t.Run("elsewhere", func(t *testing.T) { // is anybody's right
		db, dir := tenantDB(t, "")
		if err := os.Symlink(filepath.Join(t.TempDir(), "big.db"), filepath.Join(dir, "uann.db")); err != nil {
			t.Skip(err)
		}
		noted(t, db, "ann")
	})
}

// TestTenantsOnServers: a schema, a database or a role for each user.
func TestTenantsOnServers(t *testing.T) {
	pg := testdb.Postgres(t).NewDatabase(t)
	bare, err := sql.Open("postgres", pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	for _, schema := range []string{"uann", "ubob"} {
		if _, err := bare.Exec("CREATE SCHEMA " + schema); err != nil {
			t.Fatal(err)
		}
	}
	url := pg.URL() + "&"
	for name, dsn := range map[string]string{
		"lib/pq schema":      "postgres:" + url + "search_path={user}",
		"lib/pq two schemas": "postgres:" + url + "search_path={user},public",
		"keywords":           "postgres:" + pg.DSN() + " search_path={user}",
		"escaped":            url + "search_path=%7Buser%7D",
	} {
		t.Run(name, func(t *testing.T) {
			db, err := sql.Open("dblocker", dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			for _, user := range []string{"ann", "bob"} {
				noted(t, db, user)
			}
			for _, user := range []string{"ann", "bob"} {
				var n string
				if err := db.QueryRowContext(as(t, user), "SELECT min(n) FROM notes").Scan(&n); err != nil || n != user {
					t.Errorf("%s: %s, %v", user, n, err)
				}
			}
			if _, err := db.ExecContext(as(t, "carl"), "CREATE TABLE oops (n int)"); !errors.Is(err, dblocker.ErrNoDatabase) {
				t.Errorf("without a schema: %v", err)
			}
			var version string
			if err := db.QueryRowContext(t.Context(), "SELECT version()").Scan(&version); err != nil {
				t.Errorf("the version: %v", err)
			}
		})
	}
}

// TestTenantDatabasesOnServers: a database for each user, which the server has to have.
func TestTenantDatabasesOnServers(t *testing.T) {
	for engine, server := range map[string]*testdb.Server{"postgres": testdb.Postgres(t), "mysql": testdb.MySQL(t)} {
		t.Run(engine, func(t *testing.T) {
			ann := server.NewDatabase(t)
			name := strings.TrimPrefix(ann.Name, "dblocker_test_")
			if _, err := server.Create("dblocker_test_u" + name); err != nil {
				t.Fatal(err)
			}
			bare, err := sql.Open(engine, ann.DSN())
			if err != nil {
				t.Fatal(err)
			}
			defer bare.Close()
			defer func() {
				if _, err := bare.Exec("DROP DATABASE dblocker_test_u" + name); err != nil {
					t.Error(err)
				}
			}()
			pattern := strings.Replace(ann.URL(), ann.Name, "dblocker_test_{user}", 1)
			if engine == "mysql" {
				pattern = strings.Replace(ann.DSN(), ann.Name, "dblocker_test_{user}", 1)
			}
			db, err := sql.Open("dblocker", engine+"?untagged_database=none:"+pattern)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.ExecContext(as(t, name), "CREATE TABLE notes (n int)"); err != nil {
				t.Error(err)
			}
			if _, err := db.ExecContext(as(t, "carl"), "CREATE TABLE notes (n int)"); !errors.Is(err, dblocker.ErrNoDatabase) {
				t.Errorf("without a database: %v", err)
			}
			if _, err := db.ExecContext(as(t, strings.Repeat("x", 64)), "CREATE TABLE notes (n int)"); !errors.Is(err, dblocker.ErrUserID) || !strings.Contains(err.Error(), "too long") {
				t.Errorf("a long ID: %v", err)
			}
		})
	}
}

// TestStoreWithAFilePerUser: the handles that a Store hands out are on the database of their user, and OnOpen is for it too.
func TestStoreWithAFilePerUser(t *testing.T) {
	dir := t.TempDir()
	store, err := dblocker.New(t.Context(), "sqlite3", filepath.Join(dir, "{user}.db"), false, dblocker.MaxOpenDatabases(2),
		dblocker.OnOpen(func(ctx context.Context, user string, db *sql.DB) error {
			_, err := db.Exec("CREATE TABLE IF NOT EXISTS notes (n)")
			return err
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for range 2 {
		for _, user := range []string{"ann", "bob", "carl"} {
			cancel, db, err := store.RWGetDB(user, t.Context(), "write")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec("INSERT INTO notes VALUES (?)", user); err != nil {
				t.Error(err)
			}
			cancel()
			if _, err := db.Exec("INSERT INTO notes VALUES (?)", user); !errors.Is(err, dblocker.ErrReleased) {
				t.Errorf("after cancel: %v", err)
			}
		}
	}
	for _, user := range []string{"ann", "bob", "carl"} {
		var n int
		if err := store.DB().GetContext(as(t, user), &n, "SELECT count(*) FROM notes WHERE n = ?", user); err != nil || n != 2 {
			t.Errorf("%s has %d notes, %v", user, n, err)
		}
	}
}
