package tools

import (
	"database/sql"
	"flag"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

	_ "github.com/calmdocs/dblocker" // and with it mattn/go-sqlite3, lib/pq and go-sql-driver/mysql
	"github.com/calmdocs/dblocker/internal/testdb"
)

var rounds = flag.Int("rounds", 2, "how often each of 16 goroutines runs each transaction of the scenario")

// An engine is a kind of database, and its driver.
type engine struct {
	name, driver string
	database     func(t testing.TB) string // makes an empty one, and returns its DSN for the bare driver
}

var (
	sqliteEngine = &engine{"SQLite", "sqlite3", func(t testing.TB) string {
		return "file:" + testdb.SQLite(t) + "?_journal_mode=WAL&_fk=1" // the first as dblocker would have it, the second for ent
	}}
	postgresEngine = &engine{"PostgreSQL", "postgres", func(t testing.TB) string { return testdb.Postgres(t).NewDatabase(t).DSN() }}
	mariadbEngine  = &engine{"MariaDB", "mysql", func(t testing.TB) string {
		return testdb.MySQL(t).NewDatabase(t).DSN() + "?parseTime=true"
	}}
	engines = []*engine{sqliteEngine, postgresEngine, mariadbEngine}
)

// A target is a database, and how a program opens it.
type target struct {
	*engine
	driver string
	dsn    string // of the bare driver
	handle *sql.DB
	locked bool // through dblocker
}

// names are the arguments of sql.Open.
func (to *target) names() (driver, dsn string) {
	if to.locked {
		return "dblocker", to.driver + ":" + to.dsn
	}
	return to.driver, to.dsn
}

// open opens another handle on the database.
func (to *target) open() (*sql.DB, error) { return sql.Open(to.names()) }
