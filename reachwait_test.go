package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// A reachWorld is a server with processes, whichever it is.
type reachWorld interface {
	process(opts ...Option) *sql.DB
	waiting() int // sessions that wait for a lock at the server
	until(what string, is func() bool)
}

func (s *reachScene) waiting() int { return s.locks(false) }

// onReachWorlds runs f on each server.
func onReachWorlds(t *testing.T, f func(t *testing.T, s reachWorld)) {
	t.Run("postgres", func(t *testing.T) { f(t, newReachScene(t)) })
	t.Run("mysql", func(t *testing.T) {
		testdb.NoLeaks(t)
		f(t, newReachMySQLScene(t))
	})
}

func asReachUser(user any) context.Context { return WithUser(context.Background(), user) }

// holdIn takes users' locks in a process, and returns what gives them up.
func holdIn(t *testing.T, db *sql.DB, users ...string) (unlock func()) {
	t.Helper()
	var unlocks []func()
	for _, user := range users {
		_, unlock, err := Lock(asReachUser(user), db)
		must(t, err)
		unlocks = append(unlocks, unlock)
	}
	return func() {
		for _, unlock := range unlocks {
			unlock()
		}
	}
}

// waitWays are ways to wait for a lock, and to end what has it then.
var waitWays = []struct {
	name   string
	shared bool
	do     func(ctx context.Context, db *sql.DB) error
}{
	{"a query", true, func(ctx context.Context, db *sql.DB) error {
		return db.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = 'a'").Scan(new(int))
	}},
	{"a prepared query", true, func(ctx context.Context, db *sql.DB) error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		stmt, err := conn.PrepareContext(ctx, "SELECT n FROM counters WHERE name = 'a'") // which draws a connection
		if err != nil {
			return err
		}
		defer stmt.Close()
		return stmt.QueryRowContext(ctx).Scan(new(int))
	}},
	{"a Tx that reads", true, func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		return tx.Commit()
	}},
	{"RLock", true, func(ctx context.Context, db *sql.DB) error {
		return RDo(ctx, db, func(ctx context.Context) error {
			return db.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = 'a'").Scan(new(int))
		})
	}},
	{"an Exec", false, func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = 'b'")
		return err
	}},
	{"a Tx", false, func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		return tx.Commit()
	}},
	{"BEGIN", false, func(ctx context.Context, db *sql.DB) error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
			return err
		}
		_, err = conn.ExecContext(ctx, "COMMIT")
		return err
	}},
	{"Lock", false, func(ctx context.Context, db *sql.DB) error {
		return Do(ctx, db, func(ctx context.Context) error { return nil })
	}},
}

// TestReachCapsWaiters: however many calls wait for locks that another process has, whatever they are, they take one connection for a user,
// and half of max_open_conns in all; a stranger's work goes on. Then all have their locks.
func TestReachCapsWaiters(t *testing.T) {
	onReachWorlds(t, func(t *testing.T, s reachWorld) {
		const conns, each = 4, 6
		a, b := s.process(), s.process(MaxOpenConns(conns), LockTimeout(time.Minute))
		var users []string
		for i := range waitWays {
			users = append(users, fmt.Sprint("u", i))
		}
		unlock := holdIn(t, a, users...)
		var all sync.WaitGroup
		begin := func(user string, ways ...int) {
			for _, i := range ways {
				for range each {
					all.Go(func() {
						if err := waitWays[i].do(asReachUser(user), b); err != nil {
							t.Errorf("%s: %v", waitWays[i].name, err)
						}
					})
				}
			}
		}
		begin("u0", 0, 1, 2, 3) // readers of one user
		s.until("the readers wait", func() bool {
			st, _ := Stats(b)
			return haveLock(t, b, "u0") == 4*each && s.waiting() == 1 && st.Server.InUse == 1
		})
		for i := range waitWays {
			begin(users[i], i)
		}
		s.until("so many wait at the server as may", func() bool {
			st, _ := Stats(b)
			return s.waiting() == conns/2 && st.Server.InUse == conns/2
		})
		for range 20 {
			if n := s.waiting(); n > conns/2 {
				t.Errorf("%d calls wait at the server, want at most %d", n, conns/2)
			}
			ctx, cancel := context.WithTimeout(asReachUser("stranger"), 20*time.Second)
			if _, err := b.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = 'a'"); err != nil {
				t.Errorf("a stranger's Exec: %v", err)
			}
			cancel()
		}
		unlock()
		all.Wait()
		s.until("no connection is left in use", func() bool { st, _ := Stats(b); return st.Server.InUse == 0 })
	})
}

// haveLock counts the holds of a user's lock in the process.
func haveLock(t *testing.T, db *sql.DB, user string) (n int) {
	for _, i := range holdsOf(t, db) {
		if i.Key == user && !i.Waiting {
			n++
		}
	}
	return n
}

