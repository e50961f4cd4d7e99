package dblocker

import (
	"database/sql"
	"net/url"
	"strings"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/calmdocs/dblocker/internal/engines"
)

func TestParseDSN(t *testing.T) {
	for _, tc := range []struct{ dsn, driver, inner string }{
		{"sqlite3:app.db", "sqlite3", "app.db"},
		{"sqlite3:file:app.db?_fk=1", "sqlite3", "file:app.db?_fk=1"},
		{"sqlite3::memory:", "sqlite3", ":memory:"},
		{"sqlite3:", "sqlite3", ""},
		{"sqlite3://app.db?_fk=1", "sqlite3", "app.db?_fk=1"},
		{"sqlite3:///var/lib/app.db", "sqlite3", "/var/lib/app.db"},
		{"sqlite://app.db", "sqlite", "app.db"},
		{"postgres://u:p@host/app?sslmode=disable", "postgres", "postgres://u:p@host/app?sslmode=disable"},
		{"postgresql://u@host/app", "postgres", "postgresql://u@host/app"},
		{"postgres:host=/tmp user=u", "postgres", "host=/tmp user=u"},
		{"postgres?lock_timeout=5s:postgres://u@host/app", "postgres", "postgres://u@host/app"},
		{"pgx:postgres://u@host/app", "pgx", "postgres://u@host/app"},
		{"mysql?lock_timeout=5s&max_open_conns=20:user:pw@tcp(127.0.0.1:3306)/app", "mysql", "user:pw@tcp(127.0.0.1:3306)/app"},
		{"mysql://u:p@host:3306/db", "mysql", "u:p@tcp(host:3306)/db"},
		{"mysql://u:p@host/db?parseTime=true&loc=US%2FPacific", "mysql", "u:p@tcp(host:3306)/db?parseTime=true&loc=US%2FPacific"},
		{"mysql://u:p%40%2F%3A@[::1]:3307/a%2Fb", "mysql", "u:p@/:@tcp([::1]:3307)/a%2Fb"},
		{"mysql://u@host/", "mysql", "u@tcp(host:3306)/"},
		{"mysql://u@host/db/?loc=Europe/Berlin", "mysql", "u@tcp(host:3306)/db?loc=Europe%2FBerlin"},
		{"postgresql?lock_timeout=5s:postgresql://u@host/app", "postgres", "postgresql://u@host/app"},
		{"mysql:///db", "mysql", "/db"},
		{"mysql?lock_timeout=1s:mysql://u@host/db", "mysql", "u@tcp(host:3306)/db"},
		{"postgres?lock_timeout=5s://u@host/app", "postgres", "postgres://u@host/app"},
		{"postgresql?lock_timeout=5s://u@host/app?sslmode=disable", "postgres", "postgresql://u@host/app?sslmode=disable"},
		{"mysql?lock_timeout=5s://u:p@host/db", "mysql", "u:p@tcp(host:3306)/db"},
		{"sqlite3?lock_timeout=5s://app.db", "sqlite3", "app.db"},
		{"sqlite3?lock_timeout=5s:///var/lib/app.db?max_open_conns=2", "sqlite3", "/var/lib/app.db"},
		{"other://host", "other", "//host"},
		{"other?lock_timeout=5s://host", "other", "//host"},
	} {
		got, err := parseDSN(tc.dsn)
		if err != nil {
			t.Errorf("%s: %v", tc.dsn, err)
			continue
		}
		if got.driver != tc.driver || got.dsn != tc.inner {
			t.Errorf("%s: got driver %q, DSN %q; want %q, %q", tc.dsn, got.driver, got.dsn, tc.driver, tc.inner)
		}
	}
}

