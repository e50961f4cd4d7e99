package dblocker

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/calmdocs/dblocker/internal/fakedriver"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/testdb"
)

var errInjected = errors.New("the fault")

// injectedFaults are what can go wrong in a call of the inner driver.
var injectedFaults = []struct {
	name    string
	unwinds bool
	inject  func(a *attempt) error
}{
	{"panic", true, func(*attempt) error { panic(errInjected) }},
	{"Goexit", true, func(*attempt) error { runtime.Goexit(); return nil }},
	{"error", false, func(*attempt) error { return errInjected }},
	{"bad connection", false, func(*attempt) error { return driver.ErrBadConn }},
	{"end of the context", false, func(a *attempt) error { a.cancel(); return nil }},
}

// injectedEngines are the ways in which an engine makes a difference to what a call holds.
var injectedEngines = []struct {
	name    string
	dialect string
	journal string
	shape   fakedriver.Shape
	locks   *server.Locks // that reach beyond the process; nil if they do not
}{
	{"generic", "generic", "", fakedriver.Shape{}, nil},
	{"generic, all interfaces", "generic", "", fakedriver.Full(), nil},
	{"sqlite, WAL", "sqlite", "wal", fakedriver.Full(), nil},
	{"sqlite, delete", "sqlite", "delete", fakedriver.Shape{Conn: fakedriver.ExecerContext | fakedriver.QueryerContext}, nil},
	{"postgres", "postgres", "", fakedriver.Full(), nil},
	{"mysql", "mysql", "", fakedriver.Full(), nil},
	{"locks beyond the process", "generic", "", fakedriver.Full(), &fakeLocks},
	{"locks of transactions", "postgres", "", fakedriver.Full(), &fakeLocksOfTx},
}

// An attempt is one run of a script, with a fault in one call of the driver.
type attempt struct {
	server *fakedriver.Server
	c      *Connector
	db     *sql.DB
	work   *sql.DB         // that the script works on: db, or one of a Store
	ctx    context.Context // of user 1
	cancel context.CancelFunc
	calls  atomic.Int64
	seen   *eventLog     // what the handle tells; nil if nobody observes it
	over   atomic.Bool   // there are no more faults
	done   chan struct{} // closed when the script has ended, however
}

// call is where a function of the program is called, which can go wrong as the driver's can.
func (a *attempt) call() error { return a.server.Hook(0, "the program") }

// observe is told what happens on the handle, and looks around as a program may. In that too there may be the fault.
func (a *attempt) observe(e Event) {
	a.seen.add(e)
	if e.Kind != EventHoldEnded && e.Kind != EventOperationEnded && !a.over.Load() {
		Holds(a.db)
		Stats(a.db)
	}
}

// untold returns what was told to begin, and not to end, or the other way round; "" if nothing was.
func (a *attempt) untold() string {
	if a.seen == nil {
		return ""
	}
	a.seen.mu.Lock()
	defer a.seen.mu.Unlock()
	waits := make(map[int64]Event)
	open := make(map[EventKind]int) // by what begins it
	for _, e := range a.seen.events {
		switch e.Kind {
		case EventWaitBegan:
			waits[e.Wait] = e
		case EventWaitEnded:
			if _, began := waits[e.Wait]; !began {
				return fmt.Sprintf("a wait has ended that has not begun: %+v", e)
			}
			delete(waits, e.Wait)
		case EventConnOpened, EventDatabaseOpened, EventSessionLost:
			if e.Err == nil {
				open[e.Kind]++
			}
		case EventConnClosed:
			open[EventConnOpened]--
		case EventDatabaseEvicted:
			open[EventDatabaseOpened]--
		case EventSessionEnded:
			open[EventSessionLost]--
		}
	}
	for _, e := range waits {
		return fmt.Sprintf("a wait has begun that has not ended: %+v", e)
	}
	for kind, n := range open {
		if n != 0 {
			return fmt.Sprintf("%d more events %s than of the end of that", n, kind)
		}
	}
	return ""
}

// use does of the usual work with one querier what comes first.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

func (a *attempt) write(q querier) error {
	res, err := q.ExecContext(a.ctx, "UPDATE t SET v = ?", 1)
	if err == nil {
		_, err = res.RowsAffected()
	}
	return err
}

