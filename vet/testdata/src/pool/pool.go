package pool

import (
	"database/sql"
	"time"

	"github.com/calmdocs/dblocker"
)

func open() (*sql.DB, error) {
	db, err := sql.Open("dblocker", "sqlite3:app.db")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)              // want `SetMaxOpenConns on a handle of dblocker lets those who wait for a lock take the connections from others, and can block them for ever; remove it, and use the option max_open_conns`
	db.SetConnMaxLifetime(time.Minute) // want `SetConnMaxLifetime on a handle of dblocker does nothing for the connections to the server; remove it, and use the option conn_max_lifetime`
	inner, err := dblocker.Inner(db)
	if err != nil {
		return nil, err
	}
	inner.SetMaxOpenConns(10) // the pool of server connections
	bare, err := sql.Open("sqlite3", "app.db")
	if err != nil {
		return nil, err
	}
	bare.SetMaxOpenConns(1)
	return db, nil
}
