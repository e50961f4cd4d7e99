package dblocker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/server"
)

// An Option sets one option of a handle. The same options can be written in a
// DSN: LockTimeout(5*time.Second) is "lock_timeout=5s" there. A table of all options with
// their defaults stands in the documentation of the package.
type Option func(*config) error

// LockTimeout bounds every wait for a user's lock, for the gate of a SQLite database and
// for a server connection (DSN: lock_timeout). 0 means not to wait at all. The default is 30
// seconds for locks and gates, and 2 minutes for connections; for a [Store] it is 2 minutes for all.
func LockTimeout(d time.Duration) Option { return option("lock_timeout", d.String()) }

// StatementTimeout bounds the time a statement may run (DSN: statement_timeout).
// PostgreSQL, MySQL and MariaDB enforce it themselves, since it is set on every
// connection when it is opened; MySQL does so for SELECT only. On other engines
// the statement's context gets a deadline. The default, 0, is no bound.
func StatementTimeout(d time.Duration) Option { return option("statement_timeout", d.String()) }

// CancelGrace bounds how long a lock is kept for a statement or transaction that
// lost its connection, because its context ended or the network broke (DSN:
// cancel_grace). PostgreSQL, MySQL and MariaDB may go on with it; the lock is
// released when they have ended it, and at this time in any case, with a warning.
// The default is 10 seconds; 0 releases at once.
func CancelGrace(d time.Duration) Option { return option("cancel_grace", d.String()) }

// SelfWait bounds the time that an owner waits for itself (DSN: self_wait), for
// example with a second transaction beside its first. The default is 5 seconds,
// what the busy timeout of mattn/go-sqlite3 gives to such a wait.
func SelfWait(d time.Duration) Option { return option("self_wait", d.String()) }

// SpillLimit is how many bytes of an open sql.Rows may be read into memory (DSN:
// spill_limit): of a statement that does more than to read, so that its locks can be
// given up at once; of any other so that it makes way for those who have waited for it
// for a second, or for a write of its own owner. The default is 64 MiB.
func SpillLimit(bytes int) Option { return option("spill_limit", strconv.Itoa(bytes)) }

// SpillTotal is how many bytes of rows a handle may have read into memory (DSN:
// spill_total), all its open sql.Rows together. With more, rows keep their locks until
// they are closed, and others wait for them. The default is 256 MiB.
func SpillTotal(bytes int) Option { return option("spill_total", strconv.Itoa(bytes)) }

// Trace makes each lock remember the place in the program that took it, which
// errors then name (DSN: trace). It costs some microseconds for each lock, and is
// off by default.
func Trace(on bool) Option {
	if on {
		return option("trace", "on")
	}
	return option("trace", "off")
}

// StmtCache is how many prepared statements each server connection keeps (DSN:
// stmt_cache): those of the program, and texts that are sent more than once. 0 keeps
// none. The default is 64 on SQLite, PostgreSQL, MySQL and MariaDB, and 0 elsewhere;
// on PostgreSQL none are kept behind a connection pooler such as pgbouncer, unless
// this option is given. On servers a statement is kept for a minute at most, for what
// changes how the server would read its text without dblocker seeing it.
func StmtCache(n int) Option { return option("stmt_cache", strconv.Itoa(n)) }

// Combine tells whether statements of several callers may share one transaction of SQLite's (DSN:
// combine=on or off). Where many wait to write to one file, whoever has the turn runs the
// statements of the others too, commits once for all of them, and each caller gets its own result or
// error after that. Only an Exec of one statement that writes rows is combined, outside of
// transactions, pinned sections and a sql.Conn, and only where no function, temporary trigger or deferred
// foreign key could tell the difference; one that takes longer than half a millisecond, or nobody knows
// how long, runs by itself. A commit hook is called once for all. It is on by default.
func Combine(on bool) Option {
	if on {
		return option("combine", "on")
	}
	return option("combine", "off")
}

// DebugAfter is how long something may be held or waited for before a [Store] with
// debug logs it (DSN: debug_after). The default is 10 seconds.
func DebugAfter(d time.Duration) Option { return option("debug_after", d.String()) }

// MaxOpenConns is the most server connections the handle has open at a time
// (DSN: max_open_conns). 0 means no limit. Defaults: 80 on PostgreSQL, 120 on
// MySQL and MariaDB, no limit elsewhere.
func MaxOpenConns(n int) Option { return option("max_open_conns", strconv.Itoa(n)) }

// MaxIdleConns is how many unused server connections are kept open (DSN:
// max_idle_conns). 0 keeps none. The default is 16.
func MaxIdleConns(n int) Option { return option("max_idle_conns", strconv.Itoa(n)) }

// ConnMaxLifetime is how long a server connection may be reused (DSN:
// conn_max_lifetime). 0 means for ever, which is the default except on MySQL
// and MariaDB, where it is 3 minutes.
func ConnMaxLifetime(d time.Duration) Option { return option("conn_max_lifetime", d.String()) }

