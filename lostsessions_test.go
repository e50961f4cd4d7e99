package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A sessionStub is a stub that speaks MySQL enough to have sessions. The
// statement "UPDATE hang" goes on, after its context has ended and its connection is
// lost, until it is killed.
type sessionStub struct {
	stub

	mu       sync.Mutex // guards what follows
	last     int
	sessions map[int]bool // by number; those that live
	immortal bool         // KILL has no effect
	down     error        // what Connect answers; nil: it connects
}

func (s *sessionStub) Connect(ctx context.Context) (driver.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return nil, s.down
	}
	ci, err := s.stub.Connect(ctx)
	if err != nil {
		return nil, err
	}
	s.last++
	s.sessions[s.last] = true
	return &sessionConn{stubConn: ci.(*stubConn), s: s, id: s.last}, nil
}

// set changes the server's ways under its mutex.
func (s *sessionStub) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *sessionStub) lives(id int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

type sessionConn struct {
	*stubConn
	s    *sessionStub
	id   int
	lost bool
}

func (c *sessionConn) IsValid() bool { return !c.lost }

func (c *sessionConn) Close() error {
	if !c.lost {
		c.s.set(func() { delete(c.s.sessions, c.id) })
	}
	return c.stubConn.Close()
}

func (c *sessionConn) ExecContext(ctx context.Context, query string, _ []driver.NamedValue) (driver.Result, error) {
	var id int
	switch n, _ := fmt.Sscanf(query, "KILL %d", &id); {
	case n == 1:
		c.s.set(func() {
			if !c.s.immortal {
				delete(c.s.sessions, id)
			}
		})
	case query == "UPDATE hang":
		<-ctx.Done()
		c.lost = true
		return nil, ctx.Err()
	case query == "refuse":
		c.lost = true
		return nil, driver.ErrBadConn
	}
	return driver.RowsAffected(1), nil
}

// QueryContext lists the sessions.
func (c *sessionConn) QueryContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	rows := new(sessionRows)
	for id := range c.s.sessions {
		if id == c.id || !strings.Contains(query, "CONNECTION_ID") {
			rows.ids = append(rows.ids, id)
		}
	}
	return rows, nil
}

type sessionRows struct{ ids []int }

func (r *sessionRows) Columns() []string { return []string{"id", "host", "host"} }
func (r *sessionRows) Close() error      { return nil }
func (r *sessionRows) Next(row []driver.Value) error {
	if len(r.ids) == 0 {
		return io.EOF
	}
	row[0], row[1], row[2] = int64(r.ids[0]), []byte("client:1"), []byte("client:1")
	r.ids = r.ids[1:]
	return nil
}

// onSessions runs a test on a sessionStub, with a log.
func onSessions(t *testing.T, options []Option, test func(t *testing.T, db *sql.DB, s *sessionStub, log *strings.Builder)) {
	bubble(t, func(t *testing.T) {
		log := new(strings.Builder)
		s := &sessionStub{sessions: make(map[int]bool)}
		test(t, openStub(t, s, append(options, Dialect("mysql"), Logger(textLogger(log)))...), s, log)
		synctest.Wait() // for the end of what runs in the background
	})
}

// hang runs a statement that is cancelled after a second and goes on on the
// server.
func hang(t *testing.T, on interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(asUser(1), time.Second)
	defer cancel()
	start := time.Now()
	if _, err := on.ExecContext(ctx, "UPDATE hang"); err != context.DeadlineExceeded {
		t.Fatalf("got %v, want the inner driver's own error", err)
	}
	if took := time.Since(start); took != time.Second {
		t.Errorf("the call returned after %v, want 1s as on the bare driver", took)
	}
}

// waitForLock tells how long user 1 has to wait.
func waitForLock(t *testing.T, db *sql.DB) time.Duration {
	t.Helper()
	start := time.Now()
	_, err := db.ExecContext(asUser(1), "UPDATE t SET v = 1")
	must(t, err)
	return time.Since(start)
}

