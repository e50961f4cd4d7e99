package tools

import (
	"errors"
	"testing/fstest"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	"github.com/golang-migrate/migrate/v4/database/mysql"
	"github.com/golang-migrate/migrate/v4/database/postgres"
	"github.com/golang-migrate/migrate/v4/database/sqlite3"
	"github.com/golang-migrate/migrate/v4/source/iofs"
)

var migrateFiles = fstest.MapFS{
	"migrations/1_accounts.up.sql":   {Data: []byte("CREATE TABLE accounts (id BIGINT PRIMARY KEY, cents BIGINT)")},
	"migrations/1_accounts.down.sql": {Data: []byte("DROP TABLE accounts")},
	"migrations/2_cents.up.sql":      {Data: []byte("CREATE INDEX cents ON accounts (cents)")},
	"migrations/2_cents.down.sql":    {Data: []byte("DROP INDEX cents")},
}

// migrateUp brings the table up by golang-migrate, on a handle of its own: Close of a Migrate closes that.
func migrateUp(to *target) error {
	driver, err := migrateDriver(to)
	if err != nil {
		return err
	}
	files, err := iofs.New(migrateFiles, "migrations")
	if err != nil {
		return err
	}
	m, err := migrate.NewWithInstance("iofs", files, "app", driver)
	if err != nil {
		return err
	}
	err = m.Up()
	if errors.Is(err, migrate.ErrNoChange) {
		err = nil
	}
	bySource, byDatabase := m.Close()
	return errors.Join(err, bySource, byDatabase)
}

func migrateDriver(to *target) (database.Driver, error) {
	handle, err := to.open() // not the program's: migrate closes it
	if err != nil {
		return nil, err
	}
	switch to.engine {
	case postgresEngine:
		return postgres.WithInstance(handle, &postgres.Config{})
	case mariadbEngine:
		return mysql.WithInstance(handle, &mysql.Config{})
	}
	return sqlite3.WithInstance(handle, &sqlite3.Config{})
}
