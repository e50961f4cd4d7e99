package engines

import (
	"database/sql/driver"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"
	"github.com/lib/pq"
	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker/internal/mysql"
	"github.com/calmdocs/dblocker/internal/postgres"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

// TestDetect: the name of a driver tells the engine, and else its type.
func TestDetect(t *testing.T) {
	for _, tc := range []struct {
		driver driver.Driver
		name   string
		want   *server.Engine
	}{
		{nil, "sqlite3", sqlite.Engine},
		{nil, "sqlite", sqlite.Engine},
		{nil, "sqlite3_with_extensions", sqlite.Engine},
		{nil, "postgres", postgres.Engine},
		{nil, "pgx", postgres.Engine},
		{nil, "cloudsqlpostgres", postgres.Engine},
		{nil, "mysql", mysql.Engine},
		{nil, "mariadb", mysql.Engine},
		{nil, "odbc", Generic},
		{nil, "", Generic},
		{&sqlite3.SQLiteDriver{}, "mine", sqlite.Engine},
		{&pq.Driver{}, "mine", postgres.Engine},
		{&mysqldriver.MySQLDriver{}, "", mysql.Engine},
		{&mysqldriver.MySQLDriver{}, "postgres-by-a-proxy", postgres.Engine},
	} {
		if got := Detect(tc.driver, tc.name); got != tc.want {
			t.Errorf("%T by the name %q is taken for %s, want %s", tc.driver, tc.name, got.Name, tc.want.Name)
		}
	}
}

// TestDSNsOfNoKnownEngineAreTheirOwnIdentity: such handles share their locks with others
// of the very same DSN.
func TestDSNsOfNoKnownEngineAreTheirOwnIdentity(t *testing.T) {
	for _, dsn := range []string{"nonsense", "user='x"} {
		if id := Generic.Database(dsn); id != dsn {
			t.Errorf("%q: got identity %q, want the DSN", dsn, id)
		}
	}
}
