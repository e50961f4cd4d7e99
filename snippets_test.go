package dblocker_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/dblockertest"
	"github.com/calmdocs/dblocker/lockpage"
	"github.com/calmdocs/dblocker/web"
)

// The snippets of the README and of the pages stand here, each as it is there: see TestReadmeSnippets.

var _ = func() {
	db, err := sql.Open("dblocker", "sqlite3?max_open_databases=200:data/{user}.db") // was: sql.Open("dblocker", "sqlite3:app.db")
	_, _ = db, err
}

var _ = func(ctx context.Context, perUser, shared *sql.DB, copyRows func(ctx context.Context, from, to *sql.DB) error, userIDs func(context.Context, *sql.DB) ([]string, error)) {
	err := dblocker.EachUser(ctx, perUser, func(ctx context.Context) error {
		return copyRows(ctx, shared, perUser) // both calls with this ctx: the user's lock and the user's file
	}, dblocker.EachOf(func(ctx context.Context) ([]string, error) { return userIDs(ctx, shared) }), dblocker.EachParallel(8))
	_ = err
}

var _ = func(migrate func(context.Context, *sql.DB) error) {
	db, err := dblocker.Openx("sqlite3", "data/{user}.db", dblocker.MaxOpenDatabases(200),
		dblocker.OnOpen(func(ctx context.Context, user string, db *sql.DB) error { return migrate(ctx, db) }))
	_, _ = db, err
}

var _ = func(ctx context.Context, db *sql.DB) {
	err := dblocker.EachUser(ctx, db, func(ctx context.Context) error {
		return db.PingContext(ctx) // opens the database, and so runs OnOpen
	}, dblocker.EachProgress(func(p dblocker.UserDone) { log.Print(p.Done, " of ", p.Total) }))
	_ = err
}

var _ = func(ctx context.Context, db *sql.DB) {
	err := dblocker.Backup(ctx, db, "backups/ann.db")
	_ = err
}

var _ = func(ctx context.Context, db *sql.DB, dir string) {
	err := dblocker.EachUser(ctx, db, func(ctx context.Context) error {
		user, _ := dblocker.User(ctx)
		name, err := dblocker.DatabaseName(user)
		if err != nil {
			return err
		}
		return dblocker.Backup(ctx, db, filepath.Join(dir, name+".db"))
	}, dblocker.EachShared())
	_ = err
}

var _ = func(ctx context.Context, db *sql.DB) {
	err := dblocker.RemoveUser(ctx, db)
	_ = err
}

var _ = func() {
	db, err := sql.Open("dblocker", "postgres:host=localhost dbname=app search_path={user}") // a schema for each user
	_, _ = db, err
}

var _ = func(ctx context.Context, db *sql.DB) {
	ctx = dblocker.WithUser(ctx, 27)

	rows, err := db.QueryContext(dblocker.WithMode(ctx, dblocker.Exclusive), "SELECT next_invoice_number()")
	_, _ = rows, err
}

var _ = func(ctx context.Context) {
	for range 2 {
		ctx := dblocker.Fork(ctx)
		_ = ctx
	}
}

var _ = func(ctx context.Context, db *sql.DB) error {
	ctx, unlock, err := dblocker.Lock(ctx, db) // or RLock; named after sync.RWMutex
	if err != nil {
		return err
	}
	defer unlock()
	// every call made with this ctx runs inside the section
	return db.PingContext(ctx)
}

var _ = func(ctx context.Context, debug bool) {
	store, err := dblocker.New(ctx, "sqlite3", "app.db", debug)
	_, _ = store, err
}

var _ = func(ctx context.Context, store *dblocker.Store, userID int) error {
	cancel, db, err := store.ReadGetDB(userID, ctx, "list files") // or RWGetDB
	if err != nil {
		return err
	}
	defer cancel()
	// db is a *sqlx.DB under the user's lock until cancel
	return db.Ping()
}

var _ = func(ctx context.Context, store *dblocker.Store, userID int) error {
	cancel, db, err := store.RWGetDB(userID, ctx, "update file name")
	if err != nil {
		return err
	}
	defer cancel()
	return db.Ping()
}

var _ = func(ctx context.Context, debug bool, shardOf func(user string) (string, error)) {
	store, err := dblocker.New(ctx, "sqlite3", "", debug, dblocker.DSNFunc(
		func(ctx context.Context, user string) (string, error) { return shardOf(user) }))
	_, _ = store, err
}

var _ = func() {
	db, err := sql.Open("dblocker", "sqlite3:app.db") // was: sql.Open("sqlite3", "app.db")
	_, _ = db, err
}

