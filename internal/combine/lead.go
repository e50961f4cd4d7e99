// Package combine lets one caller write to a SQLite file for all who wait.
//
// Whoever has the gate of the file runs the statements of those who wait for it, on its own connection, in
// one transaction of SQLite's, and answers them after the COMMIT. So there is no wake-up between two
// writes, and one commit, with its sync, serves many.
//
// Nothing of that can be seen by the callers but the speed:
//
//   - Only what any connection of the pool could have run is combined.
//   - Statements run in the order in which they came, be it to the queue of the gate or to the list of those who
//     wait for the leader only, each under its user's lock, which lasts until after the COMMIT: see list, and rwlock.Batch.
//   - A statement that fails has been undone by SQLite, and it alone: its error is its own caller's.
//     The transaction ends with it, since SQLite may have ended it too.
//   - If the COMMIT fails and nothing of the transaction was written, each statement runs by itself, for
//     its own result or error. So it does after a panic, or where the leader cannot go on. If it may have been written, as
//     after a sync that has failed, each caller has that error, as it would have it of its own commit; also one whose statement has
//     failed, perhaps for what another had done before it.
//   - What takes long runs alone, and what is not known: nobody's answer is to wait for a
//     stranger's long statement. It is the first of a transaction of its own caller's, which tells how
//     long it takes without its COMMIT.
package combine

import (
	"context"
	"database/sql/driver"
	"errors"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
	"github.com/calmdocs/dblocker/internal/walsync"
)

const (
	mostRides = 64                     // that a leader runs for others
	txCommits = 4                      // that one transaction takes rides for as long as
	withSync  = 100 * time.Microsecond // that a commit takes at least that has a sync
	fewRides  = 2                      // that are not worth to look whether their callers come back
)

// An Env is what the leads and rides of one pool of connections have in common.
type Env struct {
	Texts  *sqltext.Cache // which remembers how long they take
	Logger *slog.Logger

	// Longest is how long a leader works for others at most, but for the statement that is running then.
	Longest time.Duration

	// Long is what a statement takes that is not short: such a one runs alone.
	Long time.Duration

	Users   *locks.Table // the users' locks
	Reaches bool         // these reach beyond the process

	// WAL is the log whose sync each caller waits for by itself; nil if commits are left as they are.
	WAL *walsync.Log

	// ToldBatch is told of a transaction in which statements of others ran, and ToldSync of a sync of the WAL for its callers; nil if
	// nobody wants to know. They must not wait.
	ToldBatch func(calls int, took time.Duration)
	ToldSync  walsync.Told

	list    list         // of rides that wait for a leader
	waiting atomic.Int32 // rides that wait in the queue, or are about to
	commits atomic.Int64 // how long a commit has taken of late, in nanoseconds

	// Batches, Calls and Alone count the transactions in which statements of others ran, these, and those
	// that had to run by themselves after all.
	Batches, Calls, Alone atomic.Int64
}

// ErrLost says that the leader's connection is lost, and that nothing was done.
var ErrLost = errors.New("the connection was lost while it was used for others")

// A Lead is the work of the one who has the gate for those who wait. End must be called, in whatever way
// the work ends.
type Lead struct {
	env   *Env
	sc    *server.Conn
	gate  *gate.Place  // that it has for itself
	user  *rwlock.Hold // of its own user, which may be idle
	batch rwlock.Batch
	rides []*Ride
	told  []*Ride   // those of them that are to be told of their end
	rest  int       // of the rides that it may take
	now   time.Time // when it has looked last
	until time.Time // it may take any
	begun time.Time // when the transaction was
	stop  bool      // a statement has failed: nothing more in this transaction
	lost  bool      // the connection is: nothing more on it
	ended bool      // the work has come to its end
}

// Begin begins the work of one who has the gate and, perhaps, a user's lock, on sc.
func (env *Env) Begin(sc *server.Conn, at *gate.Place, user *rwlock.Hold) *Lead {
	l := &Lead{env: env, sc: sc, gate: at, user: user, rest: mostRides, now: time.Now()}
	l.until = l.now.Add(env.Longest)
	l.batch.Begin(&at.Hold, user)
	return l
}