func (a *attempt) read(q querier, query string) error {
	rows, err := q.QueryContext(a.ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	return readRows(rows)
}

func readRows(rows *sql.Rows) error {
	for {
		types, err := rows.ColumnTypes()
		if err != nil {
			return err
		}
		dest := []any{new(any), new(any)}[:len(types)]
		for rows.Next() {
			if err := rows.Scan(dest...); err != nil {
				return err
			}
		}
		if !rows.NextResultSet() {
			return rows.Err()
		}
	}
}

// leave opens rows, and leaves them so.
func (a *attempt) leave(ctx context.Context, q querier) error {
	rows, err := q.QueryContext(ctx, "SELECT v FROM t")
	if err == nil {
		rows.Next()
	}
	return err
}

func (a *attempt) prepare(q querier) error {
	stmt, err := q.PrepareContext(a.ctx, "UPDATE t SET v = ?")
	if err != nil {
		return err
	}
	defer stmt.Close()
	for range 2 {
		if _, err := stmt.ExecContext(a.ctx, 1); err != nil {
			return err
		}
	}
	rows, err := stmt.QueryContext(a.ctx, 1)
	if err != nil {
		return err
	}
	defer rows.Close()
	return readRows(rows)
}

func (a *attempt) inTx(begin func() (*sql.Tx, error), end func(*sql.Tx) error) error {
	tx, err := begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return errors.Join(a.write(tx), a.read(tx, "SELECT v FROM t"), a.prepare(tx), a.leave(a.ctx, tx), end(tx))
}

func (a *attempt) begin() (*sql.Tx, error) { return a.work.BeginTx(a.ctx, nil) }

// inSection runs f inside a section, which is ended also if f panics.
func (a *attempt) inSection(begin func() (context.Context, func(), error), f func() error) error {
	outer := a.ctx
	ctx, unlock, err := begin()
	if err != nil {
		return err
	}
	defer unlock()
	a.ctx = ctx
	defer func() { a.ctx = outer }()
	return f()
}

func (a *attempt) onConn(f func(*sql.Conn) error) error {
	conn, err := a.work.Conn(a.ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return f(conn)
}

// all does everything on the handle, and leaves something open.
func (a *attempt) all() error {
	return errors.Join(a.write(a.work), a.read(a.work, "SELECT v FROM t"), a.prepare(a.work), a.inTx(a.begin, (*sql.Tx).Commit), a.leaveOpen())
}

func (a *attempt) leaveOpen() error {
	err := a.leave(a.ctx, a.work)
	tx, err2 := a.work.BeginTx(a.ctx, nil)
	if err2 == nil {
		err2 = errors.Join(a.write(tx), a.leave(a.ctx, tx))
	}
	return errors.Join(err, err2)
}

var injectedScripts = []struct {
	name string
	run  func(a *attempt) error
}{
	{"Exec", func(a *attempt) error { return a.write(a.work) }},
	{"Query", func(a *attempt) error { return a.read(a.work, "SELECT v FROM t") }},
	{"Query that writes", func(a *attempt) error { return a.read(a.work, "INSERT INTO t VALUES (1) RETURNING v") }},
	{"the same text again", func(a *attempt) error {
		var errs []error
		for range 3 {
			errs = append(errs, a.write(a.work), a.read(a.work, "SELECT v FROM t"))
		}
		return errors.Join(errs...)
	}},
	{"Prepare", func(a *attempt) error { return a.prepare(a.work) }},
	{"Ping", func(a *attempt) error { return a.work.PingContext(a.ctx) }},
	{"Tx", func(a *attempt) error { return a.inTx(a.begin, (*sql.Tx).Commit) }},
	{"Tx that is rolled back", func(a *attempt) error { return a.inTx(a.begin, (*sql.Tx).Rollback) }},
	{"Tx that only reads", func(a *attempt) error {
		tx, err := a.work.BeginTx(a.ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil && strings.HasPrefix(err.Error(), "sql: driver does not support") {
			return nil
		} else if err != nil {
			return err
		}
		defer tx.Rollback()
		return errors.Join(a.read(tx, "SELECT v FROM t"), a.leave(a.ctx, tx), tx.Commit())
	}},
	{"untagged Tx that a user joins", func(a *attempt) error {
		return a.inTx(func() (*sql.Tx, error) { return a.work.BeginTx(WithUser(context.Background(), 2), nil) }, (*sql.Tx).Commit)
	}},
	{"transaction in SQL", func(a *attempt) error {
		return a.onConn(func(conn *sql.Conn) error {
			defer conn.ExecContext(context.Background(), "ROLLBACK")
			for _, text := range []string{"BEGIN", "UPDATE t SET v = 1", "COMMIT", "BEGIN", "ROLLBACK"} {
				if _, err := conn.ExecContext(a.ctx, text); err != nil {
					return err
				}
			}
			return a.read(conn, "BEGIN")
		})
	}},
	{"Conn", func(a *attempt) error {
		return a.onConn(func(conn *sql.Conn) error {
			err := conn.Raw(func(dc any) error { return dc.(RawConn).Raw(func(any) error { return a.call() }) })
			return errors.Join(err, a.write(conn), a.read(conn, "SELECT v FROM t"), a.prepare(conn),
				a.inTx(func() (*sql.Tx, error) { return conn.BeginTx(a.ctx, nil) }, (*sql.Tx).Commit))
		})
	}},
	{"journal mode", func(a *attempt) error {
		_, err := a.work.ExecContext(a.ctx, "PRAGMA journal_mode = TRUNCATE")
		return errors.Join(err, a.read(a.work, "PRAGMA journal_mode = WAL"), a.read(a.work, "SELECT v FROM t"))
	}},
	{"spill", func(a *attempt) error {
		other, err := a.work.QueryContext(asUser(1), "SELECT v FROM t")
		if err != nil {
			return err
		}
		defer other.Close()
		rows, err := a.work.QueryContext(a.ctx, "SELECT v FROM t")
		if err != nil {
			return err
		}
		defer rows.Close()
		rows.Next()
		go closeSoon(other)
		return errors.Join(a.write(a.work), readRows(rows))
	}},
	{"Lock", func(a *attempt) error {
		return a.inSection(func() (context.Context, func(), error) { return Lock(a.ctx, a.work) }, a.all)
	}},
	{"RLock", func(a *attempt) error {
		return a.inSection(func() (context.Context, func(), error) { return RLock(a.ctx, a.work) }, func() error {
			return errors.Join(a.read(a.work, "SELECT v FROM t"), a.leave(a.ctx, a.work))
		})
	}},
	{"pinned section", func(a *attempt) error {
		return a.inSection(func() (context.Context, func(), error) { return Lock(a.ctx, a.work, Pin()) }, func() error {
			return errors.Join(a.write(a.work), a.read(a.work, "SELECT v FROM t"), a.prepare(a.work), a.inTx(a.begin, (*sql.Tx).Commit))
		})
	}},
	{"pinned section that leaves a Tx", func(a *attempt) error {
		return a.inSection(func() (context.Context, func(), error) { return Lock(a.ctx, a.work, Pin()) }, a.leaveOpen)
	}},
	{"nested sections", func(a *attempt) error {
		return a.inSection(func() (context.Context, func(), error) { return Lock(a.ctx, a.work) }, func() error {
			return a.inSection(func() (context.Context, func(), error) { return Lock(WithUser(a.ctx, 2), a.work) }, a.leaveOpen)
		})
	}},
	{"section with another user's rows in the way", func(a *attempt) error {
		other, err := a.work.QueryContext(asUser(2), "SELECT v FROM t")
		if err != nil {
			return err
		}
		defer other.Close()
		return a.inSection(func() (context.Context, func(), error) { return Lock(a.ctx, a.work) }, func() error {
			ctx := WithUser(a.ctx, 2)
			if err := a.leave(ctx, a.work); err != nil {
				return err
			}
			go closeSoon(other)
			_, unlock, err := Lock(ctx, a.work)
			unlock()
			_, err2 := a.work.ExecContext(ctx, "UPDATE t SET v = 1")
			return errors.Join(err, err2)
		})
	}},
	{"LockAll", func(a *attempt) error {
		return a.inSection(func() (context.Context, func(), error) { return LockAll(a.ctx, a.work) }, a.leaveOpen)
	}},
	{"LockUsers", func(a *attempt) error {
		return a.inSection(func() (context.Context, func(), error) { return LockUsers(a.ctx, a.work, 1, 2) }, a.leaveOpen)
	}},
	{"Do", func(a *attempt) error {
		return Do(a.ctx, a.work, func(ctx context.Context) error {
			_, err := a.work.ExecContext(ctx, "UPDATE t SET v = 1")
			return errors.Join(err, a.call())
		})
	}},
	{"handle of a Store", func(a *attempt) error {
		s := &Store{own: newStoreDB(a.c, a.db, "sqlite3"), done: make(chan struct{}), live: make(map[*section]struct{})}
		cancel, db, err := s.RWGetDB(1, a.ctx, "test")
		defer cancel()
		if err != nil {
			return err
		}
		a.work = db.DB
		return a.all()
	}},
}

// TestEveryFaultEverywhere runs scripts, as programs are, with a fault of each kind in each call of
// the inner driver; every fourth on a handle that is observed. Whatever comes of it, afterwards no lock is left, nor a count at the
// gate, nor a server connection in use, and all can be had again. Whatever was told to begin was told to end.
func TestEveryFaultEverywhere(t *testing.T) {
	if !isInProcessOfItsOwn(t) {
		return
	}
	for e, engine := range injectedEngines {
		for i, script := range injectedScripts {
			if testdb.UnderRace() && (i+e)%len(injectedEngines) != 0 {
				continue // it takes ten times as long; each script is run with one engine, and without the detector with all
			}
			t.Run(engine.name+"/"+script.name, func(t *testing.T) {
				t.Parallel()
				run := func(observed bool, fault func(a *attempt) error, at int64) *attempt {
					server := fakedriver.NewServer(engine.shape)
					server.OneTx = true
					server.Values = map[string]string{"PRAGMA journal_mode": engine.journal, "PRAGMA query_only": "0", "PRAGMA page_count": "1"}
					return runAttempt(t, server, engine.dialect, engine.locks, script.run, observed, fault, at)
				}
				fine := run(false, nil, 0)
				<-fine.done
				n := fine.calls.Load()
				if left := fine.left(); left != "" {
					t.Fatalf("without a fault: %s", left)
				}
				var wg sync.WaitGroup
				atOnce := make(chan struct{}, 16)
				for f, fault := range injectedFaults {
					for at := int64(1); at <= n; at++ {
						if !fault.unwinds && at%3 != int64(i)%3 {
							continue // TestEveryFault has these too
						}
						atOnce <- struct{}{}
						wg.Go(func() {
							defer func() { <-atOnce }()
							a := run((at+int64(f))%4 == 0, fault.inject, at)
							if left := a.left(); left != "" {
								t.Errorf("%s in call %d, %s: %s", fault.name, at, callOf(a, at), left)
							}
						})
					}
				}
				wg.Wait()
			})
		}
	}
	t.Cleanup(func() {
		if left := soon(goroutinesOfOurs); left != "" {
			t.Errorf("goroutines are left: %s", left)
		}
	})
}

// isInProcessOfItsOwn tells whether the test is alone in its process. If not, it runs the test in another one and fails as that
// does. A driver that panics or exits leaves goroutines of database/sql that wait for its locks for ever: by the thousand they
// would make all tests slow that come after.
func isInProcessOfItsOwn(t *testing.T) bool {
	const alone = "DBLOCKER_TEST_ALONE"
	if os.Getenv(alone) == t.Name() {
		return true
	}
	cmd := osexec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), alone+"="+t.Name())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return false
}

// goroutinesOfOurs returns the stacks of the goroutines that the package has started, or the
// first of them.
func goroutinesOfOurs() string {
	stacks := make([]byte, 1<<24)
	for _, stack := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		_, origin, _ := strings.Cut(stack, "created by github.com/calmdocs/dblocker.")
		if origin != "" && !strings.Contains(origin, "_test.go") {
			return stack
		}
	}
	return ""
}

