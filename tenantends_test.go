package dblocker_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
)

// TestCircleBehindAnOpener: one waits for a place, and the other for the database that the first one opens.
func TestCircleBehindAnOpener(t *testing.T) {
	db, _ := tenantDB(t, "?max_open_databases=2&lock_timeout=1m&self_wait=50ms")
	txs, ctxs := make(map[string]*sql.Tx), make(map[string]context.Context)
	for _, user := range []string{"ann", "bob"} {
		ctxs[user] = as(t, user)
		tx, err := db.BeginTx(ctxs[user], nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctxs[user], "CREATE TABLE t (n)"); err != nil {
			t.Fatal(err)
		}
		txs[user] = tx
	}
	type end struct {
		user string
		err  error
	}
	ends := make(chan end, 2)
	for user := range txs {
		go func() {
			_, err := db.ExecContext(dblocker.WithUser(ctxs[user], "carl"), "SELECT 1")
			ends <- end{user, err}
		}()
	}
	first := <-ends
	if !errors.Is(first.err, dblocker.ErrDeadlock) || !strings.Contains(first.err.Error(), "max_open_databases") {
		t.Errorf("the first that ends: %v", first.err)
	}
	txs[first.user].Rollback()
	if second := <-ends; second.err != nil {
		t.Errorf("the other: %v", second.err)
	}
}

// TestSectionInTheOnlyPlace: what it waits for will not come, and the error says what to do.
func TestSectionInTheOnlyPlace(t *testing.T) {
	db, _ := tenantDB(t, "?max_open_databases=1&lock_timeout=1m&self_wait=50ms")
	err := dblocker.Do(as(t, "ann"), db, func(ctx context.Context) error {
		_, err := db.ExecContext(dblocker.WithUser(ctx, "dave"), "SELECT 1")
		return err
	})
	if !errors.Is(err, dblocker.ErrDeadlock) || !strings.Contains(err.Error(), "max_open_databases") {
		t.Errorf("%v", err)
	}
}

// TestEvictedAndRemoved: users are removed, and closed for each other's place, while others wait for them.
func TestEvictedAndRemoved(t *testing.T) {
	db, dir := tenantDB(t, "?max_open_databases=1&lock_timeout=1m")
	var wait sync.WaitGroup
	for g := range 8 {
		user := []string{"ann", "bob"}[g%2]
		wait.Go(func() {
			for range 10 {
				if g < 2 {
					if err := dblocker.RemoveUser(as(t, user), db); err != nil && !errors.Is(err, dblocker.ErrNoDatabase) {
						t.Errorf("RemoveUser: %v", err)
					}
				} else if _, err := db.ExecContext(as(t, user), "CREATE TABLE IF NOT EXISTS notes (n)"); err != nil {
					t.Errorf("%s: %v", user, err)
				}
			}
		})
	}
	wait.Wait()
	for _, user := range []string{"ann", "bob"} {
		if err := dblocker.RemoveUser(as(t, user), db); err != nil && !errors.Is(err, dblocker.ErrNoDatabase) {
			t.Error(err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("there is %v", left)
	}
}

// TestNothingIsLeft of users whose databases are closed: no descriptor, no goroutine, and next to no memory.
func TestNothingIsLeft(t *testing.T) {
	db, dir := tenantDB(t, "?max_open_databases=8&database_idle=20ms")
	heapAfter := func(from, to int) uint64 {
		for u := from; u < to; u++ {
			if err := db.QueryRowContext(as(t, fmt.Sprint("user-", u)), "SELECT 1").Scan(new(int)); err != nil {
				t.Fatal(err)
			}
		}
		for until := time.Now().Add(20 * time.Second); filesOpenIn(dir) > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("%d files are open", filesOpenIn(dir))
			}
		}
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	users := 150
	if *tenantTime > 0 {
		users = 10000
	}
	before := heapAfter(0, users)
	goroutines := runtime.NumGoroutine()
	after := heapAfter(users, 2*users)
	each := (float64(after) - float64(before)) / float64(users)
	t.Logf("%.0f bytes for each user", each)
	if each > 300 { // the runtime's own noise is as much as a fixed sum
		t.Errorf("%.0f bytes are kept for each user whose database is closed", each)
	}
	if n := runtime.NumGoroutine(); n > goroutines+5 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	if st, err := dblocker.Stats(db); err != nil || st.Databases.Open != 0 || st.Held+st.Waiting > 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// filesOpenIn counts the descriptors of files in a directory, where the system shows them.
func filesOpenIn(dir string) (n int) {
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, dir) {
			n++
		}
	}
	return n
}