// With runs the caller's own statement, by exec, in one transaction with those that wait, and then goes on. It
// reports false if there are none, or if they could not be run together: then nothing was done.
func (l *Lead) With(ctx context.Context, call *server.Call, exec func(context.Context) (driver.Result, error)) (res driver.Result, err error, led bool) {
	if pace := l.env.paceOf(call.Query); pace == unseen || pace == short && !l.takeFirst() {
		return nil, nil, false
	}
	if err := l.begin(); err != nil {
		return nil, err, sqlite.IsBusy(err) // then its own would have waited in vain as well
	}
	res, err, quick := l.runTimed(call.Query, func() (driver.Result, error) { return exec(ctx) })
	if !l.stop && (len(l.rides) > 0 || quick && l.take()) {
		l.runTaken()
	}
	answered := len(l.rides)
	switch failed := l.commit(); {
	case failed == nil:
		l.goOn(answered)
		return res, err, true
	case err == nil && failed != errUndone:
		return nil, failed, true
	case l.lost:
		return nil, ErrLost, true
	case err != nil: // nothing else was run
		return nil, err, true
	}
	return nil, nil, false
}

// After runs those that wait when the caller's own statement, or transaction, has ended.
func (l *Lead) After() { l.goOn(0) }

// goOn runs one transaction after the other, as long as there is somebody who waits, and it may.
// Many who were answered come back at once: they are let run for that.
func (l *Lead) goOn(answered int) {
	for {
		if answered >= fewRides && l.mayTake() {
			runtime.Gosched()
		}
		if !l.takeFirst() {
			l.ended = true
			return
		}
		if l.begin() != nil {
			return
		}
		l.runTaken()
		answered = len(l.rides)
		if l.commit() != nil {
			return
		}
	}
}

// takeFirst takes the first ride of a transaction.
func (l *Lead) takeFirst() bool {
	l.stop, l.now = false, time.Now()
	return l.take()
}

// mayTake tells whether it may take another ride.
func (l *Lead) mayTake() bool { return l.rest > 0 && !l.stop && !l.lost && l.now.Before(l.until) }

// take takes the next ride.
func (l *Lead) take() bool {
	if !l.mayTake() || len(l.rides) > 0 && l.now.Sub(l.begun) > l.env.longestTx() {
		return false
	}
	r := l.env.list.take(&l.batch, l.env.Users, l.env.isShort, l.now)
	if r == nil {
		r = l.takeQueued()
	}
	if r == nil {
		return false
	}
	r.err = ErrAlone // unless it runs
	l.rides = append(l.rides, r)
	l.rest--
	return true
}

func (l *Lead) takeQueued() *Ride {
	took := l.batch.Take(func(r any) bool {
		next := r.(*Ride)
		return next.env == l.env && l.env.isShort(next)
	}, l.env.reaches())
	if took == nil {
		return nil
	}
	return took.(*Ride)
}

func (env *Env) isShort(r *Ride) bool { return env.paceOf(r.call.Query) == short }

// reaches returns what takes the lock of a ride's user among processes, with that of this process; nil if there is none. One that
// would have to wait for it is left to its caller.
func (env *Env) reaches() func(ride any) bool {
	if !env.Reaches {
		return nil
	}
	return func(ride any) bool { return ride.(*Ride).reach(env.Users) }
}

// begin begins a transaction. If that fails, those that were taken run by themselves.
func (l *Lead) begin() error {
	_, err := l.exec("BEGIN IMMEDIATE")
	l.now = time.Now()
	l.begun = l.now
	if err != nil {
		l.answer(errUndone)
	}
	return err
}

func (l *Lead) exec(query string) (driver.Result, error) {
	call := &server.Call{Statement: sqltext.Statement{Multi: true}, Query: query}
	return l.run(func() (driver.Result, error) { return l.sc.Exec(context.Background(), call) })
}

// runTaken runs the rides that were taken, and those that can be taken as well.
func (l *Lead) runTaken() {
	for i := 0; i < len(l.rides) && !l.stop; i++ {
		r, quick, begun := l.rides[i], false, l.now
		r.res, r.err, quick = l.runTimed(r.call.Query, func() (driver.Result, error) { return l.sc.Exec(r.ctx, &r.call) })
		r.Took = l.now.Sub(begun)
		if quick {
			l.take()
		}
	}
}

// runTimed is run, and notes whether the statement of the text was quick.
func (l *Lead) runTimed(query string, exec func() (driver.Result, error)) (res driver.Result, err error, quick bool) {
	start := l.now
	res, err = l.run(exec)
	l.now = time.Now()
	took := l.now.Sub(start)
	if err == ErrAlone {
		took = never
	}
	l.env.noteTook(query, took)
	return res, err, took < l.env.Long
}

