package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// An engine is a database behind one of its drivers.
type engine struct {
	name   string // as -where knows it
	title  string
	driver string         // as sql.Open knows it
	server *testdb.Engine // nil for SQLite
	bind   string         // the first placeholder of a statement

	// own is the DSN parameter by which the driver itself can save the cost of
	// preparing a statement. pgx does so without being told.
	own string
}

var engines = []*engine{
	{name: "sqlite", title: "SQLite by mattn/go-sqlite3", driver: "sqlite3", bind: "?", own: "_stmt_cache_size=64"},
	{name: "pq", title: "PostgreSQL by lib/pq", driver: "postgres", server: testdb.PostgreSQL, bind: "$1", own: "binary_parameters=yes"},
	{name: "pgx", title: "PostgreSQL by pgx/stdlib", driver: "pgx", server: testdb.PostgreSQL, bind: "$1"},
	{name: "mysql", title: "MariaDB by go-sql-driver/mysql", driver: "mysql", server: testdb.MariaDB, bind: "?", own: "interpolateParams=true"},
}

// withOwn adds the driver's own setting to a DSN.
func (e *engine) withOwn(dsn string) string {
	switch {
	case e.server == testdb.PostgreSQL:
		return dsn + " " + e.own
	case strings.Contains(dsn, "?"):
		return dsn + "&" + e.own
	}
	return dsn + "?" + e.own
}

const (
	itemCount    = 1000 // rows to read, with the ids 1 to itemCount
	counterCount = 256  // rows to write, with the ids 1 to counterCount
)

// schema makes the tables that all workloads use, in SQL that all engines take.
func schema() []string {
	items := make([]string, itemCount)
	for i, name := range itemNames {
		items[i] = fmt.Sprintf("(%d, %d, '%s')", i+1, i+1, name)
	}
	counters := make([]string, counterCount)
	for i := range counters {
		counters[i] = fmt.Sprintf("(%d, 0)", i+1)
	}
	return []string{
		"CREATE TABLE items (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, name VARCHAR(40) NOT NULL)",
		"INSERT INTO items VALUES " + strings.Join(items, ", "),
		"CREATE TABLE counters (id INTEGER PRIMARY KEY, n BIGINT NOT NULL)",
		"INSERT INTO counters VALUES " + strings.Join(counters, ", "),
	}
}

// itemNames are the names of the items in the order of their ids.
var itemNames = func() (names [itemCount]string) {
	for i := range names {
		names[i] = fmt.Sprintf("the item with number %d", i+1)
	}
	return names
}()

func execAll(ctx context.Context, db *sql.DB, statements []string) error {
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func sumCounters(ctx context.Context, db *sql.DB) (sum int, err error) {
	err = db.QueryRowContext(ctx, "SELECT sum(n) FROM counters").Scan(&sum)
	return sum, err
}