// TestOptionsBeforeTheSlashesOfAURL: they are the options of the handle, beside those in its query.
func TestOptionsBeforeTheSlashesOfAURL(t *testing.T) {
	for _, scheme := range []string{"postgres", "postgresql", "mysql", "sqlite3", "sqlite"} {
		dsn := scheme + "?lock_timeout=7s://host/app?max_open_conns=3"
		got, err := parseDSN(dsn)
		must(t, err)
		cfg, err := newConfig(engines.Generic, got.opts)
		must(t, err)
		if cfg.lockTimeout != 7*time.Second || cfg.limits.MaxOpenConns != 3 {
			t.Errorf("%s: lock_timeout %v, max_open_conns %d; want 7s, 3", dsn, cfg.lockTimeout, cfg.limits.MaxOpenConns)
		}
		for _, bad := range []string{scheme + "?lock_timeout=5://host/app", scheme + "?max_open_conns=2://host/app?max_open_conns=3"} {
			if got, err := parseDSN(bad); err == nil {
				if _, err = newConfig(engines.Generic, got.opts); err == nil {
					t.Errorf("%s: no error", bad)
				}
			}
		}
	}
}

// TestMySQLURL has the driver itself read what a mysql:// URL is rewritten to.
func TestMySQLURL(t *testing.T) {
	for _, password := range []string{"", "pw", "p@ss", "p/w", "p:w", "p?w", "p(w)", "p%w", "ü &=#"} {
		u := url.URL{Scheme: "mysql", User: url.UserPassword("ann", password), Host: "db.example:3307", Path: "/my db?"}
		got, err := parseDSN(u.String())
		must(t, err)
		cfg, err := mysqldriver.ParseDSN(got.dsn)
		if err != nil {
			t.Errorf("password %q: %v", password, err)
			continue
		}
		if cfg.User != "ann" || cfg.Passwd != password || cfg.Addr != "db.example:3307" || cfg.DBName != "my db?" {
			t.Errorf("password %q: the driver reads user %q, password %q, address %q, database %q", password, cfg.User, cfg.Passwd, cfg.Addr, cfg.DBName)
		}
	}
}

// FuzzDSN opens handles with arbitrary data source names: never a panic, and never
// a password in the error.
func FuzzDSN(f *testing.F) {
	for _, seed := range []string{
		"", ":", "?", "sqlite3:app.db", "sqlite3?lock_timeout=5s:x", "postgres?untagged=warn:postgres://u:PW@h/db?sslmode=disable",
		"mysql://u:PW@h:3306/db?parseTime=true", "mysql:u:PW@tcp([::1]:1)/db", "postgres://u:PW@h:1,h2:2/db",
		"postgres:host=h password=PW", "postgres:password='P W' x", "dblocker:dblocker:sqlite3:x", "mysql://%zz:PW@h/", "mysql://u:PW%@h",
		`postgres:u:"PW\\ x@h`, "postgres:/u:PW@h/db", "//u:PW@h",
		"sqlite3:file:x?mode=memory&cache=shared", "mysql?lockspace=%3A:/", "sqlite3?a=b&c=d:", "postgres:a='\\", "mysql:@/%zz",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		const password = "hunter2-of-the-fuzz"
		dsn = strings.ReplaceAll(dsn, "PW", password)
		db, err := sql.Open("dblocker", dsn)
		if err == nil {
			if db.Driver().(*Driver).Unwrap() == nil {
				t.Errorf("%q opened without an inner driver", dsn)
			}
			db.Close()
			return
		}
		// Our own errors; what an inner driver says of its other parameters is its
		// own affair. Before the colon are names, which are quoted.
		_, parseErr := parseDSN(dsn)
		if parseErr != nil && strings.Contains(err.Error(), password) && !strings.Contains(beforeColon(dsn), password) {
			t.Errorf("%q: the error shows the password: %v", dsn, err)
		}
		for _, d := range engines.All {
			d.Database(dsn)
		}
	})
}

// beforeColon is the part of a DSN that holds driver and options.
func beforeColon(dsn string) string {
	head, _, _ := strings.Cut(dsn, ":")
	return head
}
