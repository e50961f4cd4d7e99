package dblocker

import (
	"strings"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

func TestOptionsInDSNAndGoAreAlike(t *testing.T) {
	for _, tc := range []struct {
		dsn string
		opt Option
		got func(*config) any
		def any // on SQLite
	}{
		{"lock_timeout=5s", LockTimeout(5 * time.Second), func(c *config) any { return c.lockTimeout }, 30 * time.Second},
		{"self_wait=1s", SelfWait(time.Second), func(c *config) any { return c.selfWait }, 5 * time.Second},
		{"spill_limit=5", SpillLimit(5), func(c *config) any { return c.spillLimit }, int64(64 << 20)},
		{"combine=off", Combine(false), func(c *config) any { return c.combine }, true},
		{"durability=group", Durability(GroupDurability), func(c *config) any { return c.durability }, DriverDurability},
		{"trace=on", Trace(true), func(c *config) any { return c.trace }, false},
		{"statement_timeout=5s", StatementTimeout(5 * time.Second), func(c *config) any { return c.statementTimeout }, time.Duration(0)},
		{"cancel_grace=5s", CancelGrace(5 * time.Second), func(c *config) any { return c.cancelGrace }, 10 * time.Second},
		{"max_open_conns=5", MaxOpenConns(5), func(c *config) any { return c.limits.MaxOpenConns }, 0},
		{"max_idle_conns=5", MaxIdleConns(5), func(c *config) any { return c.limits.MaxIdleConns }, 16},
		{"conn_max_lifetime=5s", ConnMaxLifetime(5 * time.Second), func(c *config) any { return c.limits.ConnMaxLifetime }, time.Duration(0)},
		{"conn_max_idle_time=5s", ConnMaxIdleTime(5 * time.Second), func(c *config) any { return c.limits.ConnMaxIdleTime }, time.Duration(0)},
		{"untagged=warn", Untagged(WarnUntagged), func(c *config) any { return c.untagged }, PassUntagged},
		{"lockspace=a%3Ab", Lockspace("a:b"), func(c *config) any { return c.lockspace }, ""},
		{"max_open_databases=5", MaxOpenDatabases(5), func(c *config) any { return c.maxOpenDatabases }, 100},
		{"database_idle=5s", DatabaseIdle(5 * time.Second), func(c *config) any { return c.databaseIdle }, time.Minute},
		{"create=off", CreateDatabases(false), func(c *config) any { return c.creates }, true},
		{"untagged_database=app", UntaggedDatabase("app"), func(c *config) any { return c.untaggedDatabase }, ""},
		{"lock_readers=9", LockReaders(9), func(c *config) any { return c.lockReaders }, 0},
		{"dialect=mysql", Dialect("mysql"), func(c *config) any { return c.engine.Name }, "sqlite"},
	} {
		parsed, err := parseDSN("sqlite3?" + tc.dsn + ":app.db")
		must(t, err)
		fromDSN, err := newConfig(sqlite.Engine, parsed.opts)
		must(t, err)
		fromGo, err := newConfig(sqlite.Engine, []Option{tc.opt})
		must(t, err)
		byDefault, err := newConfig(sqlite.Engine, nil)
		must(t, err)
		if tc.got(fromDSN) != tc.got(fromGo) || tc.got(fromGo) == tc.got(byDefault) || tc.got(byDefault) != tc.def {
			t.Errorf("%s: from the DSN %v, from Go %v, by default %v (want %v)", tc.dsn, tc.got(fromDSN), tc.got(fromGo), tc.got(byDefault), tc.def)
		}
	}
}

// TestSwitches: trace takes the words that programs write for yes and no.
func TestSwitches(t *testing.T) {
	for v, want := range map[string]bool{"on": true, "1": true, "true": true, "off": false, "0": false, "false": false} {
		c, err := newConfig(engines.Generic, []Option{option("trace", v)})
		if err != nil || c.trace != want {
			t.Errorf("trace=%s: got %v, %v; want %v", v, c, err, want)
		}
	}
	if _, err := newConfig(engines.Generic, []Option{option("trace", "yes please")}); err == nil || !strings.Contains(err.Error(), "on or off") {
		t.Errorf("trace=yes please: got %v, want an error that says on or off", err)
	}
}

// TestLockTimeouts: a lock is waited for as long as a caller will stand there, a connection and a Store's
// lock for longer; the option is for all.
func TestLockTimeouts(t *testing.T) {
	for name, tc := range map[string]struct {
		opts        []Option
		locks, conn time.Duration
	}{
		"handle":             {nil, 30 * time.Second, 2 * time.Minute},
		"handle with option": {[]Option{LockTimeout(time.Second)}, time.Second, time.Second},
		"store":              {[]Option{storeDefaults}, 2 * time.Minute, 2 * time.Minute},
		"store with option":  {[]Option{storeDefaults, LockTimeout(time.Second)}, time.Second, time.Second},
	} {
		c, err := newConfig(postgres.Engine, tc.opts)
		must(t, err)
		if c.lockTimeout != tc.locks || c.connTimeout != tc.conn {
			t.Errorf("%s: got %v and %v, want %v and %v", name, c.lockTimeout, c.connTimeout, tc.locks, tc.conn)
		}
	}
}

func TestDefaultsFollowTheDialect(t *testing.T) {
	for _, d := range engines.All {
		c, err := newConfig(engines.Generic, []Option{Dialect(d.Name)})
		must(t, err)
		if c.limits != d.Limits {
			t.Errorf("%s: got %+v, want %+v", d.Name, c.limits, d.Limits)
		}
	}
}

func TestBadOptionsInGo(t *testing.T) {
	for name, opt := range map[string]Option{
		"lock_timeout":   LockTimeout(-1),
		"max_open_conns": MaxOpenConns(-1),
		"untagged":       Untagged("maybe"),
		"lockspace":      Lockspace(""),
		"lock_scope":     LockScope("server"),
		"dialect":        Dialect("oracle"),
		"Logger":         Logger(nil),
	} {
		if _, err := OpenDB(&stub{}, opt); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want an error that names it", name, err)
		}
		if err := Register("bad-options", stubDriver{}, opt); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Register with %s: got %v, want an error that names it", name, err)
		}
	}
}
