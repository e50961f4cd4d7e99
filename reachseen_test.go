package dblocker

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/mysql"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// onSeenWorlds runs f on each server, with a function that tells which session has the lock of user u.
func onSeenWorlds(t *testing.T, f func(t *testing.T, s reachWorld, holder func() string)) {
	t.Run("postgres", func(t *testing.T) {
		s := newReachScene(t)
		s.dsn += " application_name=program" // of all
		f(t, s, func() (pid string) {
			must(t, s.plain.QueryRow("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1").Scan(&pid))
			return pid
		})
	})
	t.Run("mysql", func(t *testing.T) {
		testdb.NoLeaks(t)
		s := newReachMySQLScene(t)
		f(t, s, func() (id string) {
			name := mysql.LockNames(s.database, scope.Key("", "u"), mysql.DefaultReaders, false)[0]
			must(t, s.plain.QueryRow("SELECT IS_USED_LOCK(?)", name).Scan(&id))
			return id
		})
	})
}

// TestReachErrorsNameTheProcess: what ends a wait for another process's lock says which that is, and since when.
func TestReachErrorsNameTheProcess(t *testing.T) {
	onSeenWorlds(t, func(t *testing.T, s reachWorld, holder func() string) {
		a, b := s.process(), s.process(LockTimeout(300*time.Millisecond), MaxOpenConns(1))
		unlock := holdIn(t, a, "u")
		session := holder()
		check := func(what string, err error, want error) {
			t.Helper()
			var e *LockError
			if !errors.As(err, &e) || !errors.Is(err, want) {
				t.Errorf("%s: got %v, want a LockError", what, err)
				return
			}
			p := e.Process
			if p == nil || p.Session != session || !strings.HasPrefix(p.Address, "127.0.0.1:") && !strings.HasPrefix(p.Address, "localhost") || p.State == "" || time.Since(p.Since) > time.Minute || e.Blocked > time.Minute {
				t.Errorf("%s: the process is %+v, want session %s", what, p, session)
			}
			if !strings.Contains(err.Error(), "in the way: session "+session+" of another process") {
				t.Errorf("%s: %v", what, err)
			}
			if _, is := s.(*reachScene); is && (p.Name != "program" || !strings.Contains(err.Error(), `"program"`)) {
				t.Errorf("%s: the application is %q: %v", what, p.Name, err)
			}
		}
		for _, way := range waitWays {
			check(way.name, way.do(asReachUser("u"), b), ErrLockTimeout)
		}
		check("a section in another", Do(asReachUser("v"), b, func(ctx context.Context) error { return waitWays[7].do(WithUser(ctx, "u"), b) }), ErrLockTimeout)
		_, _, err := LockAll(context.Background(), b)
		check("LockAll", err, ErrLockTimeout)
		ctx, cancel := context.WithTimeout(asReachUser("u"), 150*time.Millisecond)
		check("with a context that ends", waitWays[7].do(ctx, b), context.DeadlineExceeded)
		cancel()
		unlock()
		_, unlockAll, err := LockAll(context.Background(), a)
		must(t, err)
		session = holderOfAll(s)
		check("behind LockAll", waitWays[0].do(asReachUser("u"), b), ErrLockTimeout)
		unlockAll()
		if err := waitWays[0].do(asReachUser("u"), b); err != nil {
			t.Error(err)
		}
	})
}

