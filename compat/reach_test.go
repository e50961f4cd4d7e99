package compat

import (
	"context"
	"database/sql"
	"errors"
	"os"
	osexec "os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// A process that TestReachProcesses has started finds in its environment what it is to do.
const (
	reachDriver = "DBLOCKER_TEST_REACH_DRIVER"
	reachDSN    = "DBLOCKER_TEST_REACH_DSN"
	reachVictim = "DBLOCKER_TEST_REACH_VICTIM"
)

const (
	reachWorkers = 3
	reachRounds  = 12
)

// incrementWays are ways to read a counter and to write one more, under one lock.
var incrementWays = []func(ctx context.Context, db *sql.DB) error{
	incrementByTx(nil),
	incrementByTx(&sql.TxOptions{Isolation: sql.LevelRepeatableRead}),
	incrementByTx(&sql.TxOptions{Isolation: sql.LevelSerializable}),
	func(ctx context.Context, db *sql.DB) error {
		return dblocker.Do(ctx, db, func(ctx context.Context) error { return incrementOn(ctx, db) })
	},
	func(ctx context.Context, db *sql.DB) error {
		ctx, unlock, err := dblocker.LockAll(ctx, db)
		defer unlock()
		if err != nil {
			return err
		}
		return incrementOn(ctx, db)
	},
	func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "UPDATE reached SET n = n + $1", 1)
		return err
	},
}

func incrementOn(ctx context.Context, q interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}) error {
	var n int
	if err := q.QueryRowContext(ctx, "SELECT n FROM reached WHERE id = $1", 1).Scan(&n); err != nil {
		return err
	}
	_, err := q.ExecContext(ctx, "UPDATE reached SET n = $1", n+1)
	return err
}

func incrementByTx(opts *sql.TxOptions) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, opts)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := incrementOn(ctx, tx); err != nil {
			return err
		}
		return tx.Commit()
	}
}

// TestReachProcesses: three processes, one of which has another driver than the others, lose no update of each other; a fourth
// is killed in a section, and the others have its lock next.
func TestReachProcesses(t *testing.T) {
	if dsn := os.Getenv(reachDSN); dsn != "" {
		reachWorker(t, os.Getenv(reachDriver), dsn, os.Getenv(reachVictim) != "")
		return
	}
	testdb.NoLeaks(t)
	d := testdb.Postgres(t).NewDatabase(t)
	db := open(t, "postgres", d.DSN())
	for _, query := range []string{"CREATE TABLE reached (id INT, n INT)", "INSERT INTO reached VALUES (1, 0)"} {
		if _, err := db.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for _, p := range []struct{ driver, dsn, victim string }{
		{"postgres", d.DSN(), "1"}, {"postgres", d.DSN(), ""}, {"pgx", d.URL(), ""}, {"pgx", d.URL(), ""},
	} {
		all.Go(func() {
			cmd := osexec.Command(os.Args[0], "-test.run=^TestReachProcesses$")
			cmd.Env = append(os.Environ(), reachDriver+"="+p.driver, reachDSN+"="+p.dsn, reachVictim+"="+p.victim)
			out, err := cmd.CombinedOutput()
			if killed := strings.Contains(string(out), "in the section"); err != nil && !(p.victim != "" && killed) {
				t.Errorf("%s: %v\n%s", p.driver, err, out)
			}
		})
	}
	all.Wait()
	var n, left int
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // the server has yet to see that they have ended
		if err := db.QueryRow("SELECT n, (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) FROM reached").Scan(&n, &left); err != nil {
			t.Fatal(err)
		}
		if left == 0 || time.Now().After(deadline) {
			break
		}
	}
	if want := 3 * reachWorkers * reachRounds * len(incrementWays); n != want || left != 0 {
		t.Errorf("the counter is at %d after %d increments, and %d locks are left", n, want, left)
	}
}

func reachWorker(t *testing.T, driver, dsn string, victim bool) {
	db := open(t, "dblocker", driver+"?lock_scope=database&lock_timeout=2m:"+dsn)
	ctx := dblocker.WithUser(context.Background(), "u")
	if victim {
		inside, _, err := dblocker.Lock(ctx, db)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(inside, "SELECT pg_sleep(0.2)"); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("in the section\n")
		self, _ := os.FindProcess(os.Getpid())
		self.Kill()
		select {}
	}
	var all sync.WaitGroup
	for range reachWorkers {
		all.Go(func() {
			for range reachRounds {
				for i, way := range incrementWays {
					if err := way(dblocker.WithUser(context.Background(), "u"), db); err != nil {
						t.Errorf("way %d: %v", i, err)
					}
				}
			}
		})
	}
	all.Wait()
}

// reachDrivers are those that have a way of their own to a lock.
var reachDrivers = []struct {
	name string
	dsn  func(*testdb.Database) string
}{{"postgres", (*testdb.Database).DSN}, {"pgx", (*testdb.Database).URL}}