func callOf(a *attempt, at int64) string {
	if calls := a.server.Calls(); int(at) <= len(calls) {
		return calls[at-1]
	}
	return "which was not reached"
}

func runAttempt(t *testing.T, server *fakedriver.Server, dialect string, locks *server.Locks, script func(*attempt) error, observed bool, fault func(*attempt) error, at int64) *attempt {
	a := &attempt{server: server, done: make(chan struct{})}
	server.Hook = func(int, string) error {
		if n := a.calls.Add(1); n == at && !a.over.Load() {
			return fault(a)
		}
		return nil
	}
	opts := []Option{Dialect(dialect), MaxOpenConns(4), LockTimeout(20 * time.Second), Logger(textLogger(io.Discard))}
	if observed {
		a.seen = new(eventLog)
		opts = append(opts, Observe(a.observe, everyCall...))
	}
	c, err := NewConnector(server.Connector(), opts...)
	must(t, err)
	reachByFake(c, locks)
	a.c, a.db = c, sql.OpenDB(c)
	a.work = a.db
	a.ctx, a.cancel = context.WithCancel(asUser(1))
	go func() {
		defer close(a.done)
		defer func() { recover() }()
		if err := script(a); err != nil && fault == nil {
			t.Errorf("without a fault: %v", err)
		}
	}()
	return a
}

