package dblocker

import (
	"database/sql"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/callers"
	"github.com/calmdocs/dblocker/internal/seen"
	"github.com/calmdocs/dblocker/internal/server"
)

// Openx opens a database for sqlx, as [sqlx.Open] does, with the placeholders of its engine:
// [sqlx.DB.Rebind], [sqlx.In] with it, and named queries write $1 for PostgreSQL, whatever the driver is called.
//
//	db, err := dblocker.Openx("postgres", "postgres://user@host/app") // was: sqlx.Open("postgres", "postgres://user@host/app")
//
// driverName and dataSourceName are those of the inner driver, or those of dblocker: the name "dblocker" with
// driver[?options]:inner-dsn, a name form, or a name of [Register]. The handle is like one of [sql.Open]: each call
// is under the lock of the user of its context. Openx does not connect.
//
// sqlx.Open("dblocker", ...) knows no placeholders, since sqlx takes them from the driver's name alone.
func Openx(driverName, dataSourceName string, opts ...Option) (*sqlx.DB, error) {
	d, dsn, err := namedDriver("Openx", driverName, dataSourceName)
	if err != nil {
		return nil, err
	}
	d.opts = append(d.opts[:len(d.opts):len(d.opts)], opts...)
	on, err := d.openx(dsn)
	if err != nil {
		return nil, err
	}
	return on.db, nil
}

// openx opens a handle under the name of the inner driver, by which sqlx knows its placeholders.
func (d *Driver) openx(dsn string) (*storeDB, error) {
	name := d.name
	if name == "" {
		t, err := parseDSN(dsn)
		if err != nil {
			return nil, err
		}
		name = t.driver
	}
	c, err := d.OpenConnector(dsn)
	if err != nil {
		return nil, err
	}
	return newStoreDB(c.(*Connector), sql.OpenDB(c), name), nil
}

// sqlxName returns the name of a driver, if sqlx knows placeholders for it, and else that of the engine.
func sqlxName(name string, engine *server.Engine) string {
	if sqlx.BindType(name) == sqlx.UNKNOWN && sqlx.BindType(engine.Name) == engine.BindType {
		return engine.Name
	}
	return name
}

// toldSqlx has the engines that warnPlainSqlx has spoken of.
var toldSqlx seen.Set

// warnPlainSqlx is for a handle that is opened under the name "dblocker": if sqlx opens it, it will write ? where the
// engine wants something else.
func warnPlainSqlx(cfg *config) {
	bind := cfg.engine.BindType
	if bind == sqlx.QUESTION || sqlx.BindType("dblocker") == bind || !callers.BySqlx() || !toldSqlx.IsNew(cfg.engine.Name) {
		return
	}
	cfg.logger.Warn("dblocker: sqlx does not know the placeholders of a handle that is opened as \"dblocker\": Rebind and named queries write ?, which the server refuses; open it with dblocker.Openx, which takes the same arguments",
		"engine", cfg.engine.Name)
}