// TestSectionsOfSeveralGatherInTurn: with lock_scope=database such a section has the databases of all its users open. Two that have half of
// theirs do not wait for each other.
func TestSectionsOfSeveralGatherInTurn(t *testing.T) {
	db, _ := tenantDB(t, "?lock_scope=database&max_open_databases=3&lock_timeout=20s")
	var wait sync.WaitGroup
	for g := range 4 {
		wait.Go(func() {
			for range 5 {
				if t.Failed() {
					return
				}
				_, unlock, err := dblocker.LockUsers(t.Context(), db, fmt.Sprint("a", g), fmt.Sprint("b", g), fmt.Sprint("c", g))
				if err != nil {
					t.Error(err)
					return
				}
				unlock()
			}
		})
	}
	wait.Wait()
}

// TestOnOpenHangs: others wait for it as long as for a lock, and their error says what has it. Other users do not notice.
func TestOnOpenHangs(t *testing.T) {
	began, goOn := make(chan bool, 1), make(chan bool)
	db := tenantDBWith(t, filepath.Join(t.TempDir(), "{user}.db"), dblocker.LockTimeout(100*time.Millisecond), dblocker.OnOpen(func(_ context.Context, user string, _ *sql.DB) error {
		if user == "ann" {
			began <- true
			<-goOn
		}
		return nil
	}))
	first := make(chan error)
	go func() { _, err := db.ExecContext(as(t, "ann"), "SELECT 1"); first <- err }()
	<-began
	if _, err := db.ExecContext(as(t, "ann"), "SELECT 1"); !errors.Is(err, dblocker.ErrLockTimeout) || !strings.Contains(err.Error(), "OnOpen") {
		t.Errorf("another call: %v", err)
	}
	ctx, cancel := context.WithCancel(as(t, "ann"))
	cancel()
	if _, _, err := dblocker.Lock(ctx, db); !errors.Is(err, context.Canceled) {
		t.Errorf("one whose context has ended: %v", err)
	}
	if _, err := db.ExecContext(as(t, "bob"), "SELECT 1"); err != nil {
		t.Errorf("another user: %v", err)
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Errorf("the first: %v", err)
	}
	if _, err := db.ExecContext(as(t, "ann"), "SELECT 1"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestNestedSectionsOfSeveral: with lock_scope=database, one that has its turn to open databases waits for a place, and the one who has that
// waits for the turn.
func TestNestedSectionsOfSeveral(t *testing.T) {
	db, _ := tenantDB(t, "?lock_scope=database&max_open_databases=4&lock_timeout=20s&self_wait=50ms")
	type end struct {
		user string
		err  error
	}
	ends, unlocks := make(chan end, 2), make(map[string]func())
	inside := make(map[string]context.Context)
	for _, user := range []string{"ann", "bob"} {
		ctx, unlock, err := dblocker.LockUsers(as(t, user), db, user, user+"2")
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		inside[user], unlocks[user] = ctx, unlock
	}
	for user, ctx := range inside {
		go func() {
			_, unlock, err := dblocker.LockUsers(ctx, db, user+"3", user+"4")
			unlock()
			ends <- end{user, err}
		}()
	}
	first := <-ends
	if !errors.Is(first.err, dblocker.ErrDeadlock) || !strings.Contains(first.err.Error(), "max_open_databases") {
		t.Errorf("the first that ends: %v", first.err)
	}
	unlocks[first.user]()
	if second := <-ends; second.err != nil {
		t.Errorf("the other: %v", second.err)
	}
}
