package main

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/calmdocs/dblocker"
)

// users are whose counters are changed.
var users = []string{"ann", "bob", "eve"}

// workerName and workerDSN tell a process that it is one of the three, and where to work.
const workerName, workerDSN = "CLUSTER_WORKER_NAME", "CLUSTER_WORKER_DSN"

// work is the program of which several copies run: it changes counters until its input ends, and prints the user's name after
// each change that the database has confirmed.
func work(ctx context.Context, dsn string, in io.Reader, out io.Writer) error {
	db, err := sql.Open("dblocker", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		bufio.NewReader(in).ReadByte() // until it is closed, also by the end of the other process
		cancel()
	}()

	var mu sync.Mutex // guards out
	failed := make(chan error, 2)
	for range cap(failed) {
		go func() {
			for ctx.Err() == nil {
				user := users[rand.IntN(len(users))]
				if err := raise(dblocker.WithUser(context.Background(), user), db, user); err != nil {
					failed <- err
					return
				}
				mu.Lock()
				fmt.Fprintln(out, user)
				mu.Unlock()
			}
			failed <- nil
		}()
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			return err
		}
	}
	return nil
}

// raise adds one to the user's counter. What it does between the read and the write could be anything: a file, a call of
// another service. Nobody else works for the user meanwhile, in any process.
func raise(ctx context.Context, db *sql.DB, user string) error {
	return dblocker.Do(ctx, db, func(ctx context.Context) error {
		var n int
		if err := db.QueryRowContext(ctx, "SELECT n FROM cluster_counters WHERE name = '"+user+"'").Scan(&n); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
		_, err := db.ExecContext(ctx, fmt.Sprintf("UPDATE cluster_counters SET n = %d WHERE name = '%s'", n+1, user))
		return err
	})
}
