package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestFormsOfOpening opens one file in every form, and expects the handles to share its locks.
func TestFormsOfOpening(t *testing.T) {
	testdb.NoLeaks(t)
	path := testdb.SQLite(t)
	holder := openSQLite(t, "sqlite3-dblocker", path)
	use(t, holder)
	must(t, Register("sqlite3-forms", &sqlite3.SQLiteDriver{}))
	open := func(name, dsn string) func() (*sql.DB, error) {
		return func() (*sql.DB, error) { return sql.Open(name, dsn) }
	}
	_, unlock, err := Lock(asUser(1), holder)
	must(t, err)
	defer unlock()
	for form, open := range map[string]func() (*sql.DB, error){
		"DSN form":            open("dblocker", "sqlite3:"+path),
		"DSN form, options":   open("dblocker", "sqlite3?max_open_conns=3&lock_timeout=7s:"+path),
		"DSN form, URI":       open("dblocker", "sqlite3:file:"+path+"?_fk=1"),
		"URL form":            open("dblocker", "sqlite3://"+path),
		"name form":           open("sqlite3-dblocker", path),
		"registered name":     open("sqlite3-forms", path),
		"sqlx":                func() (*sql.DB, error) { db, err := sqlx.Open("sqlite3-dblocker", path); return db.DB, err },
		"OpenDB of connector": func() (*sql.DB, error) { return openOwnConnector(path) },
	} {
		t.Run(form, func(t *testing.T) {
			db, err := open()
			must(t, err)
			defer db.Close()
			var n int
			must(t, db.QueryRowContext(asUser(2), "SELECT COUNT(*) FROM t").Scan(&n))
			_, took, err := TryLock(asUser(1), db)
			if err == nil {
				took()
				t.Error("a handle does not share the locks of the file")
			}
		})
	}
}

// openOwnConnector opens the file with a connector, which does not tell what it opens.
func openOwnConnector(path string) (*sql.DB, error) {
	c, err := (&Driver{name: "sqlite3"}).OpenConnector(path)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

// TestNamesOfDrivers: each driver that has a name form is registered, with its bind type.
func TestNamesOfDrivers(t *testing.T) {
	names := sql.Drivers()
	for name, bind := range map[string]int{"sqlite3": sqlx.QUESTION, "sqlite": sqlx.QUESTION, "mysql": sqlx.QUESTION, "postgres": sqlx.DOLLAR, "pgx": sqlx.DOLLAR} {
		if name += wrappedSuffix; !slices.Contains(names, name) || sqlx.BindType(name) != bind {
			t.Errorf("%s: registered are %v, its bind type is %d, want %d", name, names, sqlx.BindType(name), bind)
		}
	}
	must(t, Register("dollars", stubDriver{}, Dialect("postgres")))
	if got := sqlx.BindType("dollars"); got != sqlx.DOLLAR {
		t.Errorf("the bind type of a registered driver is %d, want %d", got, sqlx.DOLLAR)
	}
}

// TestDriverUnwraps: a handle's driver is ours, and gives the inner one.
func TestDriverUnwraps(t *testing.T) {
	inner := &sqlite3.SQLiteDriver{}
	must(t, Register("sqlite3-unwrapped", inner))
	for name, dsn := range map[string]string{"sqlite3-unwrapped": "x.db", "sqlite3-dblocker": "x.db", "dblocker": "sqlite3:x.db"} {
		db := openSQLite(t, name, dsn)
		d, ok := db.Driver().(*Driver)
		if !ok {
			t.Fatalf("%s: the driver of the handle is %T", name, db.Driver())
		}
		if _, ok := d.Unwrap().(*sqlite3.SQLiteDriver); !ok {
			t.Errorf("%s: the inner driver is %T", name, d.Unwrap())
		}
		if name == "sqlite3-unwrapped" && d.Unwrap() != driver.Driver(inner) {
			t.Errorf("%s: the inner driver is not the one that was registered", name)
		}
	}
	if d := (&Driver{name: "sqlite3"}).Unwrap(); d != nil {
		t.Errorf("a driver that is to be looked up is %T", d)
	}
}

// TestDriverOpensAConnection of its own, which closes its handle.
func TestDriverOpensAConnection(t *testing.T) {
	testdb.NoLeaks(t)
	path := testdb.SQLite(t)
	ci, err := (&Driver{name: "sqlite3"}).Open(path)
	must(t, err)
	_, err = ci.(driver.ExecerContext).ExecContext(context.Background(), "CREATE TABLE t (v)", nil)
	must(t, err)
	must(t, ci.Close())
	if n := databasesIn(t, filepath.Dir(path)); n != 0 {
		t.Errorf("%d databases are registered after the connection was closed", n)
	}
}

// TestErrorsOfOpening say what was wrong, and what to write instead.
func TestErrorsOfOpening(t *testing.T) {
	for _, tc := range []struct{ name, dsn, want string }{
		{"dblocker", "nosuch:x", "nosuch"},
		{"dblocker", "pgx:postgres://u@h/d", "github.com/jackc/pgx/v5/stdlib"},
		{"dblocker", "pgx/v6:postgres://u@h/d", "driver[?options]:inner-dsn"},
		{"dblocker", "dblocker:sqlite3:x.db", "itself"},
		{"dblocker", "sqlite3-dblocker:x.db", "itself"},
		{"dblocker", "sqlite3?lock_timeot=5s:x.db", "known options"},
		{"dblocker", "sqlite3?lock_timeout=soon:x.db", "5s"},
		{"dblocker", "x.db", "sqlite3:app.db"},
	} {
		db, err := sql.Open(tc.name, tc.dsn)
		if err == nil {
			db.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s, %s: got %v, want an error with %q", tc.name, tc.dsn, err, tc.want)
		}
	}
}

// TestDriverLookedUpOnce: what was found by a name is found again, and another name is another.
func TestDriverLookedUpOnce(t *testing.T) {
	for i := range 3 {
		name := fmt.Sprintf("looked-up-%d", i)
		inner := &sqlite3.SQLiteDriver{Extensions: []string{}}
		sql.Register(name, inner)
		for range 2 {
			if d, err := registeredDriver(name, "x.db"); err != nil || d != driver.Driver(inner) {
				t.Errorf("%s is %v, error %v", name, d, err)
			}
		}
	}
}

func TestBadRegistrations(t *testing.T) {
	if err := Register("x", nil); err == nil || !strings.Contains(err.Error(), "nil") {
		t.Errorf("a nil driver: %v", err)
	}
	if err := Register("", stubDriver{}); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty name: %v", err)
	}
	if err := Register("sqlite3", stubDriver{}); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := OpenDB(nil); err == nil || !strings.Contains(err.Error(), "nil") {
		t.Errorf("a nil connector: %v", err)
	}
}

