package dblocker_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/calmdocs/dblocker"
)

// A process finds in its environment, as JSON, what it is to do.
const tenantTaskOf = "DBLOCKER_TEST_TENANT_TASK"

// A tenantTask is to count up numbers of users, each in a file of his own.
type tenantTask struct {
	Dir               string
	Scope             dblocker.LockScopePolicy
	Users, Open       int
	Goroutines        int
	Counts            int  // 0: until it is killed, or its standard input is closed
	OutOfRoom         bool // the disk may be full
	killedAfterCounts int  // 0: it is not
}

// How many users there are, how many goroutines each process has, and how often one that is not killed counts.
const processUsers, processGoroutines, processCounts = 12, 6, 60

// TestTenantProcesses: a process is killed while it opens, counts in and closes the files of many users, alone, and beside another one
// with which it shares the locks. Whoever opens them then has no error, finds what was acknowledged, and files that are whole.
func TestTenantProcesses(t *testing.T) {
	for scope, rounds := range map[dblocker.LockScopePolicy]int{dblocker.ProcessScope: 3, dblocker.DatabaseScope: 2} {
		t.Run(string(scope), func(t *testing.T) {
			t.Parallel()
			task := tenantTask{Dir: t.TempDir(), Scope: scope, Users: processUsers, Open: processGoroutines / 2, Goroutines: processGoroutines}
			var acked acknowledged
			for range rounds {
				var wait sync.WaitGroup
				victim, survivor := task, task
				victim.killedAfterCounts, survivor.Counts = processCounts/2, processCounts
				wait.Go(func() { startTenantWorker(t, victim).read(&acked) })
				if scope == dblocker.DatabaseScope {
					wait.Go(func() { startTenantWorker(t, survivor).read(&acked) })
				}
				wait.Wait()
				checkTenants(t, task, &acked)
			}
		})
	}
}

// acknowledged is what processes have said that they have done.
type acknowledged struct {
	mu     sync.Mutex // guards what follows
	counts map[string]int
	atWork int // so much may have been done, and not been acknowledged
}

func (a *acknowledged) add(user string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.counts == nil {
		a.counts = make(map[string]int)
	}
	a.counts[user]++
}

// unsure notes that so many counts may have been done.
func (a *acknowledged) unsure(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.atWork += n
}

// TestTenantWorker is such a process.
func TestTenantWorker(t *testing.T) {
	var task tenantTask
	text := os.Getenv(tenantTaskOf)
	if text == "" {
		t.Skip("it is for another test to start")
	}
	if err := json.Unmarshal([]byte(text), &task); err != nil {
		t.Fatal(err)
	}
	task.work(t)
}

// A tenantProcess is one that is at work.
type tenantProcess struct {
	*osexec.Cmd
	t      *testing.T
	task   tenantTask
	in     io.Closer
	out    io.Reader
	killed atomic.Bool
}

func (p *tenantProcess) kill() {
	p.killed.Store(true)
	p.Process.Kill()
}

func startTenantWorker(t *testing.T, task tenantTask) *tenantProcess {
	text, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	p := &tenantProcess{Cmd: osexec.Command(os.Args[0], "-test.run=^TestTenantWorker$"), t: t, task: task}
	p.Env = append(os.Environ(), tenantTaskOf+"="+string(text), "MALLOC_ARENA_MAX=2") // glibc keeps what SQLite has freed in each of its arenas: see docs/tenants.md
	in, inErr := p.StdinPipe()
	out, outErr := p.StdoutPipe()
	if err := errors.Join(inErr, outErr, p.Start()); err != nil {
		t.Fatal(err)
	}
	p.in, p.out = in, out
	return p
}

