package main

import (
	"database/sql/driver"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/calmdocs/dblocker/internal/postgres"
	_ "github.com/calmdocs/dblocker/pgxfold"
)

// foldedReach is the contender whose statements pgxfold folds. The others are without it.
const foldedReach = "pgxfold"

// A somewhereFolder is that of pgxfold for some databases only.
type somewhereFolder struct {
	postgres.Folder
	databases *sync.Map // by their names
}

var folder = somewhereFolder{postgres.UseFolder(nil), new(sync.Map)}

func init() { postgres.UseFolder(folder) }

// Folds implements [postgres.Folder].
func (f somewhereFolder) Folds(ci driver.Conn) bool {
	c, ok := ci.(*stdlib.Conn)
	if !ok || !f.Folder.Folds(ci) {
		return false
	}
	const key = "bench"
	data := c.Conn().PgConn().CustomData()
	if data[key] == nil {
		_, data[key] = f.databases.Load(c.Conn().Config().Database)
	}
	return data[key].(bool)
}

func foldOn(dsn string) {
	if cfg, err := pgx.ParseConfig(dsn); err == nil {
		folder.databases.Store(cfg.Database, true)
	}
}
