//go:build unix

package processes

import (
	"context"
	"database/sql"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// soon is how long the next one may have to wait for the lock of a process that is gone. It is a second, and some for a busy machine,
// which a test cannot tell from a second; so the best of some tries counts.
const (
	soon     = time.Second
	sceneTry = 5
)

// A scene has a process that holds a lock, and the test as the one that wants it next.
type scene struct {
	*testing.T
	*world
	driver string
	db     *sql.DB
}

var servers = []*engine{postgres, mariaDB}

// scenes runs a test for each driver of some engines.
func scenes(t *testing.T, of []*engine, test func(*scene)) {
	for _, e := range of {
		for _, driver := range e.drivers {
			t.Run(driver, func(t *testing.T) {
				testdb.NoLeaks(t)
				w := newWorld(t, e)
				db, err := sql.Open("dblocker", driver+"?lock_scope=database&lock_timeout=20s:"+w.dsn(driver, nil))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { db.Close() })
				test(&scene{t, w, driver, db})
			})
		}
	}
}

// holder starts a process that has the lock of user u in a way.
func (s *scene) holder(way string, through *proxy) *child {
	s.Helper()
	c := start(s, task{Engine: s.engine.name, Role: "holder", Driver: s.driver, DSN: s.dsn(s.driver, through), Options: way})
	if !c.hear(s, "held", 30*time.Second) {
		s.FailNow()
	}
	return c
}

// wait begins to wait for the lock, and returns how long it took from the time that the channel is sent.
func (s *scene) wait() (since func(time.Time) time.Duration) {
	had := make(chan time.Time, 1)
	go func() {
		_, unlock, err := dblocker.Lock(dblocker.WithUser(context.Background(), "u"), s.db)
		now := time.Now()
		unlock()
		if err != nil {
			s.Errorf("the next one: %v", err)
		}
		had <- now
	}()
	return func(t time.Time) time.Duration { return (<-had).Sub(t) }
}

// untilWaits returns when somebody waits, as far as that is to be seen.
func (s *scene) untilWaits() {
	s.Helper()
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if st, err := dblocker.Stats(s.db); err == nil && st.Held+st.Waiting > 0 {
			return
		}
	}
	s.Fatal("nobody waits")
}

// TestHolderKilled: when a process is killed that has a lock, another has it within a second: with an idle holder everywhere, and on
// PostgreSQL, which looks after its clients since version 14, also when it is in a statement.
func TestHolderKilled(t *testing.T) {
	for way := range holdings {
		t.Run(way, func(t *testing.T) {
			of, busy := engines, way != "section" && way != "transaction"
			if busy {
				of = []*engine{postgres}
			}
			scenes(t, of, func(s *scene) {
				var took time.Duration
				for range sceneTry {
					holder := s.holder(way, nil)
					if busy {
						s.untilBusy()
					}
					since := s.wait()
					s.untilWaits()
					killed := time.Now()
					holder.kill()
					if took = since(killed); took <= soon {
						break
					}
				}
				s.Logf("the next one has the lock after %v", took)
				if took > soon {
					s.Errorf("the next one had to wait %v each time, want at most %v", took, soon)
				}
			})
		})
	}
}

// untilBusy returns when the server is in the statement of the holder.
func (s *scene) untilBusy() {
	s.Helper()
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		var n int
		if err := s.bare.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'").Scan(&n); err != nil {
			s.Fatal(err)
		}
		if n > 0 {
			return
		}
	}
	s.Fatal("the holder is in no statement")
}

// TestHolderFrozen: a process that is frozen keeps its lock, which is all that can be known of it, and goes on with it when it wakes up.
func TestHolderFrozen(t *testing.T) {
	scenes(t, engines, func(s *scene) {
		holder := s.holder("section", nil)
		holder.signal(syscall.SIGSTOP)
		ctx, cancel := context.WithTimeout(dblocker.WithUser(context.Background(), "u"), 300*time.Millisecond)
		defer cancel()
		if _, unlock, err := dblocker.Lock(ctx, s.db); !errors.Is(err, context.DeadlineExceeded) {
			unlock()
			s.Errorf("while the holder is frozen: got %v, want that the context ends", err)
		}
		since := s.wait()
		s.untilWaits()
		holder.signal(syscall.SIGCONT)
		woken := time.Now()
		holder.kill()
		s.Logf("the next one has the lock %v after the frozen one has woken up and was killed", since(woken))
	})
}

// TestFrozenHolderOfAnEndedSession: where the server ends sessions that are idle for long, others have the lock of a frozen
// process then, and that learns of it when it wakes up.
func TestFrozenHolderOfAnEndedSession(t *testing.T) {
	scenes(t, []*engine{postgres}, func(s *scene) {
		if _, err := s.bare.Exec("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET idle_session_timeout = 500', current_database()); END $$"); err != nil {
			s.Fatal(err)
		}
		holder := s.holder("section", nil)
		holder.signal(syscall.SIGSTOP)
		since := s.wait()
		s.Logf("the next one has the lock after %v", since(time.Now()))
		holder.signal(syscall.SIGCONT)
		holder.hear(s, "ended, lock lost: true", 30*time.Second)
	})
}

// TestHolderCutOff: a process whose packets are lost keeps its lock as long as its connection lives. When that is closed, the next one has
// it, and the process learns of it.
func TestHolderCutOff(t *testing.T) {
	scenes(t, servers, func(s *scene) {
		through := newProxy(s, s.server.Addr())
		holder := s.holder("section", through)
		closed := through.swallow()
		since := s.wait()
		s.untilWaits()
		closed()
		s.Logf("the next one has the lock %v after the connection was closed", since(time.Now()))
		holder.hear(s, "ended, lock lost: true", 30*time.Second)
	})
}
