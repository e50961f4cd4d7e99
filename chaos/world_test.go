package chaos

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/testdb"
)

const (
	users   = 4 // few, so that requests meet
	workers = 16
)

// connections are the limits of the handles: fewer than the workers could use, so
// that they wait for each other's there too.
var connections = [...]int{2, 4, 6}

const handles = len(connections)

// testContext is beneath everything: nothing in the test ends it.
var testContext = context.Background()

// errBroken makes database/sql throw a connection away.
var errBroken = driver.ErrBadConn

// A world is a database with its handles, and what watches over it.
type world struct {
	t       testing.TB
	engine  *engine
	dsn     string
	server  *testdb.PrivateServer // nil on SQLite
	rng     *rand.Rand            // of the test's own goroutine
	locking bool

	history *history
	monitor *monitor
	calls   *calls

	open   [handles]atomic.Pointer[sql.DB]
	closed []*sql.DB // in this round

	mu         sync.Mutex // guards violations
	violations []string
	sum        certainty
	faults     map[string]int
	combined   int64 // calls, of handles that were closed
}

func newWorld(t testing.TB, e *engine, seed uint64, locking bool) *world {
	w := &world{
		t:       t,
		engine:  e,
		rng:     rand.New(rand.NewPCG(seed, 0)),
		locking: locking,
		history: newHistory(grace || e.waits),
		monitor: newMonitor(),
		calls:   newCalls(e.allowed),
		faults:  make(map[string]int),
	}
	w.dsn, w.server = e.open(t)
	db := w.newHandle(lockTimeout, 1)
	defer db.Close()
	for _, statement := range e.schema() {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	for i := range w.open {
		w.open[i].Store(w.newHandle(lockTimeout, connections[i]))
	}
	t.Cleanup(w.close)
	return w
}

// newHandle opens the database through dblocker.
func (w *world) newHandle(lockTimeout time.Duration, connections int) *sql.DB {
	db, err := sql.Open("dblocker", fmt.Sprintf("%s?lock_timeout=%v&self_wait=1s&max_open_conns=%d%s:%s", w.engine.driver, lockTimeout, connections, w.engine.options, w.dsn))
	if err != nil {
		w.t.Fatal(err)
	}
	return db
}

func (w *world) handle(rng *rand.Rand) *sql.DB { return w.open[rng.IntN(handles)].Load() }

func (w *world) close() {
	for i := range w.open {
		w.calls.do("DB.Close", w.open[i].Load().Close)
	}
	for _, v := range w.calls.take() {
		w.t.Error(v)
	}
}

func (w *world) violate(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

// round lets the requests come for a while, with faults if there are to be any, and
// returns what was wrong.
func (w *world) round(seed uint64, d time.Duration, faults bool) []string {
	w.audit()
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		var wg sync.WaitGroup
		for worker := range workers {
			rng := rand.New(rand.NewPCG(seed, uint64(worker+1)))
			wg.Go(func() {
				for !stop.Load() {
					w.serve(rng)
				}
			})
		}
		wg.Wait()
	}()
	w.disturb(d, faults)
	stop.Store(true)
	w.await(done)
	w.rest()
	w.audit() // with every lock free, no write is to come
	j := w.readJournal()
	w.audit() // and now the registers show all that is in the journal
	return w.verdict(j)
}

// await waits until the requests have ended, which they do unless one hangs.
func (w *world) await(done chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(100 * time.Millisecond):
		}
		if late := w.calls.overdue(); len(late) > 0 {
			stacks := make([]byte, 4<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			w.t.Fatalf("hanging: %s\n%s", strings.Join(late, "; "), stacks)
		}
	}
}

// settle is how long the ends that contexts bring about may take in the background,
// after the last request.
const settle = graceTime + slack

// rest waits until no connection is in use.
func (w *world) rest() {
	deadline := time.Now().Add(settle)
	all := w.closed
	for i := range w.open {
		all = append(all, w.open[i].Load())
	}
	w.closed = nil
	for _, db := range all {
		for db.Stats().InUse > 0 {
			if time.Now().After(deadline) {
				w.violate("%d connections are in use with nobody at work", db.Stats().InUse)
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// audit finds every user's lock free, and notes the state of the registers for the
// history: nobody is at work.
func (w *world) audit() {
	db := w.newHandle(0, 1)
	defer db.Close()
	for user := range users {
		if err := w.inspect(db, user); err != nil {
			w.violate("the register of user %d cannot be read with nobody at work: %v", user, err)
		}
	}
}

func (w *world) inspect(db *sql.DB, user int) error {
	o := w.history.begin(user, "audit", false)
	defer w.history.finish(o)
	tx, err := w.beginFree(db, user)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var reg register
	rows, err := tx.Query(readQuery(user))
	if err != nil {
		return err
	}
	if err := only(rows, &reg); err != nil {
		return err
	}
	o.see(reg, w.history.now())
	return nil
}

// beginFree takes the lock of a user without waiting for it. A lock is still held
// for a while if the server has to end a cancelled statement first.
func (w *world) beginFree(db *sql.DB, user int) (*sql.Tx, error) {
	ctx := dblocker.WithUser(testContext, fmt.Sprint(user))
	for deadline := time.Now().Add(settle); ; time.Sleep(10 * time.Millisecond) {
		tx, err := db.BeginTx(ctx, nil)
		if err == nil || !errors.Is(err, dblocker.ErrLockTimeout) || time.Now().After(deadline) {
			return tx, err
		}
	}
}

// readJournal returns the IDs of the writes that have taken effect since the last
// time.
func (w *world) readJournal() journal {
	db := w.newHandle(lockTimeout, 1)
	defer db.Close()
	ids, err := column[string](db, "SELECT id FROM journal")
	if err != nil {
		w.t.Fatal(err)
	}
	// What is entered in this moment, by a write that comes late, stays for the next.
	if _, err := db.Exec("DELETE FROM journal WHERE id IN ('" + strings.Join(ids, "', '") + "')"); err != nil {
		w.t.Fatal(err)
	}
	return journal{ids, w.history.now()}
}

// verdict is what all who watch have to say about a round.
func (w *world) verdict(j journal) []string {
	violations, sum := w.history.judge(j)
	w.sum.add(sum)
	w.mu.Lock()
	defer w.mu.Unlock()
	violations = append(violations, w.violations...)
	w.violations = nil
	violations = append(violations, w.monitor.take()...)
	return append(violations, w.calls.take()...)
}

// report says how much has been tried.
// countCombined counts the calls that were combined on a handle.
func (w *world) countCombined(db *sql.DB) {
	if stats, err := dblocker.Stats(db); err == nil {
		w.combined += stats.Combined
	}
}

func (w *world) report() {
	ended, longest := w.calls.counts()
	w.t.Logf("certain: %d reads, %d writes, %d writes without an answer that had taken effect; %d more without one and without effect; %d critical sections",
		w.sum.reads, w.sum.writes, w.sum.resolved, w.sum.dropped, w.monitor.entered)
	for i := range w.open {
		w.countCombined(w.open[i].Load())
	}
	if w.combined > 0 {
		w.t.Logf("%d calls were combined", w.combined)
	}
	w.t.Logf("calls: %v; the longest took %v; faults: %v", ended, longest.Round(time.Millisecond), w.faults)
}