// TestBadDSN: each error names what is wrong and what to write, and never shows
// a password.
func TestBadDSN(t *testing.T) {
	for _, tc := range []struct {
		driver, dsn string
		want        []string
	}{
		{"dblocker", "", []string{"empty", "driver[?options]:inner-dsn", `"sqlite3:app.db"`}},
		{"dblocker", "app.db", []string{"no colon", "driver[?options]:inner-dsn"}},
		{"dblocker", ":app.db", []string{"no driver", "driver[?options]:inner-dsn"}},
		{"dblocker", "?lock_timeout=5s:app.db", []string{"no driver"}},
		{"dblocker", "sqlite4:app.db", []string{`"sqlite4"`, "sqlite3", "postgres", "forgotten import"}},
		{"dblocker", "sqlite://app.db", []string{"modernc.org/sqlite", `or name the driver "sqlite3"`}},
		{"dblocker", "pgx:postgres://u:hunter2@h/app", []string{`"pgx"`, "github.com/jackc/pgx/v5/stdlib"}},
		{"sqlite-dblocker", "app.db", []string{`"sqlite"`, "modernc.org/sqlite"}},
		{"dblocker", "host=h password=hunter2 options=-c:x", []string{"no driver", "driver[?options]:inner-dsn"}},
		{"dblocker", "ann:hunter2@tcp(host:3306)/db", []string{`"ann"`, "forgotten import"}},
		{"dblocker", "dblocker:sqlite3:app.db", []string{"dblocker itself"}},
		{"dblocker", "sqlite3?lock_timout=5s:app.db", []string{`"lock_timout"`, "lock_timeout, ", "lock_timeout=5s"}},
		{"dblocker", "sqlite3?Lock_timeout=5s:app.db", []string{`"Lock_timeout"`}},
		{"dblocker", "sqlite3?lock_timeout=5:app.db", []string{"lock_timeout", `"5"`, "5s"}},
		{"dblocker", "sqlite3?lock_timeout=-5s:app.db", []string{"lock_timeout", "not negative"}},
		{"dblocker", "sqlite3?max_open_conns=many:app.db", []string{"max_open_conns", `"many"`, "20"}},
		{"dblocker", "sqlite3?max_open_conns=-1:app.db", []string{"max_open_conns", "not negative"}},
		{"dblocker", "sqlite3?untagged=yes:app.db", []string{"untagged", `"yes"`, "pass, warn or error"}},
		{"dblocker", "sqlite3?dialect=oracle:app.db", []string{"dialect", `"oracle"`, "sqlite, postgres, mysql, generic"}},
		{"dblocker", "sqlite3?lockspace=:app.db", []string{"lockspace", "a name, such as"}},
		{"dblocker", "sqlite3?lock_timeout=1s&lock_timeout=2s:app.db", []string{"lock_timeout", "2 times"}},
		{"dblocker", "sqlite3?lock_timeout=%zz:app.db", []string{"URL query", "lock_timeout=5s"}},
		{"dblocker", "mysql://ann:hunter2@host:port/db", []string{"mysql URL", "mysql://user:password@host:3306/database"}},
		{"dblocker", "mysql://ann:hunter2%zz@host/db", []string{"mysql URL", "percent-encode"}},
		{"dblocker", "mysql://a%3Ab:hunter2@host/db", []string{"colon"}},
		{"dblocker", "mysql://ann:hunter2@unix(/tmp/x.sock)/db", []string{"parentheses", "mysql://user:password@host:3306/database"}},
		{"dblocker", "mysql:ann:hunter2@tcp(host:3306", []string{"DSN"}},
		{"dblocker", "dblocker:x", []string{"dblocker itself"}},
		{"dblocker", "sqlite3-dblocker:x", []string{"dblocker itself"}},
		{"dblocker", "postgres:/ann:hunter2@host/db", []string{"="}},
		{"postgres-dblocker", "//ann:hunter2@host/db", []string{"="}},
		{"dblocker", "postgres:postgresql//ann:hunter2@host/db", []string{"="}},
		{"dblocker", "postgres:ann:hunter2 host=x", []string{"="}},
		{"dblocker", `postgres://ann:hunter2"x@host:bad/db`, []string{"port"}},
		{"dblocker", "postgres://ann@host:bad/db?password=hunter2", []string{"port"}},
		{"dblocker", "postgres://ann:hunter2@host:port/db", []string{"port"}},
		{"postgres-dblocker", "postgres://ann:hunter2%zz@host/db", []string{"escape"}},
		{"postgres-dblocker", "password=hunter2 sslmode=bad", []string{"sslmode"}},
	} {
		err := openError(tc.driver, tc.dsn)
		if err == nil {
			t.Errorf("%s %q: no error", tc.driver, tc.dsn)
			continue
		}
		for _, part := range tc.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s %q: the error does not say %q: %v", tc.driver, tc.dsn, part, err)
			}
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s %q: the error shows the password: %v", tc.driver, tc.dsn, err)
		}
	}
}

