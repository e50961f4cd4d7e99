package dblocker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/tenants"
	"github.com/calmdocs/dblocker/internal/userid"
)

// A Connect opens the database of a user, given what [New] was given.
type Connect func(ctx context.Context, user, driverName, dataSourceName string) (*sqlx.DB, error)

// ConnectFunc makes a [Store] ask f for the database of each user: any database, any
// shard. It is called once for a user who comes into use, and the user's handles share
// what it returns, which the Store closes when none of them is left. So it has to open
// a new *sqlx.DB each time. It may return the same one for several users, as long as it
// is open: then it is closed when the last of them leaves. For shards that stay open,
// [DSNFunc] is cheaper.
//
// The *sqlx.DB may be opened through dblocker or not. If not, the Store takes the locks
// and draws the connections from it, whose limits hold; what is done with it past the
// Store is not behind any lock.
//
// The error of f is returned to those who wait for that user, which they do for
// lock_timeout at most, or 2 minutes if that is 0. Its context has the values of the first
// one's, and ends when none of them waits any more. The option is for [New] only, and has
// no form in a DSN.
func ConnectFunc(f Connect) Option {
	return func(c *config) error {
		if f == nil {
			return errors.New("dblocker: ConnectFunc: the function is nil; leave the option out to keep all users in one database")
		}
		c.connect = f
		return nil
	}
}

// DSNFunc makes a [Store] ask f for the data source name of each user's database, for
// the driver that [New] was given. Users with the same one share its connections, which
// stay open for a minute after the last use, of at most 16 databases, see [DatabaseIdle] and [MaxOpenDatabases]. What is said of
// f in [ConnectFunc] holds here too. A user ID is what the program was given: f must not
// let one such as "../x" choose a file.
func DSNFunc(f func(ctx context.Context, user string) (dataSourceName string, err error)) Option {
	return func(c *config) error {
		if f == nil {
			return errors.New("dblocker: DSNFunc: the function is nil; leave the option out to keep all users in one database")
		}
		c.shardDSN = f
		return nil
	}
}

var (
	errNotAStore = errors.New("dblocker: the options ConnectFunc and DSNFunc are for a Store; pass them to dblocker.New")
	errTwoFuncs  = errors.New("dblocker: both ConnectFunc and DSNFunc say which database a user has; give one of them")
)

// shardsOf returns what opens the databases of a Store whose users have different ones.
func shardsOf(done <-chan struct{}, cfg *config, driverName, dsn string, opts []Option) *tenants.Cache[*storeDB] {
	timeout := cfg.lockTimeout
	if timeout == 0 { // no wait for locks, but this is none
		timeout = 2 * time.Minute
	}
	limits := tenants.Limits{MaxUnused: unusedShards, Unused: cfg.databaseIdle}
	if cfg.maxOpenDatabasesSet {
		limits.MaxOpen, limits.MaxUnused = cfg.maxOpenDatabases, 0
	}
	return tenants.New(tenants.Config[*storeDB]{
		Limits:     limits,
		Place:      placesName,
		Explain:    func(user string, err error) error { return placeError(user, limits.MaxOpen, err) },
		Timeout:    timeout,
		Done:       done,
		ErrTimeout: ErrLockTimeout,
		ErrClosed:  errClosed,
		Contain:    cfg.contain,
		Find: func(ctx context.Context, user string) (tenants.Found[*storeDB], error) {
			return findShard(ctx, cfg, user, driverName, dsn, opts)
		},
	})
}

// unusedShards is how many databases a Store keeps open for functions, unless an option bounds how many are open.
const unusedShards = 16

// findShard asks the program's function for the database of a user: a *sql.DB, or a DSN.
func findShard(ctx context.Context, cfg *config, user, driverName, dsn string, opts []Option) (found tenants.Found[*storeDB], err error) {
	if cfg.connect == nil {
		dsn, err := cfg.shardDSN(ctx, user)
		found.Key, found.Keep = dsn, true
		found.Open = func() (*storeDB, error) { return openStoreDB(driverName, dsn, opts) }
		return found, err
	}
	db, err := cfg.connect(ctx, user, driverName, dsn)
	switch {
	case err != nil:
		return found, err
	case db == nil || db.DB == nil:
		return found, fmt.Errorf("dblocker: ConnectFunc returned no database for user %s, and no error; return one of them", userid.Brief(user))
	}
	file := borrowedFile(ctx, db)
	found.Key = db.DB
	found.Open = func() (*storeDB, error) { return adopt(db, file, user, opts) }
	return found, nil
}

// checkConnected refuses what a ConnectFunc must not return.
func checkConnected(db *sqlx.DB, user string) error {
	done, cancel := context.WithCancel(context.Background())
	cancel() // so that no connection is drawn; a closed handle says so first
	if c, err := db.Conn(done); err == nil {
		c.Close()
	} else if !errors.Is(err, context.Canceled) {
		return tenants.NotUsable(user, err)
	}
	if d, ok := db.Driver().(*Driver); ok && d.bound != nil {
		return fmt.Errorf("dblocker: ConnectFunc returned for user %s a handle that a Store gave out; open a database", userid.Brief(user))
	}
	return nil
}

// borrowedFile returns the file behind a handle that is not ours, as a DSN, so that all on it
// pass one gate; nil if it is none, or not known.
func borrowedFile(ctx context.Context, db *sqlx.DB) *string {
	if _, ours := db.Driver().(*Driver); ours || engines.Detect(db.Driver(), db.DriverName()) != sqlite.Engine {
		return nil
	}
	var seq, name, file string
	err := db.QueryRowContext(ctx, "PRAGMA database_list").Scan(&seq, &name, &file) // main comes first
	if err != nil || file == "" || strings.Contains(file, "?") {
		return nil
	}
	return &file
}

// adopt makes a database of ours of what a ConnectFunc returned. dsn is of borrowedFile.
func adopt(db *sqlx.DB, dsn *string, user string, opts []Option) (*storeDB, error) {
	if err := checkConnected(db, user); err != nil {
		return nil, err
	}
	if d, ok := db.Driver().(*Driver); ok && d.handle != nil {
		return &storeDB{c: d.handle, db: db, name: sqlxName(db.DriverName(), d.handle.engine)}, nil
	}
	defaults := []Option{storeDefaults}
	if n := db.Stats().MaxOpenConnections; n > 0 { // to wait where it is in turn, and has an end
		defaults = append(defaults, MaxOpenConns(n))
	}
	opts = append(defaults, opts...)
	cfg, err := newConfig(engines.Detect(db.Driver(), db.DriverName()), append(opts, MaxIdleConns(0), StmtCache(0))) // they are idle in db
	if err != nil {
		return nil, err
	}
	d := Driver{inner: db.Driver(), opened: db.Driver()}
	on := newStoreDB(newConnector(d, cfg, server.Borrow(db.DB), dsn), nil, db.DriverName())
	on.db = db
	on.borrowed = true
	return on, nil
}
