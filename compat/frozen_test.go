//go:build unix

package compat

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestFrozenServer cancels a statement whose server does nothing any more. Its lock
// stays for cancel_grace, then a warning tells that it was given up, and nobody else
// is held up meanwhile. A driver whose call does not return keeps it as long.
func TestFrozenServer(t *testing.T) {
	mysql.SetLogger(&mysql.NopLogger{})
	for _, private := range privateServers {
		t.Run(private.engine.name, func(t *testing.T) {
			testdb.NoLeaks(t)
			server := private.start(t)
			for _, d := range mainDrivers(private.engine) {
				t.Run(d.title, func(t *testing.T) {
					testdb.NoLeaks(t)
					frozenServer(t, server, d)
				})
			}
		})
	}
}

var sleeps = map[*engine]string{postgresEngine: "SELECT pg_sleep(60)", mysqlEngine: "DO SLEEP(60)"}

func frozenServer(t *testing.T, server *testdb.PrivateServer, d testDriver) {
	const grace = time.Second
	var log logBuffer
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	database := server.NewDatabase(t)
	t.Cleanup(func() { database.KillSessions(t) }) // what was given up sleeps on
	db := open(t, "dblocker", withOption(d.name, "cancel_grace="+grace.String())+":"+database.DSN())
	sleep := sleeps[d.engine]
	awake := strings.Replace(sleep, "60", "0", 1)
	one, two := dblocker.WithUser(t.Context(), 1), dblocker.WithUser(t.Context(), 2)
	ctx, cancel := context.WithCancel(one)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(ctx, sleep)
		done <- err
	}()
	thaw := server.Freeze(t, sleeper(t, d, database))
	start := time.Now()
	cancel()
	returns := d.name != "postgres" // lib/pq waits for the server's answer, for ever
	if returns {
		if err := <-done; err == nil {
			t.Error("the cancelled statement had no error")
		}
	}
	if !isFree(t, db, two) {
		t.Error("another user's lock is not free")
	}
	if d.engine == postgresEngine { // where only the one session is frozen
		if _, err := db.ExecContext(two, awake); err != nil {
			t.Errorf("another user's statement: %v", err)
		}
	}
	for returns && !isFree(t, db, one) && time.Since(start) < 30*time.Second || !returns && time.Since(start) < 2*grace {
		time.Sleep(time.Millisecond)
	}
	if held := time.Since(start); held < grace*9/10 || returns != isFree(t, db, one) {
		t.Errorf("after %v: the call has returned %v, the lock is free %v", held, returns, isFree(t, db, one))
	}
	warned := func() bool {
		return strings.Contains(log.String(), "released while the server may still be at work")
	}
	for returns && !warned() && time.Since(start) < 30*time.Second { // it is written after the release
		time.Sleep(time.Millisecond)
	}
	if warned() != returns {
		t.Errorf("a warning %v, want %v: %q", warned(), returns, log.String())
	}
	thaw()
	if !returns {
		<-done
	}
	if _, err := db.ExecContext(one, awake); err != nil {
		t.Errorf("after that: %v", err)
	}
}

func isFree(t *testing.T, db *sql.DB, user context.Context) bool {
	t.Helper()
	_, unlock, err := dblocker.TryLock(user, db)
	unlock()
	if err != nil && !errors.Is(err, dblocker.ErrLockTimeout) {
		t.Error(err)
	}
	return err == nil
}

// sleeper waits for the session that sleeps: one that is frozen on its way there may
// have a lock of the server.
func sleeper(t *testing.T, d testDriver, database *testdb.Database) testdb.Session {
	t.Helper()
	bare, err := sql.Open(d.name, database.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var asleep int
		if err := bare.QueryRow(stubbornWork[d.engine].begun).Scan(&asleep); err != nil {
			t.Fatal(err)
		}
		if asleep == 0 && time.Now().Before(deadline) {
			continue
		}
		for _, s := range database.Sessions(t) {
			if strings.Contains(strings.ToUpper(s.Activity), "SLEEP(60)") {
				return s
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("no session sleeps")
		}
	}
}

// A logBuffer is for several goroutines.
type logBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}
