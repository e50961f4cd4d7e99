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
	if n := spacesIn(t, filepath.Dir(path)); n != 0 {
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