// run runs one statement. Any error makes it the last of its transaction; with a panic it is to run by
// itself, for its caller to have that.
func (l *Lead) run(exec func() (driver.Result, error)) (res driver.Result, err error) {
	l.stop, l.lost = true, true // also if the driver ends the goroutine
	panicked := server.Contain(l.env.Logger, func() {
		if res, err = exec(); err == nil {
			res = server.ReadResult(res)
		}
	})
	if panicked != nil {
		return nil, ErrAlone
	}
	l.stop = l.sc.NoteError(err) != nil
	l.lost = l.sc.HasFailed() || errors.Is(err, driver.ErrBadConn)
	return res, err
}

// errUndone says that nothing of a transaction was written.
var errUndone = errors.New("the transaction is undone")

// commit ends the transaction, and answers those whose statements it has. If it cannot, it returns errUndone, or
// SQLite's error if the transaction may have been written all the same.
func (l *Lead) commit() error {
	failed := errUndone
	if !l.lost {
		start := time.Now()
		_, err := l.exec("COMMIT")
		if err == nil {
			l.env.noteCommit(time.Since(start))
			l.answer(nil)
			return nil
		}
		if err != ErrAlone && !sqlite.IsUndone(err) {
			failed = err
		}
	}
	l.rollback(failed)
	return failed
}

// rollback makes sure that nothing is left of the transaction, before others have the gate.
func (l *Lead) rollback(failed error) {
	lost := l.lost
	l.exec("ROLLBACK") // an error if SQLite has done that already
	if lost || l.lost {
		l.lost = true
		l.sc.Fail()
	}
	l.answer(failed)
}

// answer answers those that were taken: with their own results, or with what has failed instead.
func (l *Lead) answer(failed error) {
	alone, mark := 0, l.env.mark()
	var left []*Ride
	for i, r := range l.rides {
		switch {
		case failed == errUndone:
			r.res, r.err = nil, ErrAlone
		case failed != nil && r.err != ErrAlone: // an error of its own may come from what others did, and is not to be seen either
			r.res, r.err = nil, failed
		}
		if r.err == ErrAlone {
			alone++
		}
		r.Mark = mark
		r.leaveReach()
		if r.end() {
			left = append(left, r)
		} else if r.told != nil {
			l.told = append(l.told, r)
		}
		l.rides[i] = nil
	}
	ran := len(l.rides) - alone
	l.env.count(ran, alone)
	if told := l.env.ToldBatch; told != nil && ran > 0 {
		told(ran, time.Since(l.begun))
	}
	committed := failed == nil && len(l.rides) > 0
	l.rides = l.rides[:0]
	if wal := l.env.WAL; committed && wal != nil {
		tellQueued, told := l.batch.EndLater(), l.told
		l.told = nil
		wal.Notify(mark, ran, l.env.ToldSync, func() { // the callers, who need not be woken before that
			tellQueued()
			tell(told)
		})
	} else {
		l.batch.End()
		tell(l.told)
		clear(l.told)
		l.told = l.told[:0]
	}
	for _, r := range left {
		r.Hold.Release()
	}
	l.batch.Begin(&l.gate.Hold, l.user)
}

// tell tells those of the list that they have been run.
func tell(rides []*Ride) {
	for _, r := range rides {
		r.told <- Rode
	}
}

// longestTx is how long a transaction goes on to take rides: for some commits. That is what they save. More
// would keep those waiting for longer who read what its users have locked.
func (env *Env) longestTx() time.Duration { return txCommits * time.Duration(env.commits.Load()) }

// mark returns the mark of what has been committed by now.
func (env *Env) mark() (m walsync.Mark) {
	if env.WAL != nil {
		m = env.WAL.Mark()
	}
	return m
}

func (env *Env) noteCommit(took time.Duration) {
	old := env.commits.Load()
	env.commits.Store(old + (int64(took)-old)/8)
}

func (env *Env) count(ran, alone int) {
	env.Alone.Add(int64(alone))
	if ran > 0 {
		env.Batches.Add(1)
		env.Calls.Add(int64(ran))
	}
}

// End ends the work, in whatever way it has come to that. Those who were taken and not answered run by themselves. The gate
// goes to the first on the list, unless the leader cannot go on: then it shuts the list when it leaves the gate.
func (l *Lead) End() {
	if len(l.rides) > 0 {
		l.rollback(errUndone)
	}
	if l.ended && !l.lost && !l.sc.HasFailed() {
		l.env.list.end(&l.batch, l.gate, l.env.Users)
	}
}
