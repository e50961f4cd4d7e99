package opens

import (
	"database/sql"

	"github.com/calmdocs/dblocker"
)

const name = "sqlite3-hooked"

var Shared *sql.DB

func Open() (*sql.DB, error) {
	if err := dblocker.Register(name, nil); err != nil {
		return nil, err
	}
	var err error
	if Shared, err = sql.Open(name, "app.db"); err != nil {
		return nil, err
	}
	return sql.Open(name, "app.db")
}
