package dsn

import (
	"context"
	"database/sql"

	"github.com/jmoiron/sqlx"

	"github.com/calmdocs/dblocker"
)

func open(ctx context.Context, path string) {
	sql.Open("dblocker", "sqlite3:app.db?_fk=1")
	sql.Open("dblocker", "sqlite3?lock_timeout=5s:app.db?_fk=1")
	sql.Open("dblocker", "sqlite3:app.db?_fk=1&lock_timeout=5s")  // want `lock_timeout is an option of dblocker, and stands in the DSN of the inner driver`
	sql.Open("dblocker", "sqlite3?trace=on:app.db?untagged=warn") // want `untagged is an option of dblocker`
	sql.Open("dblocker", "sqlite3?lock_timout=5s:app.db")         // want `unknown option "lock_timout"; known options: lock_timeout`
	sql.Open("dblocker", "app.db")                                // want `the data source name has no driver before its first colon`
	sql.Open("dblocker", "file:app.db")
	sql.Open("dblocker", "sqlite3:"+path)
	sql.Open("sqlite3", "app.db?lock_timeout=5s")               // another driver
	sql.Open("dblocker", "postgres://u@h/app?lock_timeout=5s")  // PostgreSQL's own
	sql.Open("dblocker", "postgres://u@h/app?max_open_conns=5") // in a URL
	sql.Open("dblocker", "postgres:host=h max_open_conns=5")    // want `max_open_conns is an option of dblocker`
	sql.Open("dblocker", "mysql?max_open_conns=20:u:pw@tcp(127.0.0.1:3306)/app")
	sqlx.Connect("dblocker", "mysql:u:pw@tcp(127.0.0.1:3306)/app?parseTime=true&max_open_conns=20") // want `max_open_conns is an option of dblocker`
	sql.Open("sqlite3-dblocker", "app.db?lock_timeout=5s")                                          // want `lock_timeout is an option of dblocker`
	dblocker.New(ctx, "sqlite3", "app.db?trace=on", false)                                          // want `trace is an option of dblocker`
	dblocker.New(ctx, "sqlite3", "data/{user}.db", false)
}
