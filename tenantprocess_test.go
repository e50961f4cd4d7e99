package dblocker_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
)

// A process that TestTenantProcesses has started finds in its environment where the files are, and what it is to do.
const (
	tenantDirOf  = "DBLOCKER_TEST_TENANT_DIR"
	tenantTaskOf = "DBLOCKER_TEST_TENANT_TASK"
)

// How many users there are, how many goroutines each process has, and how often one that is not killed counts.
const processUsers, processGoroutines, processCounts = 12, 6, 60

// TestTenantProcesses: a process is killed while it opens, counts in and closes the files of many users, alone, and beside another one
// with which it shares the locks. Whoever opens them then has no error, finds what was acknowledged, and files that are whole.
func TestTenantProcesses(t *testing.T) {
	if dir := os.Getenv(tenantDirOf); dir != "" {
		tenantWorker(t, dir, os.Getenv(tenantTaskOf))
		return
	}
	for scope, rounds := range map[string]int{"process": 3, "database": 2} {
		t.Run(scope, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			acked := make(map[string]int)
			atWork := 0 // what may have been done, and not been acknowledged
			for range rounds {
				var mu sync.Mutex
				var wait sync.WaitGroup
				ack := func(user string) {
					mu.Lock()
					defer mu.Unlock()
					acked[user]++
				}
				wait.Go(func() { runTenantWorker(t, dir, scope+" victim", ack) })
				if scope == "database" {
					wait.Go(func() { runTenantWorker(t, dir, scope+" survivor", ack) })
				}
				wait.Wait()
				atWork += processGoroutines
				checkTenants(t, dir, acked, atWork)
			}
		})
	}
}

// runTenantWorker starts a process, and notes what it acknowledges. The victim is killed when it has done so for a while.
func runTenantWorker(t *testing.T, dir, task string, ack func(user string)) {
	cmd := osexec.Command(os.Args[0], "-test.run=^TestTenantProcesses$")
	cmd.Env = append(os.Environ(), tenantDirOf+"="+dir, tenantTaskOf+"="+task)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Error(err)
		return
	}
	victim, acks := strings.HasSuffix(task, "victim"), 0
	var other strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		user, isAck := strings.CutPrefix(lines.Text(), "counted ")
		if !isAck {
			fmt.Fprintln(&other, lines.Text())
			continue
		}
		ack(user)
		if acks++; victim && acks == processCounts/2 {
			cmd.Process.Kill()
		}
	}
	if err := cmd.Wait(); victim == (err == nil) || victim && acks < processCounts/2 {
		t.Errorf("%s: %v, after %d acknowledgements\n%s", task, err, acks, &other)
	}
}

// tenantProcessDB is opened by each process. Each count is a row that is read, and written back, with nothing but dblocker's locks around.
func tenantProcessDB(t *testing.T, dir, scope string) *sql.DB {
	return tenantDBWith(t, filepath.Join(dir, "{user}.db")+"?_synchronous=OFF", dblocker.MaxOpenDatabases(processGoroutines/2), dblocker.LockTimeout(2*time.Minute),
		dblocker.LockScope(dblocker.LockScopePolicy(scope)),
		dblocker.OnOpen(func(ctx context.Context, user string, db *sql.DB) error {
			for _, q := range []string{"CREATE TABLE IF NOT EXISTS c (n INTEGER)", "INSERT INTO c SELECT 0 WHERE NOT EXISTS (SELECT * FROM c)"} {
				if _, err := db.ExecContext(ctx, q); err != nil {
					return err
				}
			}
			return nil
		}))
}

// tenantWorker is the process.
func tenantWorker(t *testing.T, dir, task string) {
	scope, name, _ := strings.Cut(task, " ")
	db := tenantProcessDB(t, dir, scope)
	var wait sync.WaitGroup
	for range processGoroutines {
		wait.Go(func() {
			for i := 0; name == "victim" || i < processCounts/processGoroutines; i++ {
				user := fmt.Sprint(1 + rand.IntN(processUsers))
				if err := dblocker.Do(as(t, user), db, func(ctx context.Context) error { return countUp(ctx, db) }); err != nil {
					t.Errorf("user %s: %v", user, err)
					return
				}
				fmt.Println("counted", user)
			}
		})
	}
	wait.Wait()
}

// checkTenants opens all databases. At most so many counts more than were acknowledged may have been done.
func checkTenants(t *testing.T, dir string, acked map[string]int, atWork int) {
	t.Helper()
	db := tenantProcessDB(t, dir, "process")
	defer db.Close()
	for u := range processUsers {
		user := fmt.Sprint(u + 1)
		var n int
		var integrity string
		if err := db.QueryRowContext(as(t, user), "SELECT n FROM c").Scan(&n); err != nil {
			t.Errorf("user %s: %v", user, err)
		}
		if err := db.QueryRowContext(as(t, user), "PRAGMA integrity_check").Scan(&integrity); err != nil || integrity != "ok" {
			t.Errorf("user %s: %s, %v", user, integrity, err)
		}
		more := n - acked[user]
		if atWork -= max(0, more); more < 0 || atWork < 0 {
			t.Errorf("user %s has counted to %d, and %d were acknowledged", user, n, acked[user])
		}
	}
}