// TestReachWaitEnds: a wait at the server ends with the context, and with lock_timeout, and leaves no lock there, nor one here that
// would keep the user from going on.
func TestReachWaitEnds(t *testing.T) {
	for _, driver := range reachDrivers {
		t.Run(driver.name, func(t *testing.T) {
			testdb.NoLeaks(t)
			d := testdb.Postgres(t).NewDatabase(t)
			// A lockspace of its own makes the locks of the process others, but not those of the server. So the
			// holder is another process to this one.
			db := open(t, "dblocker", driver.name+"?lock_scope=database&lock_timeout=200ms:"+driver.dsn(d))
			bare := open(t, "postgres", d.DSN())
			ctx := dblocker.WithUser(context.Background(), "u")
			inside, unlock, err := dblocker.Lock(ctx, db)
			if err != nil {
				t.Fatal(err)
			}
			// What the section has is had by another session, too, to stand for another process when it has ended.
			var key int64
			if err := db.QueryRowContext(inside, "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND pid = pg_backend_pid()").Scan(&key); err != nil {
				t.Fatal(err)
			}
			unlock()
			other, err := bare.Conn(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if _, err := other.ExecContext(ctx, "SELECT pg_advisory_lock($1)", key); err != nil {
				t.Fatal(err)
			}
			for name, do := range map[string]func(context.Context) error{
				"Exec": func(ctx context.Context) error {
					_, err := db.ExecContext(ctx, "SELECT pg_notify('x', 'y')")
					return err
				},
				"BeginTx": func(ctx context.Context) error { _, err := db.BeginTx(ctx, nil); return err },
				"Lock":    func(ctx context.Context) error { _, _, err := dblocker.Lock(ctx, db); return err },
				"TryLock": func(ctx context.Context) error { _, _, err := dblocker.TryLock(ctx, db); return err },
				"query":   func(ctx context.Context) error { return db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)) },
			} {
				if err := do(ctx); !errors.Is(err, dblocker.ErrLockTimeout) {
					t.Errorf("%s: got %v, want ErrLockTimeout", name, err)
				}
				short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
				if err := do(short); !errors.Is(err, context.DeadlineExceeded) && name != "TryLock" {
					t.Errorf("%s with a context that ends: got %v", name, err)
				}
				cancel()
			}
			if _, err := other.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", key); err != nil {
				t.Fatal(err)
			}
			for until := time.Now().Add(20 * time.Second); ; {
				_, err := db.ExecContext(ctx, "SELECT pg_notify('x', 'y')")
				if err == nil {
					break
				}
				if time.Now().After(until) {
					t.Fatalf("after the waits: %v", err)
				}
			}
		})
	}
}

// TestReachLost: when the session of a section is terminated, its calls answer ErrLockLost, on both drivers.
func TestReachLost(t *testing.T) {
	for _, driver := range reachDrivers {
		for _, idle := range []bool{true, false} {
			d := testdb.Postgres(t).NewDatabase(t)
			db := open(t, "dblocker", driver.name+"?lock_scope=database:"+driver.dsn(d))
			bare := open(t, "postgres", d.DSN())
			inside, unlock, err := dblocker.Lock(dblocker.WithUser(context.Background(), "u"), db)
			if err != nil {
				t.Fatal(err)
			}
			defer unlock()
			if _, err := db.ExecContext(inside, "SELECT pg_notify('x', 'y')"); err != nil {
				t.Fatal(err)
			}
			if _, err := bare.Exec("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"); err != nil {
				t.Fatal(err)
			}
			if idle {
				<-inside.Done()
			}
			if _, err := db.ExecContext(inside, "SELECT pg_notify('x', 'y')"); !errors.Is(err, dblocker.ErrLockLost) {
				t.Errorf("%s: got %v, want ErrLockLost", driver.name, err)
			}
			<-inside.Done()
			if err := context.Cause(inside); !errors.Is(err, dblocker.ErrLockLost) {
				t.Errorf("%s: the context: got %v, want ErrLockLost", driver.name, err)
			}
		}
	}
}

// TestReachCommitOfFailed: Commit of a transaction that has failed is the driver's own error, of the same identity.
func TestReachCommitOfFailed(t *testing.T) {
	for _, driver := range reachDrivers {
		d := testdb.Postgres(t).NewDatabase(t)
		commit := func(db *sql.DB) error {
			tx, err := db.BeginTx(dblocker.WithUser(context.Background(), "u"), &sql.TxOptions{Isolation: sql.LevelSerializable})
			if err != nil {
				t.Fatal(err)
			}
			tx.Exec("SELECT 1/0")
			return tx.Commit()
		}
		want, got := commit(open(t, driver.name, driver.dsn(d))), commit(open(t, "dblocker", driver.name+"?lock_scope=database:"+driver.dsn(d)))
		if want == nil || got == nil || !errors.Is(got, want) && got.Error() != want.Error() {
			t.Errorf("%s: Commit: got %v, from the bare driver %v", driver.name, got, want)
		}
	}
}

// TestReachBehindPooler: a pooler is seen, and refused in words.
func TestReachBehindPooler(t *testing.T) {
	server := testdb.Postgres(t)
	d := server.NewDatabase(t)
	bouncer := testdb.PrivatePgBouncer(t, server)
	for _, driver := range []string{"postgres", "pgx"} {
		db := open(t, "dblocker", driver+"?lock_scope=database:"+bouncer.DSN(d))
		if err := db.Ping(); err == nil || !strings.Contains(err.Error(), "pgbouncer") {
			t.Errorf("%s: got %v, want an error that names the pooler", driver, err)
		}
	}
}
