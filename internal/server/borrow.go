package server

import (
	"context"
	"database/sql"
	"database/sql/driver"
)

// Borrow returns a connector that takes connections out of the pool of a handle that is not
// ours, to which they go back when they are closed.
func Borrow(db *sql.DB) driver.Connector { return borrower{db} }

// IsBorrowed tells whether a connector is one of Borrow.
func IsBorrowed(c driver.Connector) bool {
	_, is := c.(borrower)
	return is
}

// A borrower does that.
type borrower struct{ db *sql.DB }

func (b borrower) Driver() driver.Driver { return b.db.Driver() }

func (b borrower) Connect(ctx context.Context) (driver.Conn, error) {
	home, err := b.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	c := &borrowedConn{home: home}
	if err := home.Raw(func(dc any) error { c.Conn = dc.(driver.Conn); return nil }); err != nil {
		home.Close()
		return nil, err
	}
	return c, nil
}

// A borrowedConn is a connection of another pool.
type borrowedConn struct {
	driver.Conn
	home *sql.Conn
}
