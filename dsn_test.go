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

// TestOptionsInURLs: in the query of a URL the options of dblocker are taken for what they
// are, and everything else is passed on byte for byte.
func TestOptionsInURLs(t *testing.T) {
	for _, tc := range []struct {
		dsn, inner string
		opens      int           // max_open_conns; -1 is the default
		timeout    time.Duration // lock_timeout; 0 is the default
	}{
		{"postgres://u:p@h/db?max_open_conns=5", "postgres://u:p@h/db", 5, 0},
		{"postgresql://u:p@h/db?a=b%20c&max_open_conns=5&b=%3D#x", "postgresql://u:p@h/db?a=b%20c&b=%3D#x", 5, 0},
		{"postgres://u:p@h/db?lock_timeout=5s&max_open_conns=5", "postgres://u:p@h/db?lock_timeout=5s", 5, 0},
		{"postgres?lock_timeout=7s:postgres://u:p@h/db?max%5Fopen_conns=5", "postgres://u:p@h/db", 5, 7 * time.Second},
		{"pgx:postgres://u:p@h/db?max_open_conns=5", "postgres://u:p@h/db", 5, 0},
		{"mysql://u:p@h/db?lock_timeout=5s&parseTime=true", "u:p@tcp(h:3306)/db?parseTime=true", -1, 5 * time.Second},
		{"mysql:mysql://u:p@h/db?lock_timeout=5s", "u:p@tcp(h:3306)/db", -1, 5 * time.Second},
		{"sqlite3://app.db?_fk=1&lock_timeout=5s", "app.db?_fk=1", -1, 5 * time.Second},
		{"sqlite:///a/app.db?lock_timeout=5s", "/a/app.db", -1, 5 * time.Second},
		{"postgres://u:p@h/db?max_open_connections=5", "postgres://u:p@h/db?max_open_connections=5", -1, 0},
		{"other://h?lock_timeout=5s", "//h?lock_timeout=5s", -1, 0},
	} {
		got, err := parseDSN(tc.dsn)
		must(t, err)
		c, err := newConfig(engines.Generic, append([]Option{MaxOpenConns(0x7e), LockTimeout(time.Hour)}, got.opts...))
		must(t, err)
		want := []any{tc.inner, tc.opens, tc.timeout}
		if tc.opens < 0 {
			want[1] = 0x7e
		}
		if tc.timeout == 0 {
			want[2] = time.Hour
		}
		if got.dsn != want[0] || c.limits.MaxOpenConns != want[1] || c.lockTimeout != want[2] {
			t.Errorf("%s: got %q, %d, %v; want %v", tc.dsn, got.dsn, c.limits.MaxOpenConns, c.lockTimeout, want)
		}
	}
}

// TestMisplacedOptions: an option where nobody reads it is an error that says where it goes.
func TestMisplacedOptions(t *testing.T) {
	for _, tc := range []struct{ driver, dsn, want string }{
		{"dblocker", "sqlite3:app.db?lock_timeout=1s", `"sqlite3?lock_timeout=5s:app.db"`},
		{"dblocker", "sqlite3:app.db?_fk=1&max_open_conns=3", `"sqlite3?max_open_conns=20:app.db"`},
		{"dblocker", "sqlite3:file:app.db?untagged=error", `untagged`},
		{"dblocker", "sqlite3::memory:?trace=on", `trace`},
		{"sqlite3-dblocker", "app.db?lock_timeout=1s", "driver name dblocker"},
		{"sqlite3-dblocker", "sqlite3?lock_timeout=1s:app.db", "driver name dblocker"},
		{"dblocker", "mysql:u:hunter2@tcp(h:1)/db?lock_timeout=5s", `"mysql?lock_timeout=5s:user@tcp(host:3306)/app"`},
		{"mysql-dblocker", "u:hunter2@tcp(h:1)/db?stmt_cache=5", "stmt_cache"},
		{"dblocker", "postgres:host=h password=hunter2 max_open_conns=5", `"postgres?max_open_conns=20:postgres://user@host/app"`},
		{"postgres-dblocker", "host=h password=hunter2 self_wait=5s", "self_wait"},
		{"dblocker", "postgres://u:hunter2@h/db?max_open_conns=5&max_open_conns=6", "2 times"},
		{"dblocker", "postgres?max_open_conns=5:postgres://u:hunter2@h/db?max_open_conns=6", "give it once"},
		{"dblocker", "postgres://u:hunter2@h/db?max_open_conns=many", `"many"`},
	} {
		err := openError(tc.driver, tc.dsn)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s %s: got %v, want an error with %s", tc.driver, tc.dsn, err, tc.want)
		}
	}
}

// TestPostgresKeepsItsParameters: what is called like an option and is PostgreSQL's own stays the
// server's, and the log says where the option goes.
func TestPostgresKeepsItsParameters(t *testing.T) {
	for _, dsn := range []string{"postgres://u:p@h/db?lock_timeout=5s", "host=h lock_timeout=5s", "host=h statement_timeout=5s"} {
		var log strings.Builder
		d := &Driver{name: "postgres", opts: []Option{Logger(textLogger(&log))}}
		c, err := d.OpenConnector(dsn)
		must(t, err)
		if c := c.(*Connector); *c.dsn != dsn || c.lockTimeout == 5*time.Second || c.statementTimeout != 0 {
			t.Errorf("%s: the parameter was taken from PostgreSQL", dsn)
		}
		if strings.Count(log.String(), "PostgreSQL's own") != 1 {
			t.Errorf("%s: logged %q, want one line that says where the option goes", dsn, log.String())
		}
	}
}
