package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"

	"github.com/jmoiron/sqlx"
)

// A Handle is a database handle that was opened through dblocker: a *[sql.DB], a
// *sqlx.DB, or whatever else has their method. Of an ORM take the *sql.DB.
type Handle interface {
	Conn(ctx context.Context) (*sql.Conn, error)
}

// connectorOf finds the Connector behind a handle, and the section that the handle is
// bound to, if it is one of a Store. It draws no server connection.
func connectorOf(ctx context.Context, db Handle) (c *Connector, bound *section, err error) {
	if x, ok := db.(*sqlx.DB); ok && x != nil && x.DB == nil || db == nil || isNilPointer(db) {
		return nil, nil, errors.New("dblocker: the database handle is nil; pass the *sql.DB or *sqlx.DB that was opened through dblocker")
	}
	if h, ok := db.(interface{ Driver() driver.Driver }); ok {
		if d, ok := h.Driver().(*Driver); ok && d.handle != nil {
			d.handle.warnOuterLimit(db)
			return d.handle, d.bound, nil
		}
	}
	return connectorBehind(ctx, db)
}

func isNilPointer(id any) bool {
	v := reflect.ValueOf(id)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// connectorBehind looks at a connection of a handle whose driver is not ours, since
// that may be a wrapper around ours.
func connectorBehind(ctx context.Context, db Handle) (found *Connector, bound *section, err error) {
	dc, err := db.Conn(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer dc.Close()
	err = dc.Raw(func(ci any) error {
		for {
			switch c := ci.(type) {
			case *conn:
				found, bound = c.db, c.bound
				return nil
			case interface{ Raw() driver.Conn }:
				ci = c.Raw()
			case interface{ Unwrap() driver.Conn }:
				ci = c.Unwrap()
			default:
				return fmt.Errorf(`dblocker: the database was not opened through dblocker, or is wrapped so that its connections, which are %T, cannot be unwrapped; `+
					`open it with sql.Open("dblocker", ...), %s, and put dblocker outermost, with other wrappers between it and the driver`, ci, dsnExample)
			}
		}
	})
	if found != nil {
		found.warnOuterLimit(db)
	}
	return found, bound, err
}

// warnOuterLimit warns, once, of what is set on the program's handle instead of in options.
func (c *Connector) warnOuterLimit(db Handle) {
	h, ok := db.(interface{ Stats() sql.DBStats })
	if ok && !(c.outer.toldLimit.Load() && c.outer.toldIdle.Load()) {
		c.outer.lookAt(c, h.Stats())
	}
}