// TestReachReadersAreHadTogether: readers who have waited behind one of them in the process have the lock beside each other.
func TestReachReadersAreHadTogether(t *testing.T) {
	onReachWorlds(t, func(t *testing.T, s reachWorld) {
		const readers = 20
		a, b := s.process(LockReaders(readers)), s.process(LockTimeout(time.Minute), LockReaders(readers))
		unlock := holdIn(t, a, "u")
		var inside, all sync.WaitGroup
		inside.Add(readers)
		for range readers {
			all.Go(func() {
				err := RDo(asReachUser("u"), b, func(context.Context) error {
					inside.Done()
					inside.Wait()
					return nil
				})
				if err != nil {
					t.Error(err)
					inside.Done()
				}
			})
		}
		s.until("one waits at the server", func() bool { return haveLock(t, b, "u") == readers && s.waiting() == 1 })
		unlock()
		all.Wait()
	})
}

// TestReachHasOneTimeout: lock_timeout is of the wait in the process, for a permit and at the server together.
func TestReachHasOneTimeout(t *testing.T) {
	const timeout = 1500 * time.Millisecond
	onReachWorlds(t, func(t *testing.T, s reachWorld) {
		a, b := s.process(), s.process(LockTimeout(timeout), MaxOpenConns(2))
		check := func(what string, began time.Time, err error) {
			t.Helper()
			var e *LockError
			if !errors.As(err, &e) || e.Err != ErrLockTimeout || e.Waited < timeout*9/10 {
				t.Errorf("%s: got %v, want a LockError that has waited for %v", what, err, timeout)
			}
			if took := time.Since(began); took > timeout*8/5 {
				t.Errorf("%s: waited for %v, with a lock_timeout of %v", what, took, timeout)
			}
		}
		for _, way := range waitWays[4:] { // at MySQL, a reader may come before a writer that has not all names yet
			_, leave, err := Lock(asReachUser("u"), b)
			must(t, err)
			had := make(chan func())
			go func() {
				_, unlock, err := Lock(asReachUser("u"), a)
				if err != nil {
					t.Error(err)
				}
				had <- unlock
			}()
			s.until("the other process waits", func() bool { return s.waiting() == 1 })
			done, began := make(chan error), time.Now()
			go func() { done <- way.do(asReachUser("u"), b) }()
			time.Sleep(timeout * 3 / 4)
			leave()
			unlock := <-had
			check("the lock of the process, then the server's: "+way.name, began, <-done)
			unlock()
		}
		unlock := holdIn(t, a, "u", "v")
		began := time.Now()
		var all sync.WaitGroup
		for _, user := range []string{"u", "u", "v", "v"} { // of which one waits at the server
			all.Go(func() { check("for a permit", began, waitWays[0].do(asReachUser(user), b)) })
		}
		all.Wait()
		unlock()
	})
}

// TestReachWaitersLeave: those who wait for a permit leave with their context, and with db.Close, and leave nothing.
func TestReachWaitersLeave(t *testing.T) {
	onReachWorlds(t, func(t *testing.T, s reachWorld) {
		a, b := s.process(), s.process(LockTimeout(time.Minute), MaxOpenConns(2))
		unlock := holdIn(t, a, "u", "v")
		for _, way := range waitWays {
			ctx, cancel := context.WithCancel(context.Background())
			errs := make(chan error, 6)
			for i := range 6 {
				go func() { errs <- way.do(WithUser(ctx, []string{"u", "v"}[i%2]), b) }()
			}
			s.until("one waits at the server", func() bool { return s.waiting() == 1 })
			cancel()
			for range 6 {
				if err := <-errs; !errors.Is(err, context.Canceled) {
					t.Errorf("%s: got %v, want that of the context", way.name, err)
				}
			}
			s.until("nothing of the waits is left", func() bool { st, _ := Stats(b); return s.waiting() == 0 && st.Server.InUse == 0 && st.Held == 0 })
		}
		if _, err := b.ExecContext(asReachUser("w"), "UPDATE counters SET n = n"); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(context.Background()) // for who waits at the server
		defer cancel()
		errs := make(chan error, 4)
		for i := range 4 {
			go func() { errs <- waitWays[0].do(WithUser(ctx, []string{"u", "v"}[i%2]), b) }()
		}
		s.until("one waits at the server", func() bool { return s.waiting() == 1 && haveLock(t, b, "u")+haveLock(t, b, "v") == 4 })
		go b.Close()
		for range 3 {
			if err := <-errs; err == nil || err.Error() != errClosed.Error() {
				t.Errorf("got %v, want that the database is closed", err)
			}
		}
		cancel()
		<-errs
		unlock()
	})
}