// ConnMaxIdleTime is how long a server connection may be unused before it is
// closed (DSN: conn_max_idle_time). 0 means for ever, which is the default
// except on PostgreSQL, MySQL and MariaDB, where it is 5 minutes.
func ConnMaxIdleTime(d time.Duration) Option { return option("conn_max_idle_time", d.String()) }

// Untagged says what becomes of operations whose context carries no user (DSN:
// untagged). The default is [PassUntagged].
func Untagged(p UntaggedPolicy) Option { return option("untagged", string(p)) }

// Lockspace names the database for the purpose of locking (DSN: lockspace):
// handles of one lockspace share their users' locks, whatever their DSNs say.
// By default handles share them when they open the same database.
func Lockspace(name string) Option { return option("lockspace", name) }

// Dialect names the engine behind a driver that is not recognized by its name
// or its Go type (DSN: dialect): sqlite, postgres, mysql or generic.
func Dialect(name string) Option { return option("dialect", name) }

// Logger receives the handle's warnings. The default is [slog.Default]. It has
// no form in a DSN.
func Logger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return fmt.Errorf("dblocker: Logger: got a nil *slog.Logger; leave the option out to use slog.Default()")
		}
		c.logger = l
		return nil
	}
}

// An UntaggedPolicy says what becomes of operations without a user.
type UntaggedPolicy string

const (
	PassUntagged  UntaggedPolicy = "pass"  // run them without a user lock
	WarnUntagged  UntaggedPolicy = "warn"  // the same, and log each call site once
	ErrorUntagged UntaggedPolicy = "error" // refuse them with ErrNoUser
)

// config is what the options of one handle come to.
type config struct {
	engine           *server.Engine
	logger           *slog.Logger
	statementTimeout time.Duration
	cancelGrace      time.Duration
	stmtCache        int
	stmtCacheSet     bool // by an option
	durabilitySet    bool // by an option

	lockTimeout time.Duration // of waits for users' locks and gates
	connTimeout time.Duration // of waits for server connections
	selfWait    time.Duration
	spillLimit  int64
	spillTotal  int64
	trace       bool
	combine     bool
	durability  DurabilityPolicy
	limits      server.Limits
	untagged    UntaggedPolicy
	lockspace   string
	reachConfig
	tenantConfig
	observers
	debugAfter time.Duration
	connect    Connect
	shardDSN   func(ctx context.Context, user string) (string, error)
}

// longTimeout is the default bound of the waits that only end by themselves: for a server
// connection, which overload makes long; and of a Store, whose callers have the lock for
// several statements and other work.
const longTimeout = 2 * time.Minute

// newConfig applies opts over the defaults of the engine: the one that the
// option dialect names, or else the detected one.
func newConfig(detected *server.Engine, opts []Option) (*config, error) {
	c := &config{engine: detected}
	if err := c.apply(opts); err != nil {
		return nil, err
	}
	// The engine is known only now, so its defaults go beneath a second round.
	*c = config{
		engine:       c.engine,
		logger:       slog.Default(),
		cancelGrace:  10 * time.Second,
		stmtCache:    c.engine.StmtCache,
		lockTimeout:  30 * time.Second,
		connTimeout:  longTimeout,
		selfWait:     5 * time.Second,
		spillLimit:   64 << 20,
		spillTotal:   256 << 20,
		combine:      true,
		durability:   DriverDurability,
		untagged:     PassUntagged,
		tenantConfig: tenantConfig{maxOpenDatabases: defaultOpenDatabases, databaseIdle: time.Minute, creates: true},
		reachConfig:  reachConfig{lockScope: ProcessScope, pooler: NoPooler},
		limits:       c.engine.Limits,
		debugAfter:   10 * time.Second,
	}
	if err := c.apply(opts); err != nil {
		return nil, err
	}
	if err := c.refuseLockScope(); err != nil {
		return nil, err
	}
	return c, c.refuseDurability()
}

func (c *config) apply(opts []Option) error {
	for _, opt := range opts {
		if opt == nil {
			return errors.New("dblocker: an option is nil; leave it out")
		}
		if err := opt(c); err != nil {
			return err
		}
	}
	return nil
}

// optionSpec is one row of the table that DSN and Go options share.
type optionSpec struct {
	key  string
	want string // the allowed values and an example, for errors
	set  func(c *config, value string) error
}

const (
	wantDuration = "a duration, not negative, such as 5s, 2m or 0"
	wantCount    = "a whole number, not negative, such as 20 or 0"
)

