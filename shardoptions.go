package dblocker

import (
	"context"
	"errors"

	"github.com/jmoiron/sqlx"
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
// stay open for a minute after the last use, of at most 16 databases. What is said of
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
