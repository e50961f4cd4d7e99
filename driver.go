package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker/internal/drivers"
	"github.com/calmdocs/dblocker/internal/engines"
	"github.com/calmdocs/dblocker/internal/redact"
	"github.com/calmdocs/dblocker/internal/seen"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

var (
	_ driver.DriverContext = (*Driver)(nil)
	_ driver.Connector     = (*Connector)(nil)
	_ io.Closer            = (*Connector)(nil)
)

const wrappedSuffix = "-dblocker"

func init() {
	sql.Register("dblocker", &Driver{})
	for name := range drivers.Named {
		sql.Register(name+wrappedSuffix, &Driver{name: name})
		sqlx.BindDriver(name+wrappedSuffix, engines.Detect(nil, name).BindType)
	}
}

// Register makes inner, wrapped, available under name to [sql.Open], which then
// takes inner's own DSNs. sqlx learns the bind type of the name with it.
//
// Hooks of inner, such as the ConnectHook of mattn/go-sqlite3, run for every server
// connection, when the first statement needs one: not for each [sql.Conn], and also for those
// that dblocker has for itself, which are up to four for a busy SQLite file in WAL mode, one that
// watches a lost session, and one that keeps a database in memory when the program's
// last connection to it is closed.
func Register(name string, inner driver.Driver, opts ...Option) error {
	if name == "" {
		return errors.New("dblocker: Register: the name is empty; choose one such as sqlite3-hooked")
	}
	if inner == nil {
		return fmt.Errorf("dblocker: Register(%q): the inner driver is nil", name)
	}
	if slices.Contains(sql.Drivers(), name) {
		return fmt.Errorf("dblocker: Register(%q): a driver of this name is registered already; choose another name", name)
	}
	cfg, err := newConfig(engines.Detect(inner, name), opts)
	if err != nil {
		return err
	}
	sql.Register(name, &Driver{name: name, inner: inner, opts: opts})
	sqlx.BindDriver(name, cfg.engine.BindType)
	return nil
}

// NewConnector wraps a connector of any driver, for [sql.OpenDB]. Since a
// connector does not tell which database it opens, handles made from different
// connectors share their locks only if they have the same [Lockspace].
func NewConnector(inner driver.Connector, opts ...Option) (*Connector, error) {
	if inner == nil {
		return nil, errors.New("dblocker: NewConnector: the inner connector is nil")
	}
	cfg, err := newConfig(engines.Detect(inner.Driver(), ""), opts)
	if err != nil {
		return nil, err
	}
	if cfg.connect != nil || cfg.shardDSN != nil {
		return nil, errNotAStore
	}
	if err := errors.Join(cfg.checkOneDatabase(), cfg.checkReach(sqlite.Of(inner))); err != nil {
		return nil, err
	}
	d := inner.Driver()
	return newConnector(Driver{inner: d, opts: opts, opened: d}, cfg, inner, nil), nil
}