// TestReachStarvesNobody: work of one process that never stops keeps no other process from the lock: neither its readers a writer, nor its
// writers a reader or a writer.
func TestReachStarvesNobody(t *testing.T) {
	onReachWorlds(t, func(t *testing.T, s reachWorld) {
		a, b := s.process(LockTimeout(time.Minute)), s.process(LockTimeout(time.Minute))
		for _, busy := range waitWays {
			var stop atomic.Bool
			var all sync.WaitGroup
			for range 6 {
				all.Go(func() {
					for !stop.Load() {
						if err := busy.do(asReachUser("u"), a); err != nil {
							t.Errorf("%s: %v", busy.name, err)
							return
						}
					}
				})
			}
			for _, way := range waitWays[3:] {
				for range 3 {
					began := time.Now()
					if err := way.do(asReachUser("u"), b); err != nil || time.Since(began) > 20*time.Second {
						t.Errorf("%s beside %s of another process: %v after %v", way.name, busy.name, err, time.Since(began))
					}
				}
			}
			stop.Store(true)
			all.Wait()
		}
	})
}

// TestReachEvents: who observes a handle is told of each wait for another process when it begins, and how it ends; of nothing that had not to wait.
func TestReachEvents(t *testing.T) {
	onReachWorlds(t, func(t *testing.T, s reachWorld) {
		var l eventLog
		a, b := s.process(), s.process(LockTimeout(time.Minute), MaxOpenConns(2), Observe(l.add))
		for range 3 { // how fast the server is
			must(t, waitWays[0].do(asReachUser("x"), b))
		}
		unlock := holdIn(t, a, "u")
		_, _, err := TryLock(asReachUser("u"), b)
		if !errors.Is(err, ErrLockTimeout) {
			t.Errorf("TryLock: got %v", err)
		}
		number := int64(0)
		wait := func(way int, end func(cancel func()), outcome Outcome) {
			t.Helper()
			ctx, cancel := context.WithCancel(traced("u", "a request"))
			defer cancel()
			last := number
			done := make(chan error, 1)
			go func() { done <- waitWays[way].do(ctx, b) }()
			is := func(e Event) bool { return e.What == "process" && e.User == "u" && e.Wait > last }
			began := l.await(t, EventWaitBegan, is)
			end(cancel)
			err := <-done
			ended := l.await(t, EventWaitEnded, is)
			number = ended.Wait
			if began.Wait != ended.Wait || ended.Outcome != outcome || (ended.Err == nil) != (err == nil) || ended.Duration <= 0 || ended.User != "u" || spanOf(ended.Context) != "a request" || !began.Time.Before(ended.Time) {
				t.Errorf("%s: %v; told\n%+v\n%+v", waitWays[way].name, err, began, ended)
			}
		}
		for way := range waitWays {
			wait(way, func(cancel func()) { cancel() }, OutcomeContext)
		}
		for way := range waitWays {
			wait(way, func(func()) { unlock() }, OutcomeGranted)
			unlock = holdIn(t, a, "u")
		}
		var c eventLog
		short := s.process(LockTimeout(200*time.Millisecond), Observe(c.add))
		if err := waitWays[0].do(asReachUser("u"), short); !errors.Is(err, ErrLockTimeout) {
			t.Errorf("got %v", err)
		}
		if e := c.await(t, EventWaitEnded, func(e Event) bool { return e.What == "process" }); e.Outcome != OutcomeTimeout || e.Err != ErrLockTimeout {
			t.Errorf("told %+v", e)
		}
		unlock()
		n := 0
		for _, e := range l.of(EventWaitBegan) {
			if e.What == "process" && e.User == "u" { // on a busy machine an answer may be so late that it is taken for one
				n++
			}
		}
		if n != 2*len(waitWays) || len(c.of(EventWaitBegan)) != 1 {
			t.Errorf("told of %d and %d waits that began", n, len(c.of(EventWaitBegan)))
		}
	})
}

// TestReachEventsOfAPermit: those who wait in the process for their turn to ask the server are told of too, each with one wait.
func TestReachEventsOfAPermit(t *testing.T) {
	onReachWorlds(t, func(t *testing.T, s reachWorld) {
		const readers = 6
		var l eventLog
		a, b := s.process(LockReaders(readers)), s.process(LockTimeout(time.Minute), LockReaders(readers), Observe(l.add))
		unlock := holdIn(t, a, "u")
		done := make(chan error, readers)
		for range readers {
			go func() { done <- waitWays[0].do(asReachUser("u"), b) }()
		}
		count := func(k EventKind) (n int) {
			for _, e := range l.of(k) {
				if e.What == "process" {
					n++
				}
			}
			return n
		}
		waitFor(t, func() bool { return count(EventWaitBegan) == readers })
		unlock()
		for range readers {
			must(t, <-done)
		}
		waitFor(t, func() bool { return count(EventWaitEnded) == readers })
		for _, e := range l.of(EventWaitEnded) {
			if e.What == "process" && e.Outcome != OutcomeGranted {
				t.Errorf("told %+v", e)
			}
		}
		if n := count(EventWaitBegan); n != readers {
			t.Errorf("told of %d waits that began", n)
		}
	})
}
