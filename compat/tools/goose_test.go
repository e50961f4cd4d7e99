package tools

import (
	"context"
	"testing/fstest"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

var gooseFiles = fstest.MapFS{
	"1_accounts.sql": {Data: []byte("-- +goose Up\nCREATE TABLE accounts (id BIGINT PRIMARY KEY, cents BIGINT NOT NULL);\n-- +goose Down\nDROP TABLE accounts;\n")},
	"2_cents.sql":    {Data: []byte("-- +goose NO TRANSACTION\n-- +goose Up\nCREATE INDEX cents ON accounts (cents);\n-- +goose Down\nDROP INDEX cents;\n")},
}

// gooseUp brings the table up by goose.
func gooseUp(ctx context.Context, to *target) error {
	var opts []goose.ProviderOption
	if to.engine == postgresEngine { // so that only one process migrates, by pg_advisory_lock
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return err
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	}
	dialect := map[*engine]goose.Dialect{sqliteEngine: goose.DialectSQLite3, postgresEngine: goose.DialectPostgres, mariadbEngine: goose.DialectMySQL}[to.engine]
	handle := to.handle
	provider, err := goose.NewProvider(dialect, handle, gooseFiles, opts...)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}