// TestLockOutlivesLostConnection until the server has ended its session, and no
// longer.
func TestLockOutlivesLostConnection(t *testing.T) {
	onSessions(t, nil, func(t *testing.T, db *sql.DB, s *sessionStub, log *strings.Builder) {
		s.set(func() { s.immortal = true })
		hang(t, db)
		time.AfterFunc(3*time.Second, func() { s.set(func() { delete(s.sessions, 1) }) }) // the first connection's
		if waited := waitForLock(t, db); waited < 3*time.Second || waited > 3200*time.Millisecond {
			t.Errorf("the next had to wait %v, the session lived for 3s", waited)
		}
		_, err := db.ExecContext(asUser(2), "UPDATE t SET v = 1")
		must(t, err)
		if log.Len() > 0 {
			t.Errorf("logged: %s", log)
		}
	})
}

// TestSectionWaitsForItsLostConnection: a section has its lock alone, also against its own
// earlier write that the server is still at. What is another user's in it does not wait, and
// the lock does not pass on.
func TestSectionWaitsForItsLostConnection(t *testing.T) {
	onSessions(t, nil, func(t *testing.T, db *sql.DB, s *sessionStub, _ *strings.Builder) {
		s.set(func() { s.immortal = true })
		ctx, unlock := beginTest(t, Lock, asUser(1), db)
		nested, unlockNested := beginTest(t, Lock, ctx, db)
		short, cancel := context.WithTimeout(nested, time.Second)
		defer cancel()
		if _, err := db.ExecContext(short, "UPDATE hang"); err != context.DeadlineExceeded {
			t.Fatalf("got %v, want the inner driver's own error", err)
		}
		unlockNested()
		start := time.Now()
		lived := func() time.Duration { return time.Since(start).Round(time.Second) }
		time.AfterFunc(3*time.Second, func() { s.set(func() { delete(s.sessions, 1) }) })

		_, err := db.ExecContext(withUserKey(ctx, 2), "UPDATE t SET v = 1")
		must(t, err)
		if lived() != 0 {
			t.Errorf("another user's statement waited %v", lived())
		}
		waiting, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := db.ExecContext(waiting, "UPDATE t SET v = 1"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "the server has not ended") {
			t.Errorf("the section's next write, with a context that ends: %v", err)
		}
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		if lived() != 3*time.Second {
			t.Errorf("the section's next write waited %v, the session lived for 3s", lived())
		}
		must(t, tx.Commit())

		short, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
		db.ExecContext(short, "UPDATE hang")
		unlock()
		if isFree(t, db, 1) {
			t.Error("the lock passed on while the server was at a statement of the section")
		}
		time.Sleep(11 * time.Second)
		if !isFree(t, db, 1) {
			t.Error("the lock did not pass on after cancel_grace")
		}
	})
}

// TestLostSessionsAreKilled, so the wait is short; all of them over one
// connection, which is outside of max_open_conns.
func TestLostSessionsAreKilled(t *testing.T) {
	onSessions(t, []Option{MaxOpenConns(3)}, func(t *testing.T, db *sql.DB, s *sessionStub, _ *strings.Builder) {
		tx, err := db.BeginTx(asUser(2), nil)
		must(t, err)
		hang(t, tx)
		tx.Rollback() // its connection is gone
		conn, err := db.Conn(context.Background())
		must(t, err)
		_, err = conn.ExecContext(asUser(3), "BEGIN")
		must(t, err)
		hang(t, conn)
		conn.Close()
		hang(t, db)
		for user := 1; user <= 3; user++ {
			_, err := db.ExecContext(asUser(user), "UPDATE t SET v = 1")
			must(t, err)
		}
		for id := 1; id <= 3; id++ {
			if s.lives(id) {
				t.Errorf("session %d lives", id)
			}
		}
		if n := s.mostOpen.Load(); n > 4 {
			t.Errorf("%d connections were open, want at most max_open_conns=3 and one", n)
		}
	})
}

