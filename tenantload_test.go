package dblocker_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

var tenantTime = flag.Duration("tenants", 0, "how long TestManyTenants works, with 10,000 users; a short time with few by default")

// TestManyTenants: many users on few open databases read, and read and write back: nothing fails, nothing is lost, and
// descriptors, memory and goroutines stay as they are.
func TestManyTenants(t *testing.T) {
	users, open, goroutines, during := 300, 20, 32, 2*time.Second
	if *tenantTime > 0 {
		users, open, goroutines, during = 10000, 200, 64, *tenantTime
	}
	before := runtime.NumGoroutine()
	db := tenantDBWith(t, filepath.Join(t.TempDir(), "{user}.db")+"?_synchronous=OFF", dblocker.MaxOpenDatabases(open), dblocker.LockTimeout(2*time.Minute),
		dblocker.OnOpen(func(ctx context.Context, user string, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS c (n INTEGER); INSERT INTO c SELECT 0 WHERE NOT EXISTS (SELECT * FROM c)")
			return err
		}))
	want := make([]atomic.Int64, users)
	var most, calls atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	var wait sync.WaitGroup
	for range goroutines {
		wait.Go(func() {
			for ctx.Err() == nil && !t.Failed() {
				u := rand.IntN(users)
				user := dblocker.WithUser(t.Context(), fmt.Sprintf("user-%d", u))
				if err := workOfTenant(user, db, &want[u]); err != nil {
					t.Error(err)
				}
				if n := calls.Add(1); n%500 == 0 {
					most.Store(max(most.Load(), int64(descriptors(t))))
				}
			}
		})
	}
	wait.Wait()
	for u := range want {
		var n int64
		if err := db.QueryRowContext(as(t, fmt.Sprintf("user-%d", u)), "SELECT n FROM c").Scan(&n); err != nil || n != want[u].Load() {
			t.Errorf("user %d has counted to %d, want %d; %v", u, n, want[u].Load(), err)
		}
	}
	st, err := dblocker.Stats(db)
	if err != nil || st.Databases.Open > open || st.Databases.Evicted == 0 || st.Databases.Opened < int64(users) || st.Held+st.Waiting > 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if n := most.Load(); n > int64(20*open) {
		t.Errorf("%d descriptors for %d open databases", n, open)
	}
	t.Logf("%d calls, %d databases opened, at most %d descriptors", calls.Load(), st.Databases.Opened, most.Load())
	db.Close()
	for until := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before+3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// workOfTenant does one thing of several, and notes how often it has counted.
func workOfTenant(ctx context.Context, db *sql.DB, counted *atomic.Int64) error {
	switch rand.IntN(5) {
	case 0:
		return db.QueryRowContext(ctx, "SELECT n FROM c").Scan(new(int))
	case 1:
		_, err := db.ExecContext(ctx, "UPDATE c SET n = n + 1")
		if err == nil {
			counted.Add(1)
		}
		return err
	case 2:
		return dblocker.RDo(ctx, db, func(ctx context.Context) error {
			return db.QueryRowContext(ctx, "SELECT n FROM c").Scan(new(int))
		})
	case 3:
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := countUp(ctx, tx); err != nil {
			return err
		}
		if err = tx.Commit(); err == nil {
			counted.Add(1)
		}
		return err
	}
	return dblocker.Do(ctx, db, func(ctx context.Context) error {
		err := countUp(ctx, db)
		if err == nil {
			counted.Add(1)
		}
		return err
	})
}

// countUp reads, and writes back.
func countUp(ctx context.Context, db interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}) error {
	var n int
	if err := db.QueryRowContext(ctx, "SELECT n FROM c").Scan(&n); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, "UPDATE c SET n = ?", n+1)
	return err
}

func descriptors(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list)
}