// left waits for the end of the attempt, and returns what is left of it; "" if nothing is.
func (a *attempt) left() (left string) {
	select {
	case <-a.done:
	case <-time.After(30 * time.Millisecond): // perhaps database/sql keeps it for ever; then the request ends
	}
	a.cancel()
	a.over.Store(true)
	b := backendIn(a.c)
	if b == nil { // the script needed none
		a.db.Close()
		return ""
	}
	if left := soon(a.inUse); left != "" {
		return left
	}
	if left := a.tryAgain(); left != "" {
		return left
	}
	closed := make(chan struct{})
	go func() { a.db.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(patience):
		return "Close hangs"
	}
	return soon(func() string {
		if refs, open := b.Database.InUse(), a.server.Open(); refs != 0 || open != 0 {
			return fmt.Sprintf("after Close there are %d references to the locks and %d connections", refs, open)
		}
		return a.untold()
	})
}

// patience is for what has to come soon, on a machine that is busy.
const patience = 10 * time.Second

// soon returns what look finds, once it finds nothing, or has done so for long.
func soon(look func() string) (left string) {
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Microsecond) {
		if left = look(); left == "" || time.Now().After(deadline) {
			return left
		}
	}
}

// inUse returns which locks, counts and connections are in use.
func (a *attempt) inUse() string {
	left := locksInUse(backendIn(a.c), a.server.Open())
	if n := a.server.Locks(); n != 0 {
		left += fmt.Sprintf(" locks of the server: %d", n)
	}
	return left
}

