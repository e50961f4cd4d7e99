package dblocker

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"os"
	osexec "os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// The environment of a process that TestSQLiteProcesses has started.
const (
	workerDSN  = "DBLOCKER_TEST_WORKER_DSN"
	workerName = "DBLOCKER_TEST_WORKER"
)

// How many transactions each process commits. The victim is killed while the others
// are at work.
const workerCommits, victimCommits = 200, 40

// unhurried are parameters for a slow machine. SQLite has no queue for processes: one may have to
// wait until the others have done all their work. A killed process needs no sync.
const unhurried = "?_busy_timeout=300000&_sync=OFF"

// TestSQLiteProcesses: three processes write to one file, each from several
// goroutines, and one is killed inside a transaction. Nothing that was acknowledged
// is lost, nothing else is there, and nobody gets an error.
func TestSQLiteProcesses(t *testing.T) {
	if dsn := os.Getenv(workerDSN); dsn != "" {
		sqliteWorker(t, dsn, os.Getenv(workerName))
		return
	}
	for mode, params := range map[string]string{"WAL": "", "DELETE": "", "TRUNCATE": "&_journal_mode=TRUNCATE&_txlock=deferred"} {
		t.Run(mode, func(t *testing.T) {
			testdb.NoLeaks(t)
			path := testdb.SQLite(t)
			bareSQLite(t, path+"?_journal_mode="+mode, "CREATE TABLE log (entry UNIQUE)", "CREATE TABLE counter (n)", "INSERT INTO counter VALUES (0)")
			var acknowledged sync.Map
			var processes sync.WaitGroup
			for _, name := range []string{"a", "b", "victim"} {
				processes.Go(func() { runWorker(t, path+unhurried+params, name, &acknowledged) })
			}
			processes.Wait()
			checkWorkers(t, path, &acknowledged)
		})
	}
}

// runWorker starts a process and notes what it acknowledges. The victim is killed
// when it says that it is in a transaction.
func runWorker(t *testing.T, dsn, name string, acknowledged *sync.Map) {
	cmd := osexec.Command(os.Args[0], "-test.run=^TestSQLiteProcesses$")
	cmd.Env = append(os.Environ(), workerDSN+"="+dsn, workerName+"="+name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Error(err)
		return
	}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	killed := false
	var other strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch entry, isEntry := strings.CutPrefix(lines.Text(), "committed "); {
		case isEntry:
			acknowledged.Store(entry, true)
		case lines.Text() == "kill me":
			killed = true
			cmd.Process.Kill()
		default:
			fmt.Fprintln(&other, lines.Text())
		}
	}
	if err := cmd.Wait(); killed != (name == "victim") || !killed && err != nil {
		t.Errorf("process %s: %v, killed %v\n%s", name, err, killed, &other)
	}
}

// sqliteWorker is the process.
func sqliteWorker(t *testing.T, dsn, name string) {
	db := openSQLite(t, "sqlite3-dblocker", dsn)
	commits := workerCommits
	if name == "victim" {
		commits = victimCommits
	}
	var workers sync.WaitGroup
	for g := range 4 {
		workers.Go(func() {
			for i := range commits / 4 {
				entry := fmt.Sprintf("%s-%d-%d", name, g, i)
				tx, err := enter(db, g, entry)
				if err == nil {
					err = tx.Commit()
				}
				if err != nil {
					t.Errorf("%s: %v", entry, err)
					return
				}
				fmt.Println("committed", entry)
			}
		})
	}
	workers.Wait()
	if name == "victim" {
		_, err := enter(db, 0, "never committed")
		must(t, err)
		fmt.Println("kill me")
		select {}
	}
}

// enter writes an entry and counts it, in a transaction that reads first.
func enter(db *sql.DB, user int, entry string) (*sql.Tx, error) {
	tx, err := db.BeginTx(asUser(user), nil)
	if err != nil {
		return nil, err
	}
	var n int
	if err = tx.QueryRow("SELECT n FROM counter").Scan(&n); err == nil {
		_, err = tx.Exec("UPDATE counter SET n = ?", n+1)
	}
	if err == nil {
		_, err = tx.Exec("INSERT INTO log VALUES (?)", entry)
	}
	if err != nil {
		tx.Rollback() // or the other workers would wait for it
	}
	return tx, err
}

func checkWorkers(t *testing.T, path string, acknowledged *sync.Map) {
	t.Helper()
	db := openSQLite(t, "sqlite3-dblocker", path)
	rows, err := db.QueryContext(context.Background(), "SELECT entry FROM log")
	must(t, err)
	defer rows.Close()
	entries := 0
	for rows.Next() {
		var entry string
		must(t, rows.Scan(&entry))
		if _, ok := acknowledged.LoadAndDelete(entry); !ok {
			t.Errorf("the entry %q is there, but its commit was not acknowledged", entry)
		}
		entries++
	}
	must(t, rows.Err())
	acknowledged.Range(func(entry, _ any) bool {
		t.Errorf("the entry %q was acknowledged, but is lost", entry)
		return true
	})
	const want = 2*workerCommits + victimCommits
	if n := pragma(t, db, "user_version; SELECT n FROM counter"); entries != want || n != fmt.Sprint(want) {
		t.Errorf("%d entries, counted %s, want %d", entries, n, want)
	}
	if got := pragma(t, db, "integrity_check"); got != "ok" {
		t.Errorf("integrity check: %s", got)
	}
}
