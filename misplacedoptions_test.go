package dblocker

import (
	"strings"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/engines"
)

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
