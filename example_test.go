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
	db, done := openExample("")
	defer done()
	ctx := dblocker.WithUser(context.Background(), "ann")

	rows, err := db.QueryContext(dblocker.WithMode(ctx, dblocker.Exclusive), "SELECT upper(name) FROM files")
	if err != nil {
		log.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			log.Fatal(err)
		}
		fmt.Println(name)
	}
	// Output:
	// A.TXT
	// B.TXT
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

// A section keeps others of the user away from the Go code between two statements.
func ExampleLock() {
	db, done := openExample("")
	defer done()
	grow := func(ctx context.Context) error {
		ctx, unlock, err := dblocker.Lock(ctx, db, dblocker.Tag("grow"))
		if err != nil {
			return err
		}
		defer unlock()
		var size int
		if err := db.QueryRowContext(ctx, "SELECT size FROM files WHERE name = 'a.txt'").Scan(&size); err != nil {
			return err
		}
		_, err = db.ExecContext(ctx, "UPDATE files SET size = ? WHERE name = 'a.txt'", size+1)
		return err
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := grow(dblocker.WithUser(context.Background(), "ann")); err != nil {
				log.Fatal(err)
			}
		})
	}
	wg.Wait()
	var size int
	if err := db.QueryRow("SELECT size FROM files WHERE name = 'a.txt'").Scan(&size); err != nil {
		log.Fatal(err)
	}
	fmt.Println(size)
	// Output: 11
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
