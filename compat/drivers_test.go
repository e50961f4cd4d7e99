package compat

import (
	"database/sql"
	"log/slog"
	"slices"
	"testing"
	"time"

	_ "github.com/calmdocs/dblocker" // and with it mattn/go-sqlite3, lib/pq and go-sql-driver/mysql
	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	_ "modernc.org/sqlite"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// Information, such as the journal mode of each file, is of interest to few tests.
func init() { slog.SetLogLoggerLevel(slog.LevelWarn) }

// A testDriver is a driver in one of its ways of working.
type testDriver struct {
	title  string
	name   string // that it is registered under
	params string // appended to the DSN
	engine *engine
	steps  []step // of this driver alone

	quirks
}

// quirks are what steps must not ask of a driver.
type quirks struct {
	noEmptyQuery   bool // a Query of a text without a statement panics, on the bare driver too
	noDoubleQuotes bool // its SQLite takes no string in double quotes
	noWeakLevels   bool // it refuses isolation levels below Serializable, and dblocker does not: it begins SQLite's only kind of transaction for each
}

// An engine is what the drivers of one kind of database have in common.
type engine struct {
	name     string
	bindType int // of sqlx
	types    []columnType
	ownTypes []string // statements that make some of them
	words    words
	steps    []step

	// database makes an empty database, which ends with the test, and returns
	// its DSN.
	database func(t testing.TB) string
}

// words are what the engines spell differently in steps that all of them run.
type words struct {
	integer, float, text, longText, blob, boolean, time string // column types; text can be indexed

	serial       string // a primary key that counts by itself
	divideByZero string // a query, which is an error on some
	slow         string // a query that would run for slowFor or longer
	isolation    string // a query that shows the transaction's isolation level
	slowFor      time.Duration
}

var drivers = []testDriver{
	sqlite3Driver,
	{title: "modernc", name: "sqlite", params: "?_pragma=busy_timeout(5000)", engine: sqliteEngine, steps: moderncSteps},
	{title: "pq", name: "postgres", engine: postgresEngine, steps: pqSteps},
	{title: "pq with binary parameters", name: "postgres", params: " binary_parameters=yes", engine: postgresEngine},
	{title: "pgx", name: "pgx", engine: postgresEngine, steps: pgxSteps},
	{title: "pgx with the simple protocol", name: "pgx", params: " default_query_exec_mode=simple_protocol", engine: postgresEngine},
	{title: "mysql", name: "mysql", params: "?multiStatements=true", engine: mysqlEngine, steps: mysqlSteps},
	{title: "mysql with times and interpolation", name: "mysql", params: "?parseTime=true&interpolateParams=true", engine: mysqlEngine},
}

// database makes an empty database and returns the DSN that the bare driver
// takes for it.
func (d *testDriver) database(t testing.TB) string { return d.engine.database(t) + d.params }

// open opens a handle that is closed when the test ends.
func open(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("closing the handle: %v", err)
		}
	})
	return db
}

// mainDrivers are the drivers, each in its usual way of working.
func mainDrivers(engines ...*engine) []testDriver {
	var main []testDriver
	for _, d := range drivers {
		known := slices.ContainsFunc(main, func(m testDriver) bool { return m.name == d.name })
		if !known && slices.Contains(engines, d.engine) {
			main = append(main, d)
		}
	}
	return main
}

func serverDatabase(server func(testing.TB) *testdb.Server) func(testing.TB) string {
	return func(t testing.TB) string { return server(t).NewDatabase(t).DSN() }
}