// TestAllPlacesInUse: the next waits for one, no longer than its context and lock_timeout, and is seen; what is held for it is not closed.
func TestAllPlacesInUse(t *testing.T) {
	db, _ := tenantDB(t, "?max_open_databases=2&lock_timeout=1m")
	for _, user := range []string{"ann", "bob", "carl"} {
		noted(t, db, user)
	}
	tx, err := db.BeginTx(as(t, "ann"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	rows, err := db.QueryContext(as(t, "bob"), "SELECT n FROM notes")
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(as(t, "carl"), 50*time.Millisecond)
	defer cancel()
	if _, err := db.ExecContext(short, "DELETE FROM notes"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "max_open_databases") {
		t.Errorf("a wait that its context ends: %v", err)
	}
	done := make(chan string)
	go func() { done <- note(t, db, as(t, "carl")) }()
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		st, err := dblocker.Stats(db)
		if err != nil {
			t.Fatal(err)
		}
		if st.Databases.Waiting == 1 {
			break
		}
		if time.Now().After(until) {
			t.Fatal("nobody waits")
		}
	}
	holds, err := dblocker.Holds(db)
	places := 0
	for _, h := range holds {
		if h.What == "database" && (h.Waiting != (h.User == "carl") || h.Database != "u"+h.User) {
			t.Errorf("%+v", h)
		}
		if h.What == "database" {
			places++
		}
		if h.What == "lock" && h.Database != "u"+h.User {
			t.Errorf("%+v", h)
		}
	}
	if places != 3 || err != nil {
		t.Errorf("%d places: %+v, %v", places, holds, err)
	}
	rows.Close()
	if n := <-done; n != "carl" {
		t.Errorf("then: %s", n)
	}
	if _, err := tx.Exec("DELETE FROM notes"); err != nil {
		t.Errorf("the transaction: %v", err)
	}
	if st, _ := dblocker.Stats(db); st.Databases.Waits.Waits < 2 || st.Databases.Open != 2 {
		t.Errorf("%+v", st.Databases)
	}
}

// TestBrokenDatabase hurts only its user.
func TestBrokenDatabase(t *testing.T) {
	db, dir := tenantDB(t, "?max_open_databases=3")
	noted(t, db, "ann")
	if err := os.WriteFile(filepath.Join(dir, "ubob.db"), []byte(strings.Repeat("this is no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "ucarl.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, user := range []string{"bob", "carl"} {
			if _, err := db.ExecContext(as(t, user), "CREATE TABLE t (n)"); err == nil {
				t.Errorf("%s has a database", user)
			}
		}
		if n := note(t, db, as(t, "ann")); n != "ann" {
			t.Error(n)
		}
	}
}

// TestIdleDatabasesAreClosed after database_idle, and opened again.
func TestIdleDatabasesAreClosed(t *testing.T) {
	db, _ := tenantDB(t, "?database_idle=20ms")
	noted(t, db, "ann")
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if st, err := dblocker.Stats(db); err != nil || st.Databases.Open == 0 {
			break
		}
		if time.Now().After(until) {
			t.Fatal("it stays open")
		}
	}
	if n := note(t, db, as(t, "ann")); n != "ann" {
		t.Error(n)
	}
}

// TestTenantsAmongProcesses: with lock_scope=database each file has its lock file.
func TestTenantsAmongProcesses(t *testing.T) {
	db, dir := tenantDB(t, "?lock_scope=database&max_open_databases=2&lock_timeout=100ms")
	for _, user := range []string{"ann", "bob", "carl", "ann"} {
		noted(t, db, user)
	}
	for _, user := range []string{"ann", "bob", "carl"} {
		if files, _ := filepath.Glob(filepath.Join(dir, "u"+user+".db?*")); len(files) == 0 {
			t.Errorf("no lock file of %s", user)
		}
	}
	ctx, unlock, err := dblocker.LockUsers(t.Context(), db, "ann", "bob")
	if err != nil {
		t.Fatal(err)
	}
	if n := note(t, db, dblocker.WithUser(ctx, "ann")); n != "ann,ann" {
		t.Error(n)
	}
	unlock()
	if _, _, err := dblocker.LockAll(t.Context(), db); err == nil || !strings.Contains(err.Error(), "no section bars all of them") || !strings.Contains(err.Error(), "EachUser") {
		t.Errorf("LockAll: %v", err)
	}
	if _, _, err := dblocker.LockUsers(t.Context(), db, "ann", "bob", "carl"); err == nil || !strings.Contains(err.Error(), "max_open_databases") {
		t.Errorf("more users than can be open: %v", err)
	}
	if _, err := dblocker.Holds(db); err != nil {
		t.Error(err)
	}
}

// TestConnectionsOfAllTenants: max_open_conns bounds those of all databases together, also those that nobody uses.
func TestConnectionsOfAllTenants(t *testing.T) {
	pg := testdb.Postgres(t).NewDatabase(t)
	bare, err := sql.Open("postgres", pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	const users, most = 12, 3
	for u := range users {
		if _, err := bare.Exec(fmt.Sprintf("CREATE SCHEMA u%d", u)); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sql.Open("dblocker", fmt.Sprintf("postgres?max_open_conns=%d:%s&search_path={user}", most, pg.URL()))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var wait sync.WaitGroup
	for u := range users {
		wait.Go(func() {
			for range 5 {
				if err := db.QueryRowContext(dblocker.WithUser(t.Context(), fmt.Sprint(u)), "SELECT 1").Scan(new(int)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if st, err := dblocker.Stats(db); err != nil || st.Databases.Open != users || st.Server.OpenConnections > most || st.Server.OpenConnections == 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestCirclesOfPlaces: requests that have all databases open, and want more, do not wait for each other, nor one for itself.
func TestCirclesOfPlaces(t *testing.T) {
	db, _ := tenantDB(t, "?max_open_databases=2&lock_timeout=1m&self_wait=1m") // so that the first does not look again while the second is refused
	var txs []*sql.Tx
	ann, bob := as(t, "ann"), as(t, "bob")
	for _, ctx := range []context.Context{ann, bob} {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, "CREATE TABLE t (n)"); err != nil {
			t.Fatal(err)
		}
		txs = append(txs, tx)
	}
	first := make(chan error)
	go func() { _, err := db.ExecContext(dblocker.WithUser(ann, "carl"), "SELECT 1"); first <- err }()
	for st, err := dblocker.Stats(db); st.Databases.Waiting == 0; st, err = dblocker.Stats(db) {
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := db.ExecContext(dblocker.WithUser(bob, "dave"), "SELECT 1"); !errors.Is(err, dblocker.ErrDeadlock) || !strings.Contains(err.Error(), "max_open_databases") {
		t.Errorf("the second: %v", err)
	}
	txs[1].Rollback()
	if err := <-first; err != nil {
		t.Errorf("the first: %v", err)
	}
	alone, _ := tenantDB(t, "?max_open_databases=1&lock_timeout=1m&self_wait=50ms")
	tx, err := alone.BeginTx(ann, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := alone.ExecContext(dblocker.WithUser(ann, "dave"), "SELECT 1"); !errors.Is(err, dblocker.ErrDeadlock) {
		t.Errorf("one that waits for itself: %v", err)
	}
}
