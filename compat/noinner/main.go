// Command noinner is a program that brings its own driver and leaves the default
// ones out by a build tag:
//
//	go run -tags dblocker_noinner ./noinner app.db
//
// It stores a row and prints what it reads.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"

	"github.com/calmdocs/dblocker"
	_ "modernc.org/sqlite"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: noinner database-file")
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(path string) error {
	db, err := sql.Open("dblocker", "sqlite:"+path)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx := dblocker.WithUser(context.Background(), "123")
	if _, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS files (name TEXT); INSERT INTO files VALUES ('stored')"); err != nil {
		return err
	}
	var name string
	if err := db.QueryRowContext(ctx, "SELECT name FROM files").Scan(&name); err != nil {
		return err
	}
	fmt.Println(name)

	_, err = sql.Open("dblocker", "sqlite3:"+path)
	fmt.Println(err)
	return nil
}