// OpenDB opens a database with a connector of any driver, wrapped.
func OpenDB(inner driver.Connector, opts ...Option) (*sql.DB, error) {
	c, err := NewConnector(inner, opts...)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

// Driver is the wrapping driver. The ones that [sql.Open] knows are registered
// by this package and by [Register].
type Driver struct {
	name     string        // of the inner driver; "" if the DSN names it
	inner    driver.Driver // nil if it is to be looked up by name
	opts     []Option
	forStore bool          // which may have the options that are for a Store only
	opened   driver.Driver // of the handle that returned this Driver; nil before
	handle   *Connector    // that returned it
	bound    *section      // that all of the handle's work is inside; nil but for a handle of a Store
}

// Unwrap returns the inner driver: of a handle's Driver the one that it has open,
// else the one that was registered, or nil where a name is still to be looked up.
func (d *Driver) Unwrap() driver.Driver {
	if d.opened != nil {
		return d.opened
	}
	return d.inner
}

// Open implements [driver.Driver]. Programs call [sql.Open] instead.
func (d *Driver) Open(dsn string) (driver.Conn, error) {
	c, err := d.OpenConnector(dsn)
	if err != nil {
		return nil, err
	}
	ci, err := c.Connect(context.Background())
	if err != nil {
		c.(*Connector).Close()
		return nil, err
	}
	if tc, ok := ci.(*tenantConn); ok {
		return soleTenantConn{tc, c.(*Connector)}, nil
	}
	return soleConn{ci.(*conn), c.(*Connector)}, nil
}

// soleConn is a connection without a sql.DB: it closes the handle that was
// opened for it.
type soleConn struct {
	*conn
	of *Connector
}

func (c soleConn) Close() error { return errors.Join(c.conn.Close(), c.of.Close()) }

// soleTenantConn is the same of a handle with a database for each user.
type soleTenantConn struct {
	*tenantConn
	of *Connector
}

func (c soleTenantConn) Close() error { return errors.Join(c.tenantConn.Close(), c.of.Close()) }

// OpenConnector implements [driver.DriverContext].
func (d *Driver) OpenConnector(dsn string) (driver.Connector, error) {
	t, err := d.target(dsn)
	if err != nil {
		return nil, err
	}
	inner := d.inner
	if inner == nil {
		if inner, err = registeredDriver(t.driver, t.dsn); err != nil {
			return nil, err
		}
	}
	cfg, err := newConfig(engines.Detect(inner, t.driver), slices.Concat(d.opts, t.opts))
	if err != nil {
		return nil, err
	}
	if cfg.connect != nil && cfg.shardDSN != nil {
		return nil, errTwoFuncs
	}
	if (cfg.connect != nil || cfg.shardDSN != nil) && !d.forStore {
		return nil, errNotAStore
	}
	if err := refuseMisplaced(cfg.engine, t.dsn, cfg.logger); err != nil {
		return nil, err
	}
	if d.name == "" {
		warnPlainSqlx(cfg)
	}
	dsn, isPattern, err := cfg.patternExample(t.dsn)
	if err != nil {
		return nil, err
	}
	if isPattern {
		cfg.onceLogger = seen.Once(cfg.logger)
	}
	ci, err := cfg.openInner(inner, dsn)
	if err != nil {
		return nil, redact.ParseError(err, dsn)
	}
	if err := errors.Join(cfg.checkDurability(sqlite.Of(ci)), cfg.checkReach(sqlite.Of(ci))); err != nil {
		return nil, err
	}
	c := newConnector(Driver{name: d.name, inner: d.inner, opts: d.opts, opened: inner}, cfg, ci, &t.dsn)
	if isPattern {
		c.tenancy = newTenancy(c, t.dsn)
	}
	return c, nil
}

// target returns what the DSN comes to: by itself, or with the driver's own name.
func (d *Driver) target(dsn string) (target, error) {
	if d.name == "" {
		return parseDSN(dsn)
	}
	t := target{driver: d.name, dsn: readMark(dsn)}
	return t, t.takeOptions()
}

// registeredDriver finds a driver by its name. database/sql shows it only by
// way of a handle, and some drivers refuse to open one with a DSN that is not
// theirs.
func registeredDriver(name, dsn string) (driver.Driver, error) {
	if name == "dblocker" || strings.HasSuffix(name, wrappedSuffix) {
		return nil, wrapsItself(name)
	}
	if d, ok := plainDrivers.Load(name); ok {
		return d.(driver.Driver), nil
	}
	if !slices.Contains(sql.Drivers(), name) {
		return nil, unknownDriver(name)
	}
	dsn = strings.ReplaceAll(dsn, userMark, exampleName)
	db, err := sql.Open(name, dsn)
	if err != nil {
		return nil, redact.ParseError(err, dsn)
	}
	defer db.Close()
	if _, ours := db.Driver().(*Driver); ours {
		return nil, wrapsItself(name)
	}
	if _, ok := db.Driver().(driver.DriverContext); !ok {
		plainDrivers.Store(name, db.Driver())
	}
	return db.Driver(), nil
}

// plainDrivers are those, by name, that database/sql gives no DSN to before a connection is
// wanted: what is registered under a name stays what it is.
var plainDrivers sync.Map

func wrapsItself(name string) error {
	return fmt.Errorf("dblocker: the inner driver %q is dblocker itself; name the driver to wrap, for example sqlite3", name)
}

func unknownDriver(name string) error {
	var have []string
	for _, d := range sql.Drivers() {
		if d != "dblocker" && !strings.HasSuffix(d, wrappedSuffix) {
			have = append(have, d)
		}
	}
	registered := "none"
	if len(have) > 0 {
		registered = strings.Join(have, ", ")
	}
	if pkg := drivers.Named[name]; pkg != "" {
		return fmt.Errorf("dblocker: the inner driver %q is not registered; import _ %q%s (registered are: %s)", name, pkg, orAnother(name, have), registered)
	}
	return fmt.Errorf("dblocker: unknown inner driver %q (forgotten import?); registered are: %s; write driver[?options]:inner-dsn, %s", name, registered, dsnExample)
}

// orAnother names the one of the registered drivers that is for the same engine as name, if there is one of
// those that dblocker has names for.
func orAnother(name string, registered []string) string {
	for _, other := range registered {
		if drivers.Named[other] != "" && engines.Detect(nil, other) == engines.Detect(nil, name) {
			return fmt.Sprintf(", or name the driver %q, which is for the same engine", other)
		}
	}
	return ""
}

// namedDriver returns a Driver for a name that New, or Openx, is given, and the DSN for it.
func namedDriver(caller, name, dsn string) (*Driver, string, error) {
	dsn = readMark(dsn)
	switch name {
	case "":
		return nil, "", fmt.Errorf("dblocker: %s: the driver name is empty; name the inner driver, for example sqlite3", caller)
	case "dblocker":
		return &Driver{}, dsn, nil
	}
	if inner, ok := strings.CutSuffix(name, wrappedSuffix); ok && drivers.Named[inner] != "" {
		name = inner
	}
	if slices.Contains(sql.Drivers(), name) {
		example := strings.ReplaceAll(dsn, userMark, exampleName)
		db, err := sql.Open(name, example)
		if err != nil {
			return nil, "", redact.ParseError(err, example)
		}
		defer db.Close()
		if d, ours := db.Driver().(*Driver); ours { // of Register
			return &Driver{name: d.name, inner: d.inner, opts: d.opts}, dsn, nil
		}
	}
	t, err := target{driver: engines.DriverName(name), dsn: dsn}.completed()
	return &Driver{name: t.driver, opts: t.opts}, t.dsn, err
}
