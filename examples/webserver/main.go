// Webserver counts the visits of each user. It is the program of the README: open, tag each request with its user,
// read, and read-modify-write in a transaction.
//
//	go run ./examples/webserver
//	curl 'http://127.0.0.1:8080/visit?user=ann'
//	curl 'http://127.0.0.1:8080/count?user=ann'
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"net/http"

	"github.com/calmdocs/dblocker"
)

const schema = "CREATE TABLE IF NOT EXISTS visits (name TEXT PRIMARY KEY, n INTEGER)"

func main() {
	db, err := sql.Open("dblocker", "sqlite3:app.db") // was: sql.Open("sqlite3", "app.db")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := db.Exec(schema); err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", server(db)))
}

func server(db *sql.DB) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/count", handler(db, count))
	mux.Handle("/visit", handler(db, visit))
	return mux
}

func handler(db *sql.DB, work func(context.Context, *sql.DB, string) (int, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user := r.FormValue("user")                    // your login check
		ctx := dblocker.WithUser(r.Context(), user)    // once per request; in a middleware if you have one
		if n, err := work(ctx, db, user); err != nil { // every call gets this ctx
			http.Error(w, err.Error(), http.StatusInternalServerError)
		} else {
			fmt.Fprintln(w, n)
		}
	}
}

// count only reads: reads of one user run together.
func count(ctx context.Context, db *sql.DB, user string) (n int, err error) {
	err = db.QueryRowContext(ctx, "SELECT COALESCE(SUM(n), 0) FROM visits WHERE name = $1", user).Scan(&n)
	return n, err
}

// visit reads and writes: until Commit or Rollback the user's other requests wait.
func visit(ctx context.Context, db *sql.DB, user string) (n int, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	if err := tx.QueryRowContext(ctx, "SELECT COALESCE(SUM(n), 0) FROM visits WHERE name = $1", user).Scan(&n); err != nil {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO visits VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET n = $2", user, n+1); err != nil {
		return 0, err
	}
	return n + 1, tx.Commit()
}
