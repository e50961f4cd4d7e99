package compat

import (
	"context"
	"database/sql/driver"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/postgres"
	_ "github.com/calmdocs/dblocker/pgxfold"
)

// A somewhereFolder is that of pgxfold for some databases, and leaves all others as they are without it.
type somewhereFolder struct {
	postgres.Folder
	databases *sync.Map // by their names
}

var folder = somewhereFolder{postgres.UseFolder(nil), new(sync.Map)}

func init() { postgres.UseFolder(folder) }

func (f somewhereFolder) Folds(ci driver.Conn) bool {
	c, ok := ci.(*stdlib.Conn)
	if !ok || !f.Folder.Folds(ci) {
		return false
	}
	_, is := f.databases.Load(c.Conn().Config().Database)
	return is
}

// foldOn has statements folded on a database, if pgx knows its DSN.
func foldOn(dsn string) {
	if cfg, err := pgx.ParseConfig(dsn); err == nil {
		folder.databases.Store(cfg.Database, true)
	}
}

// manyUsers is a context whose user is always another.
type manyUsers struct {
	context.Context
	n *atomic.Int64
}

func (c manyUsers) Value(key any) any {
	if key == dblocker.UserKey {
		return c.n.Add(1)
	}
	return c.Context.Value(key)
}
