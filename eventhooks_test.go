package dblocker

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/calmdocs/dblocker/internal/fakedriver"
	"github.com/calmdocs/dblocker/internal/testdb"
)

// TestObserverThatNeverReturns: calls, releases and Close go on beside it. Of what it does not get it is told how much, and the log that it
// does not keep up.
func TestObserverThatNeverReturns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log syncBuffer
		forever := make(chan struct{})
		var l eventLog
		var told, dropped int64
		db := openStub(t, &stub{}, Logger(textLogger(&log)), Observe(func(e Event) {
			<-forever
			told++
			dropped += e.Dropped
		}, everyCall...), l.option())
		start := time.Now()
		_, unlock := beginTest(t, Lock, asUser(1), db)
		waits := make(chan error, 1)
		go func() { waits <- execAs(db, asUser(1)) }()
		synctest.Wait()
		for range 10_000 {
			must(t, execAs(db, asUser(2)))
		}
		unlock()
		must(t, <-waits)
		must(t, db.Close())
		if took := time.Since(start); took != 0 {
			t.Errorf("the calls took %v beside a function that does not return", took)
		}
		synctest.Wait()
		if n := strings.Count(log.String(), "does not keep up"); n != 1 {
			t.Errorf("%d lines say that it does not keep up, want 1:\n%s", n, log.String())
		}
		close(forever)
		synctest.Wait()
		if told > 8192+1 || len(l.events) < 20_000 {
			t.Errorf("one that does not return was told of %d events, another one of %d", told, len(l.events))
		}
	})
}

// TestObserverOfManyWaiters: with 10,000 that wait, and a function that is slower than they, each event is told or counted.
func TestObserverOfManyWaiters(t *testing.T) {
	bubble(t, func(t *testing.T) {
		waiters := int64(10_000)
		if testdb.UnderRace() {
			waiters /= 2
		}
		var told, dropped, ended int64
		db := openStub(t, &stub{}, Logger(textLogger(io.Discard)), Observe(func(e Event) {
			told++
			dropped += e.Dropped
			if e.Kind == EventWaitEnded {
				ended++
			}
			time.Sleep(time.Millisecond)
		}))
		_, unlock := beginTest(t, Lock, asUser(1), db)
		start := time.Now()
		var all sync.WaitGroup
		for range waiters {
			all.Go(func() {
				if err := execAs(db, asUser(1)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		unlock()
		all.Wait()
		if took := time.Since(start); took > time.Second {
			t.Errorf("the calls took %v beside a slow function", took)
		}
		time.Sleep(time.Minute)
		_, unlock = beginTest(t, Lock, asUser(2), db) // a wait more, so that the last of those that were dropped are told of
		all.Go(func() { execAs(db, asUser(2)) })
		synctest.Wait()
		unlock()
		all.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		if sum := told + dropped; sum < 2*waiters || sum > 2*waiters+10 || ended == 0 {
			t.Errorf("%d events told and %d dropped, want %d in all", told, dropped, 2*waiters)
		}
	})
}

// TestObserverCallsBack: the function may use the handle with the context of the call that it is told of, which is the same request then.
func TestObserverCallsBack(t *testing.T) {
	for name, cancelled := range map[string]bool{"": false, "that is done": true} {
		t.Run("with a context "+name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var db *sql.DB
				calls := 0
				results := make(chan error, 2)
				db = openStub(t, &stub{}, Observe(func(e Event) {
					if e.Kind != EventWaitBegan && e.Kind != EventWaitEnded {
						return
					}
					if calls++; calls <= 2 { // its own calls wait too, which it is told of
						results <- execAs(db, e.Context)
					}
				}))
				tx, err := db.BeginTx(asUser(1), nil)
				must(t, err)
				ctx, cancel := context.WithCancel(asUser(1))
				defer cancel()
				waits := make(chan error, 1)
				go func() { waits <- execAs(db, ctx) }()
				synctest.Wait() // both wait
				must(t, execAs(db, asUser(2)))
				if cancelled {
					cancel()
				} else {
					must(t, tx.Commit())
				}
				for _, err := range []error{<-waits, <-results, <-results} {
					if (err == nil) == cancelled {
						t.Errorf("a call has ended with %v", err)
					}
				}
				tx.Rollback()
			})
		})
	}
}

// TestObserverClosesTheHandle that it is told of, in the midst of a wait.
func TestObserverClosesTheHandle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db *sql.DB
		closed := make(chan error, 1)
		db = openStub(t, &stub{}, Observe(func(e Event) {
			if e.Kind == EventWaitBegan {
				closed <- db.Close()
			}
		}))
		tx, err := db.BeginTx(asUser(1), nil)
		must(t, err)
		waits := make(chan error, 1)
		go func() { waits <- execAs(db, asUser(1)) }()
		if err := <-waits; err == nil || !strings.Contains(err.Error(), "database is closed") {
			t.Errorf("got %v, want that the database is closed", err)
		}
		tx.Rollback()
		must(t, <-closed)
	})
}

// TestObserverThatLooks: what the function learns from Holds and Stats, whatever it is told of, causes no further event: a connection that Holds opens, to ask
// who else has a lock, is not one of the pool.
func TestObserverThatLooks(t *testing.T) {
	for name, opts := range map[string][]Option{
		"a pool":            {MaxOpenConns(4)},
		"no limit":          nil,
		"no idle ones":      {MaxIdleConns(0)},
		"all in use":        {MaxOpenConns(1)},
		"none kept, in use": {MaxOpenConns(1), MaxIdleConns(0)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				server := fakedriver.NewServer(fakedriver.Full())
				looks := 0
				var db *sql.DB
				c, err := NewConnector(server.Connector(), append(opts, Dialect("generic"), Logger(textLogger(io.Discard)), Observe(func(e Event) {
					if looks++; looks > 100 {
						return
					}
					_, err := Holds(db)
					_, err2 := Stats(db)
					if err := errors.Join(err, err2); err != nil && e.Kind != EventConnClosed {
						t.Errorf("%s: %v", e.Kind, err)
					}
				}, everyCall...))...)
				must(t, err)
				reachByFake(c, &fakeLocks)
				db = sql.OpenDB(c)
				_, err = Holds(db) // before there is any connection
				must(t, err)
				tx, err := db.BeginTx(asUser(1), nil)
				must(t, err)
				synctest.Wait()
				waits := make(chan error, 1)
				go func() { waits <- execAs(db, asUser(1)) }()
				synctest.Wait()
				must(t, tx.Commit())
				must(t, <-waits)
				synctest.Wait()
				must(t, db.Close())
				synctest.Wait()
				if looks > 30 {
					t.Errorf("a wait and some connections were told as %d events", looks)
				}
				if n := server.Open(); n != 0 {
					t.Errorf("%d connections are left open", n)
				}
			})
		})
	}
}