// read notes what the process acknowledges, kills it when it has done so for a while if it is to be, and waits for its end.
func (p *tenantProcess) read(acked *acknowledged) {
	acks := 0
	var other strings.Builder
	for lines := bufio.NewScanner(p.out); lines.Scan(); {
		user, isAck := strings.CutPrefix(lines.Text(), "counted ")
		switch {
		case isAck:
			acked.add(user)
			if acks++; acks == p.task.killedAfterCounts {
				p.kill()
			}
		case lines.Text() == noRoom:
			acked.unsure(1)
		default:
			fmt.Fprintln(&other, lines.Text())
		}
	}
	err := p.Wait()
	killed := p.killed.Load()
	if killed {
		acked.unsure(p.task.Goroutines)
	}
	if killed == (err == nil) || acks < p.task.killedAfterCounts {
		p.t.Errorf("%+v: %v, after %d acknowledgements\n%s", p.task, err, acks, &other)
	}
}

// open opens the files in a process. Each count is a row that is read, and written back, with nothing but dblocker's locks around.
func (task tenantTask) open(t *testing.T) *sql.DB {
	return tenantDBWith(t, filepath.Join(task.Dir, "{user}.db")+"?_synchronous=OFF", dblocker.MaxOpenDatabases(task.Open), dblocker.LockTimeout(2*time.Minute),
		dblocker.LockScope(task.Scope),
		dblocker.OnOpen(func(ctx context.Context, user string, db *sql.DB) error {
			for _, q := range []string{"CREATE TABLE IF NOT EXISTS c (n INTEGER)", "INSERT INTO c SELECT 0 WHERE NOT EXISTS (SELECT * FROM c)"} {
				if _, err := db.ExecContext(ctx, q); err != nil {
					return err
				}
			}
			return nil
		}))
}

// noRoom is what a process says of a count that has failed since the disk is full.
const noRoom = "no room"

func (task tenantTask) work(t *testing.T) {
	db := task.open(t)
	var stop atomic.Bool
	if task.Counts == 0 {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			stop.Store(true)
		}()
	}
	var wait sync.WaitGroup
	for range task.Goroutines {
		wait.Go(func() {
			for i := 0; !stop.Load() && (task.Counts == 0 || i < task.Counts/task.Goroutines); i++ {
				user := fmt.Sprint(1 + rand.IntN(task.Users))
				err := dblocker.Do(as(t, user), db, func(ctx context.Context) error { return countUp(ctx, db) })
				switch {
				case err == nil:
					fmt.Println("counted", user)
				case task.OutOfRoom && isOutOfRoom(err):
					fmt.Println(noRoom)
				default:
					t.Errorf("user %s: %v", user, err)
					return
				}
			}
		})
	}
	wait.Wait()
}

// isOutOfRoom tells of an error whether a full disk can be the reason.
func isOutOfRoom(err error) bool {
	var fault sqlite3.Error
	return errors.As(err, &fault) && (fault.Code == sqlite3.ErrFull || fault.Code == sqlite3.ErrIoErr || fault.Code == sqlite3.ErrCantOpen) || errors.Is(err, syscall.ENOSPC)
}

// checkTenants opens all databases. What was acknowledged is there, and at most as much more as may have been done.
func checkTenants(t *testing.T, task tenantTask, acked *acknowledged) {
	t.Helper()
	task.Scope = dblocker.ProcessScope
	db := task.open(t)
	defer db.Close()
	atWork := acked.atWork
	for u := range task.Users {
		user := fmt.Sprint(u + 1)
		var n int
		var integrity string
		if err := db.QueryRowContext(as(t, user), "SELECT n FROM c").Scan(&n); err != nil {
			t.Errorf("user %s: %v", user, err)
		}
		if err := db.QueryRowContext(as(t, user), "PRAGMA integrity_check").Scan(&integrity); err != nil || integrity != "ok" {
			t.Errorf("user %s: %s, %v", user, integrity, err)
		}
		more := n - acked.counts[user]
		if atWork -= max(0, more); more < 0 || atWork < 0 {
			t.Errorf("user %s has counted to %d, and %d were acknowledged", user, n, acked.counts[user])
		}
	}
}
