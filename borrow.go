package dblocker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

// checkConnected refuses what a ConnectFunc must not return.
func checkConnected(db *sqlx.DB, user string) error {
	done, cancel := context.WithCancel(context.Background())
	cancel() // so that no connection is drawn; a closed handle says so first
	if c, err := db.Conn(done); err == nil {
		c.Close()
	} else if !errors.Is(err, context.Canceled) {
		return errNotUsable(user, err)
	}
	if d, ok := db.Driver().(*Driver); ok && d.bound != nil {
		return fmt.Errorf("dblocker: ConnectFunc returned for user %q a handle that a Store gave out; open a database", user)
	}
	return nil
}

func errNotUsable(user string, err error) error {
	return fmt.Errorf("dblocker: ConnectFunc returned a database for user %q that cannot be used: %w; it is closed when no user is left, so open a new one each time", user, err)
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
		return &storeDB{c: d.handle, db: db, name: db.DriverName()}, nil
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
