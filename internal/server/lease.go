package server

import (
	"context"
	"database/sql/driver"
	"errors"
)

// A Lease is a server connection that is taken out of the pool.
type Lease struct {
	pool *innerPool
	lone bool // Conn is the lone connection of the pool
	Conn *Conn

	// MayBeStale tells that the connection has been in the pool, where it may
	// have gone bad.
	MayBeStale bool
}

// HasEnded tells whether the server has ended the session while the connection lay in the pool, if
// that can be known.
func (d Lease) HasEnded() (ended, known bool) {
	if !d.MayBeStale || d.Conn.Peek == nil {
		return false, false
	}
	return d.Conn.Peek()
}

// reset resets the session of a connection that has been in the pool. One that is bad it discards.
func (d Lease) reset(ctx context.Context) error {
	err := driver.ErrBadConn
	defer func() {
		if errors.Is(err, driver.ErrBadConn) { // also if the driver ends the goroutine
			d.Discard()
		}
	}()
	err = d.Conn.Reset(ctx)
	return err
}

// GiveBack returns the connection to the pool, if it is still good.
func (d Lease) GiveBack() {
	defer d.goBack()
	if d.Conn.Locked != 0 {
		d.Conn.Fail()
	}
	if d.Conn.Validate() {
		d.Conn.leaveTransaction()
	}
	if d.Conn.HasFailed() {
		d.Conn.forgetRest()
	}
	d.Conn.LieDown()
}

// goBack puts the connection back into the pool, which closes it if it is broken.
func (d Lease) goBack() {
	if d.lone {
		d.pool.putLone(d.Conn)
	} else {
		d.pool.putBack(d.Conn)
	}
}

// Discard closes the connection.
func (d Lease) Discard() {
	d.Conn.Fail()
	defer d.goBack()
	d.Conn.shut() // so that nothing of the driver's is called in the middle of the pool
}