// holderOfAll returns the session that has all users' lock.
func holderOfAll(s reachWorld) (session string) {
	switch s := s.(type) {
	case *reachScene:
		s.plain.QueryRow("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&session)
	case *reachMySQLScene:
		s.plain.QueryRow("SELECT IS_USED_LOCK(?)", mysql.LockNames(s.database, scope.KeyOfAll(""), 0, true)[512]).Scan(&session)
	}
	return session
}

// TestReachErrorsWithoutSight: where the server does not tell in time who has a lock, the error says as much as without that.
func TestReachErrorsWithoutSight(t *testing.T) {
	s := newReachScene(t)
	a, b := s.process(), s.process(LockTimeout(100*time.Millisecond))
	unlock := holdIn(t, a, "u")
	defer unlock()
	c, _, err := connectorOf(context.Background(), b)
	must(t, err)
	c.sight.look(time.Second, "", func(context.Context) ([]scope.Other, error) { return nil, nil })
	c.sight.turn <- struct{}{} // somebody asks all the time
	began := time.Now()
	err = waitWays[0].do(asReachUser("u"), b)
	var e *LockError
	if !errors.As(err, &e) || e.Err != ErrLockTimeout || e.Process != nil || !strings.Contains(err.Error(), "in the way: another process") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	<-c.sight.turn
}

// TestReachHolds: Holds shows what other processes have of the locks that are waited for here, and of all users' lock.
func TestReachHolds(t *testing.T) {
	onSeenWorlds(t, func(t *testing.T, s reachWorld, holder func() string) {
		a, b := s.process(), s.process(LockTimeout(time.Minute))
		others := func(db *sql.DB) (found []HoldInfo) {
			holds, err := Holds(db)
			must(t, err)
			for _, h := range holds {
				if h.Process != nil {
					found = append(found, h)
				}
			}
			return found
		}
		expect := func(what string, want ...string) {
			t.Helper()
			var got []string
			for _, h := range others(b) {
				got = append(got, fmt.Sprint(h.What, h.User, h.Mode, h.Kind, h.Waiting, h.Process.Session))
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: got %v, want %v", what, got, want)
			}
		}
		unlock := holdIn(t, a, "u")
		session := holder()
		expect("nothing is waited for here")
		done := make(chan error)
		go func() { done <- waitWays[0].do(asReachUser("u"), b) }()
		s.until("it waits", func() bool { return s.waiting() == 1 })
		expect("a writer", fmt.Sprint("lock", "u", Exclusive, "process", false, session))
		text, err := json.Marshal(others(b))
		if err != nil || !strings.Contains(string(text), `"process":{"session":"`+session+`"`) {
			t.Errorf("as JSON: %s (%v)", text, err)
		}
		if found := others(a); len(found) != 0 {
			t.Errorf("in the process that has it: %v", found)
		}
		unlock()
		must(t, <-done)
		_, leave, err := RLock(asReachUser("u"), a)
		must(t, err)
		go func() { done <- waitWays[4].do(asReachUser("u"), b) }()
		s.until("it waits", func() bool { return s.waiting() == 1 })
		if found := others(b); len(found) != 1 || found[0].Mode != Shared || found[0].User != "u" {
			t.Errorf("a reader: %+v", found)
		}
		leave()
		must(t, <-done)
		_, unlockAll, err := LockAll(context.Background(), a)
		must(t, err)
		if found := others(b); len(found) != 1 || found[0].Mode != Exclusive || found[0].User != "" {
			t.Errorf("LockAll: %+v", found)
		}
		unlockAll()
	})
}

// TestReachStats: waits for other processes are counted, and how they end.
func TestReachStats(t *testing.T) {
	onReachWorlds(t, func(t *testing.T, s reachWorld) {
		a, b := s.process(), s.process(LockTimeout(200*time.Millisecond))
		for range 3 { // how fast the server is
			must(t, waitWays[0].do(asReachUser("x"), b))
		}
		unlock := holdIn(t, a, "u")
		before := waitsOf(t, b)
		if err := waitWays[0].do(asReachUser("u"), b); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("got %v", err)
		}
		after := waitsOf(t, b)
		if p := after.Processes; p.Waits != before.Processes.Waits+1 || p.Timeouts != before.Processes.Timeouts+1 || p.Time-before.Processes.Time < 150*time.Millisecond || after.HandOvers != before.HandOvers {
			t.Errorf("after a wait in vain: %+v, %d hand-overs; before: %+v", p, after.HandOvers, before.Processes)
		}
		if _, _, err := TryLock(asReachUser("u"), b); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("got %v", err)
		}
		if p := waitsOf(t, b).Processes; p != after.Processes {
			t.Errorf("after a try: %+v, want %+v", p, after.Processes)
		}
		unlock()
		c := s.process(LockTimeout(time.Minute))
		for range 3 {
			must(t, waitWays[0].do(asReachUser("x"), c))
		}
		unlock = holdIn(t, a, "u")
		before = waitsOf(t, c)
		done := make(chan error, 5)
		for range 5 {
			go func() { done <- waitWays[3].do(asReachUser("u"), c) }()
		}
		s.until("they wait", func() bool { return s.waiting() == 1 && listedAsSlow(t, c) == 5 })
		time.Sleep(50 * time.Millisecond) // that they have waited
		unlock()
		for range 5 {
			must(t, <-done)
		}
		after = waitsOf(t, c)
		if n := after.HandOvers - before.HandOvers; n != 5 || after.Processes.Waits-before.Processes.Waits != 5 || after.Processes.Timeouts != 0 {
			t.Errorf("after waits of 5: %+v, %d hand-overs", after.Processes, n)
		}
	})
}