// tryAgain does what a next request may.
func (a *attempt) tryAgain() (left string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	again := make(chan error, 1)
	go func() {
		again <- errors.Join(
			second(a.db.ExecContext(WithUser(ctx, 1), "UPDATE t SET v = 1")),
			second(a.db.ExecContext(WithUser(ctx, 2), "UPDATE t SET v = 1")),
			lockAllOnce(ctx, a.db),
			a.drawAll(ctx))
	}()
	select {
	case err := <-again:
		if err != nil {
			return err.Error()
		}
		return soon(a.inUse)
	case <-time.After(2 * patience):
		return "the next request hangs"
	}
}

func lockAllOnce(ctx context.Context, db *sql.DB) error {
	_, unlock, err := LockAll(ctx, db)
	unlock()
	return err
}

// drawAll draws as many connections as there may be.
func (a *attempt) drawAll(ctx context.Context) error {
	for user := range a.c.limits.MaxOpenConns {
		rows, err := a.db.QueryContext(WithUser(ctx, 100+user), "SELECT v FROM t")
		if err != nil {
			return err
		}
		defer rows.Close()
	}
	return nil
}

// closeSoon closes rows that others wait for. The fault may be there.
func closeSoon(rows *sql.Rows) {
	defer func() { recover() }()
	time.Sleep(time.Millisecond)
	rows.Close()
}
