package dblocker_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker"
)

// openExample opens a new database with a table of files.
func openExample(options string) (db *sql.DB, done func()) {
	dir, err := os.MkdirTemp("", "dblocker")
	if err != nil {
		log.Fatal(err)
	}
	db, err = sql.Open("dblocker", "sqlite3"+options+":"+filepath.Join(dir, "app.db"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE files (name TEXT, size INTEGER); INSERT INTO files VALUES ('a.txt', 1), ('b.txt', 2)"); err != nil {
		log.Fatal(err)
	}
	return db, func() {
		db.Close()
		os.RemoveAll(dir)
	}
}

func Example() {
	db, done := openExample("")
	defer done()

	// Once per request, for example in a middleware.
	ctx := dblocker.WithUser(context.Background(), 123)

	// A query takes the user's lock shared, until its rows are closed.
	var size int
	if err := db.QueryRowContext(ctx, "SELECT size FROM files WHERE name = ?", "b.txt").Scan(&size); err != nil {
		log.Fatal(err)
	}
	// A write takes it exclusive.
	if _, err := db.ExecContext(ctx, "UPDATE files SET size = ? WHERE name = ?", size+1, "b.txt"); err != nil {
		log.Fatal(err)
	}
	// So does a transaction, from Begin to Commit or Rollback.
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback()
	if err := tx.QueryRow("SELECT SUM(size) FROM files").Scan(&size); err != nil {
		log.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(size)
	// Output: 4
}

func ExampleWithUser() {
	db, done := openExample("")
	defer done()

	currentUser := func(r *http.Request) string { return r.Header.Get("X-User") }

	// Tag each request's context in a middleware:
	tagged := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := dblocker.WithUser(r.Context(), currentUser(r))
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}

	http.Handle("/files", tagged(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n int
		err := db.QueryRowContext(r.Context(), "SELECT COUNT(*) FROM files").Scan(&n)
		fmt.Fprintln(w, n, err)
	})))
}

// A SELECT that calls a function which writes does not look like a write.
func ExampleWithMode() {
	// next_invoice writes: it counts, in the program. Nothing but the user's lock guards the count.
	invoices := 0
	inner := &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
		return c.RegisterFunc("next_invoice", func() int { invoices++; return invoices }, false)
	}}
	if err := dblocker.Register("sqlite3-invoices", inner); err != nil {
		log.Fatal(err)
	}
	db, err := sql.Open("sqlite3-invoices", ":memory:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			ctx := dblocker.WithUser(context.Background(), "ann")
			var number int
			err := db.QueryRowContext(dblocker.WithMode(ctx, dblocker.Exclusive), "SELECT next_invoice()").Scan(&number)
			if err != nil {
				log.Fatal(err)
			}
		})
	}
	wg.Wait()
	fmt.Println(invoices)
	// Output: 10
}

func ExampleLockError() {
	db, done := openExample("?lock_timeout=100ms")
	defer done()
	request1 := dblocker.WithUser(context.Background(), "ann")
	request2 := dblocker.WithUser(context.Background(), "ann")

	tx, err := db.BeginTx(request1, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback()

	_, err = db.ExecContext(request2, "DELETE FROM files")
	var lockErr *dblocker.LockError
	if errors.As(err, &lockErr) {
		fmt.Println(lockErr.User, lockErr.Mode, errors.Is(err, dblocker.ErrLockTimeout))
	}
	// Output: ann exclusive true
}

// Two parts of one request that run in parallel wait for each other like two
// requests.
func ExampleFork() {
	db, done := openExample("")
	defer done()
	ctx := dblocker.WithUser(context.Background(), "ann")

	var wg sync.WaitGroup
	for range 2 {
		ctx := dblocker.Fork(ctx)
		wg.Go(func() {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				log.Fatal(err)
			}
			defer tx.Rollback()
			var size int
			if err := tx.QueryRow("SELECT size FROM files WHERE name = 'a.txt'").Scan(&size); err != nil {
				log.Fatal(err)
			}
			if _, err := tx.Exec("UPDATE files SET size = ? WHERE name = 'a.txt'", size+1); err != nil {
				log.Fatal(err)
			}
			if err := tx.Commit(); err != nil {
				log.Fatal(err)
			}
		})
	}
	wg.Wait()

	var size int
	if err := db.QueryRowContext(ctx, "SELECT size FROM files WHERE name = 'a.txt'").Scan(&size); err != nil {
		log.Fatal(err)
	}
	fmt.Println(size)
	// Output: 3
}

