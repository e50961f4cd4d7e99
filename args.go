package dblocker

import (
	"database/sql/driver"

	"github.com/calmdocs/dblocker/internal/server"
)

// checkArg leaves the checks for later, when there is an inner connection, but calls the argument's own Value method, if the driver has no
// other use for that: before there is a lock, so that one that takes its time, or asks the
// database, keeps nobody waiting, nor waits for itself. In a transaction there is a lock already.
func (c *conn) checkArg(nv *driver.NamedValue) error {
	valuer, ok := nv.Value.(driver.Valuer)
	if !ok || !c.db.plainValuers || isBinary(valuer) || !c.hasNothing() {
		return nil
	}
	value, returned, err := c.callValuer(valuer)
	if returned && err == nil && driver.IsValue(value) { // else the connection finds the words
		nv.Value = value
	}
	return err
}

// isBinary tells whether lib/pq may ask for another value.
func isBinary(v driver.Valuer) bool {
	_, ok := v.(interface{ BinaryValue() ([]byte, error) })
	return ok
}

// hasNothing tells whether c has neither a transaction nor a server connection.
func (c *conn) hasNothing() bool {
	if !c.mu.TryLock() {
		return false
	}
	nothing := c.scope == nil && c.raw == nil && c.drawn.Conn == nil
	c.mu.Unlock()
	c.sweep()
	return nothing
}

// callValuer keeps a panic to itself: the connection calls Value again, where one leaves nothing locked. A
// Value that ends the goroutine ends c.
func (c *conn) callValuer(v driver.Valuer) (value driver.Value, returned bool, err error) {
	defer func() {
		if returned || recover() != nil {
			return
		}
		c.mu.Lock()
		defer c.leave()
		c.abandon(nil, nil)
	}()
	value, err = server.ValueOf(v)
	return value, true, err
}