var optionTable = []optionSpec{
	{"lock_timeout", wantDuration, func(c *config, v string) error {
		err := duration(func(c *config) *time.Duration { return &c.lockTimeout })(c, v)
		c.connTimeout = c.lockTimeout
		return err
	}},
	{"self_wait", wantDuration, duration(func(c *config) *time.Duration { return &c.selfWait })},
	{"spill_limit", wantCount, func(c *config, v string) (err error) {
		c.spillLimit, err = parseCount(v)
		return err
	}},
	{"spill_total", wantCount, func(c *config, v string) (err error) {
		c.spillTotal, err = parseCount(v)
		return err
	}},
	{"trace", "on or off", func(c *config, v string) (err error) {
		c.trace, err = parseSwitch(v)
		return err
	}},
	{"combine", "on or off", func(c *config, v string) (err error) {
		c.combine, err = parseSwitch(v)
		return err
	}},
	{"durability", "driver or group", func(c *config, v string) error {
		switch d := DurabilityPolicy(v); d {
		case DriverDurability, GroupDurability:
			c.durability, c.durabilitySet = d, true
			return nil
		}
		return errBadValue
	}},
	{"statement_timeout", wantDuration, duration(func(c *config) *time.Duration { return &c.statementTimeout })},
	{"cancel_grace", wantDuration, duration(func(c *config) *time.Duration { return &c.cancelGrace })},
	{"stmt_cache", wantCount, func(c *config, v string) error {
		c.stmtCacheSet = true
		return count(func(c *config) *int { return &c.stmtCache })(c, v)
	}},
	{"max_open_conns", wantCount, count(func(c *config) *int { return &c.limits.MaxOpenConns })},
	{"max_idle_conns", wantCount, func(c *config, v string) error {
		c.maxIdleConnsSet = true
		return count(func(c *config) *int { return &c.limits.MaxIdleConns })(c, v)
	}},
	{"conn_max_lifetime", wantDuration, duration(func(c *config) *time.Duration { return &c.limits.ConnMaxLifetime })},
	{"conn_max_idle_time", wantDuration, duration(func(c *config) *time.Duration { return &c.limits.ConnMaxIdleTime })},
	{"debug_after", wantDuration, duration(func(c *config) *time.Duration { return &c.debugAfter })},
	{"untagged", "pass, warn or error", func(c *config, v string) error {
		switch p := UntaggedPolicy(v); p {
		case PassUntagged, WarnUntagged, ErrorUntagged:
			c.untagged = p
			return nil
		}
		return errBadValue
	}},
	{"max_open_databases", wantCount, func(c *config, v string) error {
		c.maxOpenDatabasesSet = true
		return count(func(c *config) *int { return &c.maxOpenDatabases })(c, v)
	}},
	{"database_idle", wantDuration, duration(func(c *config) *time.Duration { return &c.databaseIdle })},
	{"create", "on or off", func(c *config, v string) (err error) {
		c.creates, err = parseSwitch(v)
		return err
	}},
	{"untagged_database", "the name of a database, such as postgres", (*config).setUntaggedDatabase},
	{"lockspace", "a name, such as orders", func(c *config, v string) error {
		if v == "" {
			return errBadValue
		}
		c.lockspace = v
		return nil
	}},
	{"lock_scope", "process or database", func(c *config, v string) error {
		switch s := LockScopePolicy(v); s {
		case ProcessScope, DatabaseScope:
			c.lockScope = s
			return nil
		}
		return errBadValue
	}},
	{"lock_readers", "a number from 1 to 64", (*config).setLockReaders},
	{"pooler", "none, session or transaction", (*config).setPooler},
	{"dialect", "one of " + engines.Names(), func(c *config, v string) error {
		for _, d := range engines.All {
			if d.Name == v {
				c.engine = d
				return nil
			}
		}
		return errBadValue
	}},
}

// errBadValue tells option that a value does not fit; users never see it.
var errBadValue = fmt.Errorf("bad value")

// option returns the Option that sets key to value, as written in a DSN.
func option(key, value string) Option {
	return func(c *config) error {
		for _, spec := range optionTable {
			if spec.key != key {
				continue
			}
			if slices.Contains(tenantKeys, key) {
				c.tenantKey = key
			}
			if spec.set(c, value) != nil {
				return fmt.Errorf("dblocker: option %s: %q cannot be used; it must be %s", key, value, spec.want)
			}
			return nil
		}
		return fmt.Errorf("dblocker: unknown option %q; known options: %s; for example lock_timeout=5s", key, optionKeys())
	}
}

func optionKeys() string {
	keys := make([]string, len(optionTable))
	for i, spec := range optionTable {
		keys[i] = spec.key
	}
	return strings.Join(keys, ", ")
}

func duration(field func(*config) *time.Duration) func(*config, string) error {
	return func(c *config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return errBadValue
		}
		*field(c) = d
		return nil
	}
}

func count(field func(*config) *int) func(*config, string) error {
	return func(c *config, v string) error {
		n, err := parseCount(v)
		*field(c) = int(n)
		return err
	}
}

// parseSwitch also takes the words in which strconv reads a bool, since programs write those.
func parseSwitch(v string) (bool, error) {
	switch v {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	on, err := strconv.ParseBool(v)
	if err != nil {
		return false, errBadValue
	}
	return on, nil
}

func parseCount(v string) (int64, error) {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 || int64(int(n)) != n {
		return 0, errBadValue
	}
	return n, nil
}
