package dblocker_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"

	"github.com/calmdocs/dblocker"
)

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

// What a shared section reads belongs together: nobody writes for the user meanwhile.
func ExampleRLock() {
	db, done := openExample("")
	defer done()
	ctx, unlock, err := dblocker.RLock(dblocker.WithUser(context.Background(), "ann"), db)
	if err != nil {
		log.Fatal(err)
	}
	defer unlock()
	var number, sum int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM files").Scan(&number); err != nil {
		log.Fatal(err)
	}
	if err := db.QueryRowContext(ctx, "SELECT SUM(size) FROM files").Scan(&sum); err != nil {
		log.Fatal(err)
	}
	_, err = db.ExecContext(ctx, "DELETE FROM files")
	fmt.Println(number, sum, errors.Is(err, dblocker.ErrReadOnly))
	// Output: 2 3 true
}

// TryLock does not wait.
func ExampleTryLock() {
	db, done := openExample("")
	defer done()
	request1 := dblocker.WithUser(context.Background(), "ann")
	request2 := dblocker.WithUser(context.Background(), "ann")

	_, unlock, err := dblocker.TryLock(request1, db)
	if err != nil {
		log.Fatal(err)
	}
	_, _, err = dblocker.TryLock(request2, db)
	fmt.Println("while the first has it:", errors.Is(err, dblocker.ErrLockTimeout))
	unlock()
	_, unlock, err = dblocker.TryLock(request2, db)
	fmt.Println("after its unlock:", err)
	unlock()
	// Output:
	// while the first has it: true
	// after its unlock: <nil>
}

// Calls that lock the same users never wait for each other in a circle.
func ExampleLockUsers() {
	db, done := openExample("")
	defer done()
	if _, err := db.Exec("CREATE TABLE accounts (user TEXT, cents INTEGER); INSERT INTO accounts VALUES ('ann', 100), ('bob', 100)"); err != nil {
		log.Fatal(err)
	}
	balance := func(ctx context.Context, user string) (cents int, err error) {
		err = db.QueryRowContext(ctx, "SELECT cents FROM accounts WHERE user = ?", user).Scan(&cents)
		return cents, err
	}
	transfer := func(from, to string, cents int) error {
		ctx, unlock, err := dblocker.LockUsers(context.Background(), db, from, to, dblocker.Tag("transfer"))
		if err != nil {
			return err
		}
		defer unlock()
		have, err := balance(ctx, from)
		if err != nil || have < cents {
			return err
		}
		_, err = db.ExecContext(ctx, "UPDATE accounts SET cents = cents + CASE user WHEN ? THEN ? ELSE ? END WHERE user IN (?, ?)", from, -cents, cents, from, to)
		return err
	}
	var wg sync.WaitGroup
	for i := range 20 {
		from, to := "ann", "bob"
		if i%2 == 1 {
			from, to = to, from
		}
		wg.Go(func() {
			if err := transfer(from, to, 5); err != nil {
				log.Fatal(err)
			}
		})
	}
	wg.Wait()
	ann, _ := balance(context.Background(), "ann")
	bob, _ := balance(context.Background(), "bob")
	fmt.Println(ann, bob)
	// Output: 100 100
}

// A migration waits for the work of all users, and all users wait for it.
func ExampleLockAll() {
	db, done := openExample("")
	defer done()
	migrate := func(ctx context.Context) error {
		ctx, unlock, err := dblocker.LockAll(ctx, db, dblocker.Tag("migrate"))
		if err != nil {
			return err
		}
		defer unlock()
		_, err = db.ExecContext(ctx, "ALTER TABLE files ADD COLUMN owner TEXT DEFAULT 'ann'")
		return err
	}
	if err := migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
	var owner string
	ctx := dblocker.WithUser(context.Background(), "ann")
	if err := db.QueryRowContext(ctx, "SELECT owner FROM files").Scan(&owner); err != nil {
		log.Fatal(err)
	}
	fmt.Println(owner)
	// Output: ann
}

// Do ends its section also if the function panics.
func ExampleDo() {
	db, done := openExample("")
	defer done()
	ctx := dblocker.WithUser(context.Background(), "ann")
	err := dblocker.Do(ctx, db, func(ctx context.Context) error {
		var size int
		if err := db.QueryRowContext(ctx, "SELECT size FROM files WHERE name = 'a.txt'").Scan(&size); err != nil {
			return err
		}
		_, err := db.ExecContext(ctx, "UPDATE files SET size = ? WHERE name = 'a.txt'", size+1)
		return err
	}, dblocker.Tag("grow"))
	var size int
	db.QueryRowContext(ctx, "SELECT size FROM files WHERE name = 'a.txt'").Scan(&size)
	fmt.Println(size, err)
	// Output: 2 <nil>
}

// A temporary table is seen by the connection that made it: with Pin that is the section's.
func ExamplePin() {
	db, done := openExample("")
	defer done()
	ctx, unlock, err := dblocker.Lock(dblocker.WithUser(context.Background(), "ann"), db, dblocker.Pin())
	if err != nil {
		log.Fatal(err)
	}
	defer unlock()
	if _, err := db.ExecContext(ctx, "CREATE TEMP TABLE chosen AS SELECT name FROM files WHERE size > 1"); err != nil {
		log.Fatal(err)
	}
	var name string
	err = db.QueryRowContext(ctx, "SELECT name FROM chosen").Scan(&name)
	fmt.Println(name, err)
	// Output: b.txt <nil>
}