var _ = func() {
	db, err := sql.Open("dblocker", "sqlite3?durability=group:app.db")
	_, _ = db, err
}

var _ = func() {
	db, err := sql.Open("dblocker", "postgres://user:password@host/app?sslmode=disable")
	_, _ = db, err
}

var _ = func() {
	db, err := sql.Open("dblocker", "pgx:postgres://user:password@host/app")
	_, _ = db, err
}

var _ = func() {
	db, err := sql.Open("dblocker", "mysql:user:password@tcp(127.0.0.1:3306)/app")
	_, _ = db, err
}

var _ = func() {
	db, err := sql.Open("dblocker", "postgres?lock_scope=database:postgres://user@host/app")
	_, _ = db, err
}

var _ = func() {
	db, err := sql.Open("dblocker", "postgres?lock_scope=database&pooler=session:postgres://user@pooler/app")
	_, _ = db, err
}

var _ = func() {
	db, err := sql.Open("dblocker", "postgres?lock_scope=database&pooler=transaction:postgres://user@pooler/app")
	_, _ = db, err
}

var _ = func() {
	db, err := sql.Open("dblocker", "sqlite3?lock_scope=database:app.db")
	_, _ = db, err
}

var _ = func(conn *sql.Conn, useSQLite func(*sqlite3.SQLiteConn) error) (err error) {
	err = conn.Raw(func(driverConn any) error {
		return driverConn.(dblocker.RawConn).Raw(func(inner any) error {
			return useSQLite(inner.(*sqlite3.SQLiteConn))
		})
	})
	return err
}

var _ = func(ctx context.Context, w http.ResponseWriter, err error) {
	if status := web.Error(w, err); status >= 500 {
		slog.ErrorContext(ctx, "request failed", "status", status, "error", err)
	}
}

var _ = func(ctx context.Context, transfer func(context.Context) error) error {
	for try := 1; ; try++ {
		err := transfer(ctx)
		if !dblocker.Retryable(err) || try == 3 || ctx.Err() != nil {
			return err
		}
	}
}

var _ = func(mux *http.ServeMux, db *sql.DB) {
	mux.HandleFunc("/debug/locks", func(w http.ResponseWriter, r *http.Request) {
		holds, err := dblocker.Holds(db)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(holds)
	})
}

var _ = func(mux *http.ServeMux, currentUser func(*http.Request) (id string, ok bool)) error {
	tag := web.Middleware(func(r *http.Request) (id any, ok bool) {
		return currentUser(r) // your login check
	})
	return http.ListenAndServe("127.0.0.1:8080", tag(mux))
}

var _ = func(t *testing.T, openTestDB func(testing.TB) *sql.DB) {
	db := openTestDB(t)
	dblockertest.Check(t, db)
}

var _ = func(connector driver.Connector) {
	observe := dblocker.Observe(func(e dblocker.Event) {
		switch e.Kind {
		case dblocker.EventWaitEnded:
			log.Printf("user %q: waited %v for the %s: %s", e.User, e.Duration, e.What, e.Outcome)
		case dblocker.EventDeadlock:
			log.Printf("user %q: deadlock: %+v", e.User, e.Circle)
		}
	})
	db, err := dblocker.OpenDB(connector, observe)
	_, _ = db, err
}

var _ = func(mux *http.ServeMux, db *sql.DB) {
	page := new(lockpage.Page)
	page.Add("app", db)
	mux.Handle("/debug/dblocker/", page)
}

var _ = func() error {
	page := new(lockpage.Page)
	db, err := dblocker.Openx("sqlite3", "app.db", dblocker.Observe(page.Observe("app")))
	if err != nil {
		return err
	}
	page.Add("app", db)
	return nil
}

var _ = func(page *lockpage.Page, app, billing *sql.DB) {
	page.Add("app", app)
	page.Add("billing", billing)
}

var _ = func() *http.Request {
	r := httptest.NewRequest("GET", "/debug/dblocker/", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:4000", "localhost"
	return r
}

var _ = func(isAdmin func(*http.Request) bool) *lockpage.Page {
	page := &lockpage.Page{
		Allow: isAdmin,              // your login check
		Users: lockpage.HashUsers(), // in place of IDs
	}
	return page
}

var _ = func(ctx context.Context, name string) {
	logger := slog.New(dblocker.SlogHandler(slog.NewJSONHandler(os.Stderr, nil)))
	logger.InfoContext(ctx, "file renamed", "name", name)
}
