package main

import (
	"database/sql"
	"database/sql/driver"
	"slices"

	"github.com/XSAM/otelsql"
	"github.com/ngrok/sqlmw"
	metric "go.opentelemetry.io/otel/metric/noop"
	trace "go.opentelemetry.io/otel/trace/noop"

	_ "github.com/calmdocs/dblocker" // and with it mattn/go-sqlite3, lib/pq and go-sql-driver/mysql
)

// A wrapper is a contender of the suite "calls": a way to open the database that
// the bare driver opens with the DSN.
type wrapper struct {
	name  string
	about string
	open  func(e *engine, dsn string) (*sql.DB, error)
	fits  func(e *engine) bool // nil for all
}

// maxIdle is how many idle connections every contender keeps: dblocker's default.
// With the two of database/sql, 16 goroutines would measure how the bare driver
// connects.
const maxIdle = 16

var wrappers = []wrapper{
	{
		name:  "bare",
		about: "the driver alone, with SetMaxIdleConns(16), as all contenders have",
		open:  func(e *engine, dsn string) (*sql.DB, error) { return sql.Open(e.driver, dsn) },
	},
	{
		name: "own",
		about: "the driver with its own setting against the cost of preparing: _stmt_cache_size=64 (mattn), " +
			"binary_parameters=yes (lib/pq), interpolateParams=true (mysql); the last two change the format of values. pgx has a cache by default",
		open: func(e *engine, dsn string) (*sql.DB, error) { return sql.Open(e.driver, e.withOwn(dsn)) },
		fits: func(e *engine) bool { return e.own != "" },
	},
	{name: "sqlmw", about: "ngrok/sqlmw with an interceptor that does nothing", open: openSQLMW},
	{name: "otelsql", about: "XSAM/otelsql with providers that do nothing", open: openOtelSQL},
	{
		name:  "dblocker-nocache",
		about: "dblocker with stmt_cache=0, each goroutine as a user of its own",
		open: func(e *engine, dsn string) (*sql.DB, error) {
			return sql.Open("dblocker", e.driver+"?stmt_cache=0:"+dsn)
		},
		fits: func(e *engine) bool { return hasStmtCache() },
	},
	{
		name:  "dblocker",
		about: "dblocker with its defaults, each goroutine as a user of its own",
		open:  func(e *engine, dsn string) (*sql.DB, error) { return sql.Open(e.driver+"-dblocker", dsn) },
	},
}

// hasStmtCache says whether this dblocker has a statement cache to switch off.
func hasStmtCache() bool {
	db, err := sql.Open("dblocker", "sqlite3?stmt_cache=0:unused.db")
	if err != nil {
		return false
	}
	return db.Close() == nil
}

func openSQLMW(e *engine, dsn string) (*sql.DB, error) {
	bare, err := sql.Open(e.driver, dsn)
	if err != nil {
		return nil, err
	}
	defer bare.Close()
	wrapped := sqlmw.Driver(bare.Driver(), sqlmw.NullInterceptor{})
	connector, err := wrapped.(driver.DriverContext).OpenConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

func openOtelSQL(e *engine, dsn string) (*sql.DB, error) {
	return otelsql.Open(e.driver, dsn,
		otelsql.WithTracerProvider(trace.NewTracerProvider()), otelsql.WithMeterProvider(metric.NewMeterProvider()))
}

// wrappersFor are the contenders on an engine. The first is the baseline.
func wrappersFor(e *engine) []wrapper {
	return slices.DeleteFunc(slices.Clone(wrappers), func(w wrapper) bool { return w.fits != nil && !w.fits(e) })
}