// listedAsSlow counts the waits for other processes that will be told of if they last.
func listedAsSlow(t *testing.T, db *sql.DB) int {
	t.Helper()
	c, _, err := connectorOf(context.Background(), db)
	must(t, err)
	s := &c.handle.slowReach
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waits)
}

func waitsOf(t *testing.T, db *sql.DB) Statistics {
	t.Helper()
	st, err := Stats(db)
	must(t, err)
	return st
}

// TestReachSlowWaits: a wait for another process that lasts is logged while it lasts, with who has the lock.
func TestReachSlowWaits(t *testing.T) {
	s := newReachScene(t)
	s.dsn += " application_name=program"
	var log syncBuffer
	var l eventLog
	a, b := s.process(), s.process(LockTimeout(time.Minute), Logger(textLogger(&log)), Observe(l.add))
	unlock := holdIn(t, a, "u")
	done := make(chan error, 5)
	for range 5 {
		go func() { done <- waitWays[0].do(asReachUser("u"), b) }()
	}
	s.until("a line is logged", func() bool { return strings.Contains(log.String(), "has been waiting") })
	unlock()
	for range 5 {
		must(t, <-done)
	}
	text := log.String()
	for _, want := range []string{"waiting for 5s", `shared lock of user \"u\" among the processes`, "of another process", "application=program", "address=127.0.0.1:", "waiting=5"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not say %s:\n%s", want, text)
		}
	}
	if n := strings.Count(text, "has been waiting"); n != 1 {
		t.Errorf("%d lines, want 1:\n%s", n, text)
	}
	if e := l.one(t, EventHoldLong); e.User != "u" || e.Held != "process" || e.Waiting != 5 || e.Duration < 5*time.Second || e.Blocker == nil || e.Blocker.Process == nil || e.Blocker.Process.Name != "program" {
		t.Errorf("told %+v", e)
	}
}

// TestSlowReachesAreToldOnce: one line for a lock and five seconds, for all who have waited so long; and none who has left is told of.
func TestSlowReachesAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s slowReach
		s.running = true // so that nobody else looks
		u, v := scope.Ask{Users: []string{"u"}}, scope.Ask{Users: []string{"v"}}
		begin := func(a scope.Ask) *reachWait {
			w := new(reachWait)
			s.begin(nil, nil, w, a, time.Now())
			return w
		}
		first, left := begin(u), begin(u)
		begin(u)
		time.Sleep(3 * time.Second)
		begin(u)
		begin(v)
		if got := s.due(time.Now()); len(got) != 0 {
			t.Errorf("after 3s: %v", got)
		}
		s.end(left)
		time.Sleep(2 * time.Second)
		if got := s.due(time.Now()); len(got) != 1 || got[slowLock{user: "u"}].n != 2 {
			t.Errorf("after 5s: %v", got)
		}
		s.end(first) // and goes on to wait at the server
		s.begin(nil, nil, first, u, time.Now())
		time.Sleep(3 * time.Second)
		if got := s.due(time.Now()); len(got) != 1 || got[slowLock{user: "v"}].n != 1 {
			t.Errorf("after 8s: %v", got)
		}
		time.Sleep(2 * time.Second)
		if got := s.due(time.Now()); len(got) != 1 || got[slowLock{user: "u"}].n != 1 {
			t.Errorf("after 10s: %v", got)
		}
		time.Sleep(time.Minute)
		if got := s.due(time.Now()); len(got) != 0 || len(s.told) != 0 {
			t.Errorf("at the end: %v, %v", got, s.told)
		}
	})
}