// openError returns the error of sql.Open or of the first use.
func openError(driver, dsn string) error {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Ping()
}

// TestErrorsOfBadDSNsStayUseful: what is no password is still said.
func TestErrorsOfBadDSNsStayUseful(t *testing.T) {
	for _, tc := range []struct{ driver, dsn, want string }{
		{"postgres-dblocker", "postgres://ann:hunter2@host:badport/db", "badport"},
		{"postgres-dblocker", "host=h password=hunter2 sslmode=sometimes", "sometimes"},
		{"mysql-dblocker", "ann:hunter2@tcp(h:1)/db?parseTime=perhaps", "perhaps"},
	} {
		if err := openError(tc.driver, tc.dsn); err == nil || !strings.Contains(fmt.Sprint(err), tc.want) {
			t.Errorf("%s %s: got %v, want an error with %q", tc.driver, tc.dsn, err, tc.want)
		}
	}
}

// TestHandleWhileClosing: while a connection is slow to close, nobody waits for the handle.
func TestHandleWhileClosing(t *testing.T) {
	testdb.NoLeaks(t)
	entered, free := make(chan struct{}), make(chan struct{})
	s := &stub{close: func() { entered <- struct{}{}; <-free }}
	c, err := NewConnector(s)
	must(t, err)
	db := sql.OpenDB(c)
	_, err = db.ExecContext(asUser(1), "UPDATE")
	must(t, err)
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	<-entered
	done := make(chan error, 1)
	go func() {
		_, statsErr := Stats(db)
		_, holdsErr := Holds(db)
		_, _, lockErr := Lock(asUser(1), db)
		_, connErr := c.Connect(context.Background())
		second := c.Close()
		done <- fmt.Errorf("%v, %v, %v, %v, %v", statsErr, holdsErr, lockErr, connErr, second)
	}()
	select {
	case err := <-done:
		if want := fmt.Sprintf("%v, %[1]v, %[1]v, %[1]v, <nil>", errClosed); err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	case <-time.After(30 * time.Second):
		t.Error("the handle makes everybody wait until its connections are closed")
	}
	close(free)
	must(t, <-closed)
}