func ExampleRegister() {
	// A driver of the program's own, under a name of its own.
	inner := &sqlite3.SQLiteDriver{
		ConnectHook: func(c *sqlite3.SQLiteConn) error {
			return c.RegisterFunc("double", func(n int) int { return 2 * n }, true)
		},
	}
	if err := dblocker.Register("sqlite3-hooked", inner, dblocker.LockTimeout(5*time.Second)); err != nil {
		log.Fatal(err)
	}
	db, err := sql.Open("sqlite3-hooked", ":memory:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	var n int
	if err := db.QueryRow("SELECT double(21)").Scan(&n); err != nil {
		log.Fatal(err)
	}
	fmt.Println(n)
	// Output: 42
}

// The inner driver's connection is one step further in than usual.
func ExampleRawConn() {
	db, done := openExample("")
	defer done()

	conn, err := db.Conn(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	err = conn.Raw(func(driverConn any) error {
		return driverConn.(dblocker.RawConn).Raw(func(inner any) error {
			fmt.Println(inner.(*sqlite3.SQLiteConn).AutoCommit())
			return nil
		})
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: true
}

func ExampleNew() {
	dir, err := os.MkdirTemp("", "dblocker")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := dblocker.New(context.Background(), "sqlite3", filepath.Join(dir, "app.db"), false)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	cancel, db, err := store.RWGetDB("ann", context.Background(), "make files")
	if err != nil {
		log.Fatal(err)
	}
	defer cancel()
	db.MustExec("CREATE TABLE files (name TEXT); INSERT INTO files VALUES ('a.txt')")
	var names []string
	if err := db.Select(&names, "SELECT name FROM files"); err != nil {
		log.Fatal(err)
	}
	cancel()
	fmt.Println(names, db.Select(&names, "SELECT name FROM files"))
	// Output: [a.txt] dblocker: this handle was given back to the Store by its cancel; use it before that, or get another one
}

// Holds shows who has what now, the oldest first.
func ExampleHolds() {
	db, done := openExample("")
	defer done()
	_, unlock, err := dblocker.Lock(dblocker.WithUser(context.Background(), "ann"), db, dblocker.Tag("rename file"))
	if err != nil {
		log.Fatal(err)
	}
	defer unlock()
	holds, err := dblocker.Holds(db)
	if err != nil {
		log.Fatal(err)
	}
	for _, h := range holds {
		fmt.Println(h.What, h.User, h.Mode, h.Kind, h.Tag, "waiting:", h.Waiting)
	}
	// Output: lock ann exclusive section rename file waiting: false
}

// Stats counts what had to wait.
func ExampleStats() {
	db, done := openExample("?lock_timeout=50ms")
	defer done()
	_, unlock, err := dblocker.Lock(dblocker.WithUser(context.Background(), "ann"), db)
	if err != nil {
		log.Fatal(err)
	}
	_, err = db.ExecContext(dblocker.WithUser(context.Background(), "ann"), "DELETE FROM files")
	unlock()
	st, statsErr := dblocker.Stats(db)
	if statsErr != nil {
		log.Fatal(statsErr)
	}
	fmt.Println(errors.Is(err, dblocker.ErrLockTimeout), st.Held, st.Waiting, st.Locks.Waits, st.Locks.Timeouts)
	// Output: true 0 0 1 1
}

// OpenDB takes any connector, such as one of a driver with settings in Go.
func ExampleOpenDB() {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.DBName = "tcp", "127.0.0.1:3306", "app"
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		log.Fatal(err)
	}
	db, err := dblocker.OpenDB(connector, dblocker.MaxOpenConns(20), dblocker.Lockspace("app"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	fmt.Printf("%T\n", db.Driver().(*dblocker.Driver).Unwrap())
	// Output: *mysql.MySQLDriver
}

// Each user has a database file.
func ExampleDSNFunc() {
	dir, err := os.MkdirTemp("", "dblocker")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	fileOf := func(_ context.Context, user string) (string, error) {
		return filepath.Join(dir, fmt.Sprintf("%x.db", user)), nil // in hex, so that no ID leaves the directory
	}
	store, err := dblocker.New(context.Background(), "sqlite3", "", false, dblocker.DSNFunc(fileOf))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	for _, user := range []string{"ann", "../bob"} {
		err := store.RWDo(user, context.Background(), "create", func(db *sqlx.DB) error {
			_, err := db.Exec("CREATE TABLE files (name TEXT)")
			return err
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.db"))
	for _, f := range files {
		fmt.Println(filepath.Base(f))
	}
	// Output:
	// 2e2e2f626f62.db
	// 616e6e.db
}

// With untagged=error a call whose user was forgotten is refused. Work that belongs to no user says so.
func ExampleUntagged() {
	db, err := sql.Open("dblocker", "sqlite3?untagged=error::memory:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	_, err = db.ExecContext(context.Background(), "CREATE TABLE files (name TEXT)")
	fmt.Println(errors.Is(err, dblocker.ErrNoUser))
	_, err = db.ExecContext(dblocker.WithoutUser(context.Background()), "CREATE TABLE files (name TEXT)")
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}

// Each copy of a program opens the database so; then a user's lock keeps the copies apart too. The example needs a server, so that it is not run.
func ExampleLockScope() {
	db, err := sql.Open("dblocker", "postgres?lock_scope=database:postgres://user:password@host/app")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	ctx, unlock, err := dblocker.Lock(dblocker.WithUser(context.Background(), "ann"), db)
	if err != nil {
		log.Fatal(err)
	}
	defer unlock()
	_, err = db.ExecContext(ctx, "UPDATE files SET size = size + 1 WHERE owner = $1", "ann")
	if errors.Is(err, dblocker.ErrLockLost) {
		log.Print("another process may have the lock by now: begin again")
	}
}

// The placeholders are those of the engine, whatever the driver is called: $1 on PostgreSQL.
func ExampleOpenx() {
	db, err := dblocker.Openx("sqlite3", ":memory:") // was: sqlx.Open("sqlite3", ":memory:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.MustExec("CREATE TABLE files (name TEXT, size INTEGER); INSERT INTO files VALUES ('a.txt', 1)")

	ctx := dblocker.WithUser(context.Background(), "ann")
	if _, err := db.NamedExecContext(ctx, "UPDATE files SET size = size + :more", map[string]any{"more": 2}); err != nil {
		log.Fatal(err)
	}
	var size int
	if err := db.GetContext(ctx, &size, db.Rebind("SELECT size FROM files WHERE name = ?"), "a.txt"); err != nil {
		log.Fatal(err)
	}

	postgres, err := dblocker.Openx("dblocker", "postgres?lock_timeout=5s:postgres://user@host/app")
	if err != nil {
		log.Fatal(err)
	}
	defer postgres.Close() // which has not connected
	fmt.Println(size, postgres.Rebind("SELECT size FROM files WHERE name = ?"))
	// Output: 3 SELECT size FROM files WHERE name = $1
}

// sqlx knows the placeholders of the name forms, such as $1 of postgres-dblocker.
func Example_sqlx() {
	db, err := sqlx.Open("sqlite3-dblocker", ":memory:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.MustExec("CREATE TABLE files (name TEXT, size INTEGER); INSERT INTO files VALUES ('a.txt', 1)")

	ctx := dblocker.WithUser(context.Background(), "ann")
	if _, err := db.NamedExecContext(ctx, "UPDATE files SET size = size + :more", map[string]any{"more": 2}); err != nil {
		log.Fatal(err)
	}
	var file struct {
		Name string
		Size int
	}
	if err := db.GetContext(ctx, &file, db.Rebind("SELECT * FROM files WHERE name = ?"), "a.txt"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(file.Name, file.Size, sqlx.Rebind(sqlx.BindType("postgres-dblocker"), "?"))
	// Output: a.txt 3 $1
}
