package compat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"strings"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// A process that TestReachSees has started finds in its environment what it is to open.
const reachHolder = "DBLOCKER_TEST_REACH_HOLDER"

// TestReachSees: who waits for a lock of another process learns which that is, and Holds shows it.
func TestReachSees(t *testing.T) {
	if dsn := os.Getenv(reachHolder); dsn != "" {
		holdUntilClosed(t, dsn)
		return
	}
	testdb.NoLeaks(t)
	pg, my := testdb.Postgres(t).NewDatabase(t), testdb.MySQL(t).NewDatabase(t)
	for _, tc := range []struct{ name, child, own, application string }{
		{"lib/pq", "postgres?lock_scope=database:" + pg.DSN() + " application_name=child", "postgres?lock_scope=database&lock_timeout=300ms:" + pg.DSN(), "child"},
		{"pgx", "pgx?lock_scope=database:" + pg.DSN() + " application_name=child", "pgx?lock_scope=database&lock_timeout=300ms:" + pg.DSN(), "child"},
		{"go-sql-driver", "mysql?lock_scope=database:" + my.DSN(), "mysql?lock_scope=database&lock_timeout=300ms:" + my.DSN(), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := osexec.Command(os.Args[0], "-test.run=^TestReachSees$")
			cmd.Env = append(os.Environ(), reachHolder+"="+tc.child)
			in, err := cmd.StdinPipe()
			noError(t, err)
			out, err := cmd.StdoutPipe()
			noError(t, err)
			noError(t, cmd.Start())
			defer cmd.Wait()
			defer in.Close()
			lines := bufio.NewScanner(out)
			for lines.Scan() && !strings.Contains(lines.Text(), "in the section") {
				t.Log(lines.Text())
			}
			db := open(t, "dblocker", tc.own)
			ctx := dblocker.WithUser(context.Background(), "u")
			_, _, err = dblocker.Lock(ctx, db)
			var e *dblocker.LockError
			if !errors.As(err, &e) || e.Process == nil {
				t.Fatalf("got %v, want a LockError with the process", err)
			}
			if p := e.Process; p.Session == "" || p.Address == "" || p.State == "" || p.Name != tc.application || time.Since(p.Since) > time.Minute {
				t.Errorf("the process is %+v", p)
			}
			done := make(chan error)
			patient := open(t, "dblocker", strings.Replace(tc.own, "300ms", "1m", 1))
			go func() {
				_, unlock, err := dblocker.Lock(dblocker.WithUser(context.Background(), "u"), patient)
				unlock()
				done <- err
			}()
			found := ""
			for until := time.Now().Add(20 * time.Second); found == "" && time.Now().Before(until); time.Sleep(time.Millisecond) {
				holds, err := dblocker.Holds(patient)
				noError(t, err)
				for _, h := range holds {
					if h.Process != nil {
						found = fmt.Sprint(h.User, " ", h.Mode, " ", h.Process.Session)
					}
				}
			}
			if want := "u exclusive " + e.Process.Session; found != want {
				t.Errorf("Holds shows %q, want %q", found, want)
			}
			in.Close()
			noError(t, <-done)
		})
	}
}

// holdUntilClosed has a user's lock until the standard input ends.
func holdUntilClosed(t *testing.T, dsn string) {
	db := open(t, "dblocker", dsn)
	_, unlock, err := dblocker.Lock(dblocker.WithUser(context.Background(), "u"), db)
	noError(t, err)
	defer unlock()
	os.Stdout.WriteString("in the section\n")
	os.Stdin.Read(make([]byte, 1))
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
