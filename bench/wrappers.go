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
// the bare driver opens with the DSN. doc.go tells what each of them is.
type wrapper struct {
	name string
	open func(e *engine, dsn string) (*sql.DB, error)
}

// The first is the baseline.
var wrappers = []wrapper{
	{"bare", func(e *engine, dsn string) (*sql.DB, error) { return sql.Open(e.driver, dsn) }},
	{withOwnSetting, func(e *engine, dsn string) (*sql.DB, error) { return sql.Open(e.driver, e.withOwn(dsn)) }},
	{"sqlmw", openSQLMW},
	{"otelsql", openOtelSQL},
	{"dblocker-nocache", func(e *engine, dsn string) (*sql.DB, error) {
		return sql.Open("dblocker", e.driver+"?stmt_cache=0:"+dsn)
	}},
	{"dblocker", func(e *engine, dsn string) (*sql.DB, error) { return sql.Open(e.driver+"-dblocker", dsn) }},
}

const withOwnSetting = "own" // only where the engine's driver has one

// wrappersFor are the contenders on an engine.
func wrappersFor(e *engine) []wrapper {
	return slices.DeleteFunc(slices.Clone(wrappers), func(w wrapper) bool { return w.name == withOwnSetting && e.own == "" })
}

// maxIdle is how many idle connections every contender keeps.
const maxIdle = 16

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
