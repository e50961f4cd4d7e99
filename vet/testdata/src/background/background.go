package background

import (
	"context"
	"database/sql"
	"net/http"
	"time"

	"github.com/calmdocs/dblocker"
)

func open() *sql.DB {
	db, _ := sql.Open("sqlite3-dblocker", "app.db")
	return db
}

func handler(w http.ResponseWriter, r *http.Request) {
	db := open()
	db.ExecContext(context.Background(), "UPDATE t SET v = 1") // want `context.Background\(\) has no user, and r.Context\(\) is at hand; pass that, or context.WithoutCancel\(r.Context\(\)\)`
	db.ExecContext(context.WithoutCancel(r.Context()), "UPDATE t SET v = 1")
	db.ExecContext(dblocker.WithoutUser(context.Background()), "UPDATE t SET v = 1")
	ctx := r.Context()
	func() {
		db.QueryRowContext(context.TODO(), "SELECT 1") // want `context.TODO\(\) has no user, and r.Context\(\) is at hand`
	}()
	_ = ctx
}

func section(ctx context.Context, db *sql.DB) error {
	_, unlock, err := dblocker.Lock(context.Background(), db) // want `context.Background\(\) has no user, and ctx is at hand`
	if err != nil {
		return err
	}
	defer unlock()
	return nil
}

func job(db *sql.DB) {
	ctx, unlock, err := dblocker.Lock(dblocker.WithUser(context.Background(), 1), db)
	_, _ = ctx, err
	defer unlock()
	db.ExecContext(context.Background(), "UPDATE t SET v = 1") // no request is at hand
}

func other(ctx context.Context, db *sql.DB) {
	db.ExecContext(context.Background(), "UPDATE t SET v = 1") // not known to be of dblocker
}

func derived(w http.ResponseWriter, r *http.Request) {
	db := open()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	db.ExecContext(ctx, "UPDATE t SET v = 1") // want `ctx has no user, and r.Context\(\) is at hand`
	save(ctx, db)                             // want `ctx has no user`
	bare := context.TODO()
	db.ExecContext(bare, "UPDATE t SET v = 1") // want `bare has no user`
	tagged := dblocker.WithUser(context.Background(), 1)
	db.ExecContext(tagged, "UPDATE t SET v = 1")
	later := context.Background()
	if r.Method == "POST" {
		later = r.Context()
	}
	db.ExecContext(later, "UPDATE t SET v = 1")
	valued := context.WithValue(context.Background(), dblocker.UserKey, 1)
	db.ExecContext(valued, "UPDATE t SET v = 1")
	go func() {
		db.ExecContext(context.Background(), "UPDATE t SET v = 1") // want `pass that, or context.WithoutCancel\(dblocker.Fork\(r.Context\(\)\)\)`
	}()
}

func save(ctx context.Context, db *sql.DB) error { return nil }

func orBackground(ctx context.Context, db *sql.DB) {
	if ctx == nil {
		ctx = context.Background()
	}
	dblocker.Lock(ctx, db)
	db.ExecContext(ctx, "UPDATE t SET v = 1")
}

func newStore(ctx context.Context) *sql.DB {
	db := open()
	go func() {
		for {
			db.ExecContext(context.Background(), "DELETE FROM log")
		}
	}()
	return db
}

func severalInGoroutine(w http.ResponseWriter, r *http.Request) {
	db := open()
	go func() {
		db.ExecContext(context.Background(), "UPDATE t SET v = 1") // want `has no user`
		db.ExecContext(context.Background(), "UPDATE t SET v = 2") // want `has no user`
	}()
}
