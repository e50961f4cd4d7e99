package pgxfold_test

import (
	"context"
	"database/sql"
	"log"

	"github.com/calmdocs/dblocker"
	_ "github.com/jackc/pgx/v5/stdlib"
)

import _ "github.com/calmdocs/dblocker/pgxfold"

// A statement by itself takes one round trip, although the lock of its user is asked for at the server.
func Example() {
	db, err := sql.Open("dblocker", "pgx?lock_scope=database:postgres://user:password@host/app")
	if err != nil {
		log.Fatal(err)
	}
	ctx := dblocker.WithUser(context.Background(), "ann")
	if _, err := db.ExecContext(ctx, "UPDATE settings SET theme = $1 WHERE name = $2", "dark", "ann"); err != nil {
		log.Fatal(err)
	}
}
