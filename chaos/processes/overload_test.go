//go:build unix

package processes

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// served is how long thousands of calls may take, of which each waits for a message to the server or some; on a busy machine.
const served = 60 * time.Second

// endsSoon fails the test if a call does not end with its context.
func (s *scene) endsSoon(db *sql.DB, user string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(dblocker.WithUser(context.Background(), user), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := db.ExecContext(ctx, "UPDATE items SET i = i WHERE i = 1"); !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("a call whose context ends: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		s.Errorf("a call with a context of 100ms took %v", took)
	}
}

// TestThousandsWaitForAnotherProcess: thousands of calls of one user, who wait for another process, have few connections, end with their
// contexts, and are all served when that is killed.
func TestThousandsWaitForAnotherProcess(t *testing.T) {
	const most = 20
	calls := 10_000
	if testdb.UnderRace() {
		calls = 1000
	}
	scenes(t, engines, func(s *scene) {
		db, err := sql.Open("dblocker", fmt.Sprintf("%s?lock_scope=database&lock_timeout=5m&max_open_conns=%d:%s", s.driver, most, s.dsn(s.driver, nil)))
		if err != nil {
			s.Fatal(err)
		}
		defer db.Close()
		holder := s.holder("section", nil)
		var waiting sync.WaitGroup
		for i := range calls {
			waiting.Go(func() {
				ctx := dblocker.WithUser(context.Background(), "u")
				if i%2 == 0 {
					if _, err := db.ExecContext(ctx, "UPDATE registers SET n = n + 1 WHERE id = 0"); err != nil {
						s.Errorf("a write: %v", err)
					}
				} else if err := db.QueryRowContext(ctx, "SELECT n FROM registers WHERE id = 0").Scan(new(int)); err != nil {
					s.Errorf("a read: %v", err)
				}
			})
		}
		s.until(func() bool {
			st, err := dblocker.Stats(db)
			return err == nil && st.Held+st.Waiting >= calls
		})
		s.endsSoon(db, "u")
		st, err := dblocker.Stats(db)
		if err != nil {
			s.Fatal(err)
		}
		if st.Server.InUse > most/2 {
			s.Errorf("%d connections are in use by those who wait", st.Server.InUse)
		}
		if _, err := db.ExecContext(dblocker.WithUser(context.Background(), "stranger"), "UPDATE registers SET n = n + 1 WHERE id = 1"); err != nil {
			s.Errorf("another user meanwhile: %v", err)
		}
		killed := time.Now()
		holder.kill()
		waiting.Wait()
		took := time.Since(killed)
		s.Logf("%d calls had %d connections in use while they waited, and were served %v after the process was killed", calls, st.Server.InUse, took)
		if took > served {
			s.Errorf("%d calls took %v after the process was killed, want at most %v", calls, took, served)
		}
		var n int
		if err := s.bare.QueryRow("SELECT n FROM registers WHERE id = 0").Scan(&n); err != nil || n != calls/2 {
			s.Errorf("%d of %d writes are there: %v", n, calls/2, err)
		}
	})
}

// until waits until something is so.
func (s *scene) until(is func() bool) {
	s.Helper()
	for deadline := time.Now().Add(served); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("still not so after %v", served)
		}
	}
}

// TestServerThatHangs: while the server does not answer, calls end with their contexts, and when it is back all are served.
func TestServerThatHangs(t *testing.T) {
	const calls, most = 2000, 20
	scenes(t, servers, func(s *scene) {
		through := newProxy(s, s.server.Addr())
		db, err := sql.Open("dblocker", fmt.Sprintf("%s?lock_scope=database&lock_timeout=5m&max_open_conns=%d:%s", s.driver, most, s.dsn(s.driver, through)))
		if err != nil {
			s.Fatal(err)
		}
		defer db.Close()
		if err := db.Ping(); err != nil {
			s.Fatal(err)
		}
		isBack := through.hang()
		var waiting sync.WaitGroup
		for i := range calls {
			waiting.Go(func() {
				ctx := dblocker.WithUser(context.Background(), fmt.Sprint("u", i/2))
				if _, err := db.ExecContext(ctx, "UPDATE registers SET n = n + 1 WHERE id = 0"); err != nil {
					s.Errorf("a write: %v", err)
				}
			})
		}
		s.until(func() bool {
			st, err := dblocker.Stats(db)
			return err == nil && st.Held+st.Waiting >= calls
		})
		for range 5 {
			s.endsSoon(db, "stranger")
		}
		back := time.Now()
		isBack()
		waiting.Wait()
		took := time.Since(back)
		s.Logf("%d calls were served %v after the server was back", calls, took)
		if took > served {
			s.Errorf("%d calls took %v after the server was back, want at most %v", calls, took, served)
		}
		var n int
		if err := s.bare.QueryRow("SELECT n FROM registers WHERE id = 0").Scan(&n); err != nil || n != calls {
			s.Errorf("%d of %d writes are there: %v", n, calls, err)
		}
	})
}
