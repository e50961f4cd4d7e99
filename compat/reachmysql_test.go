package compat

import (
	"context"
	"database/sql"
	"os"
	osexec "os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// addWays are ways to read a counter and to write one more on MySQL, under one lock.
var addWays = []func(ctx context.Context, db *sql.DB) error{
	addByTx(nil),
	addByTx(&sql.TxOptions{Isolation: sql.LevelReadCommitted}),
	func(ctx context.Context, db *sql.DB) error {
		return dblocker.Do(ctx, db, func(ctx context.Context) error { return addOn(ctx, db) })
	},
	func(ctx context.Context, db *sql.DB) error {
		ctx, unlock, err := dblocker.LockAll(ctx, db)
		defer unlock()
		if err != nil {
			return err
		}
		return addOn(ctx, db)
	},
	func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "UPDATE reached SET n = n + ?", 1)
		return err
	},
}

func addOn(ctx context.Context, q interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}) error {
	var n int
	if err := q.QueryRowContext(ctx, "SELECT n FROM reached WHERE id = ?", 1).Scan(&n); err != nil {
		return err
	}
	_, err := q.ExecContext(ctx, "UPDATE reached SET n = ?", n+1)
	return err
}

func addByTx(opts *sql.TxOptions) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, opts)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := addOn(ctx, tx); err != nil {
			return err
		}
		return tx.Commit()
	}
}

// TestReachMySQLProcesses: three processes lose no update of each other; a fourth is killed in a section, in a statement, and the
// others have its lock next.
func TestReachMySQLProcesses(t *testing.T) {
	if dsn := os.Getenv(reachDSN); dsn != "" {
		addWorker(t, dsn, os.Getenv(reachVictim) != "")
		return
	}
	testdb.NoLeaks(t)
	d := testdb.MySQL(t).NewDatabase(t)
	db := open(t, "mysql", d.DSN())
	for _, query := range []string{"CREATE TABLE reached (id INT PRIMARY KEY, n INT) ENGINE=InnoDB", "INSERT INTO reached VALUES (1, 0)"} {
		if _, err := db.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for _, victim := range []string{"1", "", "", ""} {
		all.Go(func() {
			cmd := osexec.Command(os.Args[0], "-test.run=^TestReachMySQLProcesses$")
			cmd.Env = append(os.Environ(), reachDSN+"="+d.DSN(), reachVictim+"="+victim)
			out, err := cmd.CombinedOutput()
			if killed := strings.Contains(string(out), "in the section"); err != nil && !(victim != "" && killed) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	all.Wait()
	var n int
	if err := db.QueryRow("SELECT n FROM reached").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if want := 3 * reachWorkers * reachRounds * len(addWays); n != want {
		t.Errorf("the counter is at %d after %d increments", n, want)
	}
	again := open(t, "dblocker", "mysql?lock_scope=database&lock_timeout=20s:"+d.DSN())
	if _, unlock, err := dblocker.LockAll(context.Background(), again); err != nil {
		t.Errorf("a lock is left: %v", err)
	} else {
		unlock()
	}
}

func addWorker(t *testing.T, dsn string, victim bool) {
	db := open(t, "dblocker", "mysql?lock_scope=database&lock_timeout=2m:"+dsn)
	ctx := dblocker.WithUser(context.Background(), "u")
	if victim {
		inside, _, err := dblocker.Lock(ctx, db)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(inside, "DO SLEEP(0.2)"); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("in the section\n")
		self, _ := os.FindProcess(os.Getpid())
		time.AfterFunc(100*time.Millisecond, func() { self.Kill() })
		db.ExecContext(inside, "DO SLEEP(1)")
		select {}
	}
	var all sync.WaitGroup
	for range reachWorkers {
		all.Go(func() {
			for range reachRounds {
				for i, way := range addWays {
					if err := way(dblocker.WithUser(context.Background(), "u"), db); err != nil {
						t.Errorf("way %d: %v", i, err)
					}
				}
			}
		})
	}
	all.Wait()
}