// TestCancelGraceIsTheLimit: a lock is released then, with a warning.
func TestCancelGraceIsTheLimit(t *testing.T) {
	for _, tc := range []struct {
		name    string
		options []Option
		trouble func(*sessionStub)
		waited  time.Duration
		log     []string
	}{
		{"the session does not end", nil, func(s *sessionStub) { s.immortal = true }, 10 * time.Second,
			[]string{"level=WARN", "may still be at work", "user=1", "session=2", "cancel_grace=10s"}},
		{"the server cannot be reached", []Option{CancelGrace(time.Second)}, func(s *sessionStub) { s.down = errors.New("no route") }, time.Second,
			[]string{"level=WARN", "may still be at work", "user=1", `error="no route"`}},
		{"no grace", []Option{CancelGrace(0)}, func(s *sessionStub) { s.immortal = true }, 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onSessions(t, tc.options, func(t *testing.T, db *sql.DB, s *sessionStub, log *strings.Builder) {
				conn, err := db.Conn(context.Background()) // for the next, who could not connect
				must(t, err)
				_, err = conn.ExecContext(asUser(2), "UPDATE t SET v = 1")
				must(t, err)
				time.AfterFunc(time.Second/2, func() { s.set(func() { tc.trouble(s) }) })
				hang(t, db)
				start := time.Now()
				_, err = conn.ExecContext(asUser(1), "UPDATE t SET v = 1")
				must(t, err)
				if waited := time.Since(start); waited != tc.waited {
					t.Errorf("the next had to wait %v, want %v", waited, tc.waited)
				}
				must(t, conn.Close())
				synctest.Wait()
				for _, part := range tc.log {
					if !strings.Contains(log.String(), part) {
						t.Errorf("the log does not say %q: %s", part, log)
					}
				}
				if len(tc.log) == 0 && log.Len() > 0 {
					t.Errorf("logged: %s", log)
				}
			})
		})
	}
}

// TestLostSessionIsAStranger: the wait for it names it, and it does not keep the
// handle from closing.
func TestLostSessionIsAStranger(t *testing.T) {
	onSessions(t, []Option{LockTimeout(0)}, func(t *testing.T, db *sql.DB, s *sessionStub, _ *strings.Builder) {
		s.set(func() { s.immortal = true })
		ctx := asUser(1)
		cancelled, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		db.ExecContext(cancelled, "UPDATE hang")
		_, err := db.ExecContext(ctx, "UPDATE t SET v = 1")
		if !errors.Is(err, ErrLockTimeout) || !strings.Contains(err.Error(), "the server has not ended") {
			t.Errorf("beside the lost session: got %v, want ErrLockTimeout that names it", err)
		}
		must(t, db.Close())
		time.Sleep(11 * time.Second) // of synctest's clock; then nothing may be left
	})
}

// TestNothingSentIsNotWaitedFor: driver.ErrBadConn says that the statement did
// not reach the server.
func TestNothingSentIsNotWaitedFor(t *testing.T) {
	onSessions(t, nil, func(t *testing.T, db *sql.DB, s *sessionStub, _ *strings.Builder) {
		s.set(func() { s.immortal = true })
		start := time.Now()
		if _, err := db.ExecContext(asUser(1), "refuse"); err != driver.ErrBadConn {
			t.Errorf("got %v, want driver.ErrBadConn", err)
		}
		waitForLock(t, db)
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// TestSectionOutlivesNoStatement: on a real server, no cancelled write of a section runs beside
// the next statement of the section.
func TestSectionOutlivesNoStatement(t *testing.T) {
	slow := map[string]string{
		"postgres": "UPDATE counters SET n = 7 FROM pg_sleep(20)",
		"mysql":    "UPDATE counters SET n = 7 WHERE SLEEP(20) = 0",
	}
	running := map[string]string{
		"postgres": "SELECT COUNT(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'UPDATE counters SET n = 7%'",
		"mysql":    "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE counters SET n = 7%'",
	}
	onEngines(t, "cancel_grace=1m", func(t *testing.T, db *sql.DB, c *Connector) {
		query := slow[c.engine.Name]
		if query == "" {
			t.Skip("SQLite works in the process")
		}
		ctx, unlock := beginTest(t, Lock, asUser(1), db)
		defer unlock()
		for range 3 {
			short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			defer cancel()
			if _, err := db.ExecContext(short, query); !errors.Is(err, context.DeadlineExceeded) && short.Err() == nil {
				t.Fatalf("the slow write: %v", err)
			}
			var n int
			must(t, db.QueryRowContext(ctx, running[c.engine.Name]).Scan(&n))
			if n != 0 {
				t.Errorf("%d cancelled writes of the section are still running", n)
			}
		}
	})
}
