package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// Where many write to one SQLite file, whoever has the gate works for those who wait: it runs their
// statements on its own connection, in one transaction of SQLite's, and answers them after the
// COMMIT. So there is no wake-up between two writes, and one commit, with its sync, serves many.
//
// Nothing of that can be seen by the callers but the speed:
//
//   - Only what any connection of the pool could have run is combined: an Exec of one statement that
//     writes rows, outside of transactions, pinned sections and a sql.Conn (mayRide, noteEntry).
//   - They run in the order of the queue, each under its user's lock, which lasts until after
//     the COMMIT (rwlock.Batch).
//   - A statement that fails has been undone by SQLite, and it alone: its error is its own caller's.
//     The batch ends with it, since the transaction may have ended with it too.
//   - If the COMMIT fails, nothing of the batch was written. Then each statement runs by itself
//     (errAlone), for its own result or error. So it does after a panic, or where the leader cannot go on.
//   - What takes long runs alone, and what has never been run: nobody's answer is to wait for a
//     stranger's long statement.
//
// A lone writer finds nobody who waits, and does nothing of this.

const (
	mostRides   = 64                     // that a leader runs for others
	longestLead = 2 * time.Millisecond   // that it does so, but for the statement that is running then
	fewRides    = 8                      // that are not worth to look whether their callers come back
	longRide    = 500 * time.Microsecond // what takes longer runs alone
)

// errLeadLost says that the leader's connection is lost, and that nothing was done.
var errLeadLost = errors.New("the connection was lost while it was used for others")

// A lead is the work of the one who has the gate for those who wait.
type lead struct {
	c     *conn
	sc    *server.Conn
	gate  *rwlock.Hold // that it has
	user  *rwlock.Hold // of its own user, which may be idle
	batch rwlock.Batch
	rides []*ride
	rest  int       // of the rides that it may take
	now   time.Time // when it has looked last
	until time.Time // it may take any
	stop  bool      // a statement has failed: nothing more in this transaction
	lost  bool      // the connection is: nothing more on it
}

// execAndLead executes the caller's statement, and those of others who wait for the gate.
func (c *conn) execAndLead(ctx context.Context, op *operation, sc *server.Conn, s *stmt, adm *admission) (driver.Result, error) {
	if res, err, led := c.leadWith(op, sc, adm); led {
		return res, err
	}
	start := time.Now()
	res, err := s.execOn(ctx, sc, &adm.Call)
	if err == nil {
		res = server.ReadResult(res)
		c.leadAfter(sc, adm, time.Since(start))
	}
	return res, err
}

// leadWith runs the caller's statement in one transaction with those that wait, on sc. It reports
// false if there are none, or if they could not be run together: then nothing was done.
func (c *conn) leadWith(op *operation, sc *server.Conn, adm *admission) (res driver.Result, err error, led bool) {
	if !adm.mayRide || !c.mayLead(sc, &c.leaf.Gate) || c.paceOf(adm.Query) != short {
		return nil, nil, false
	}
	l := c.newLead(sc, &c.leaf.Gate.Hold, &c.leaf.Lock)
	defer l.abandon()
	if !l.takes() {
		return nil, nil, false
	}
	if err := l.begin(); err != nil {
		return nil, err, sqlite.IsBusy(err) // then its own would have waited in vain as well
	}
	ctx := context.WithoutCancel(op.ctx)
	res, err = l.run(ctx, &adm.Call)
	if !l.stop {
		l.runTaken()
	}
	answered := len(l.rides)
	if !l.commit() {
		if l.lost {
			return nil, errLeadLost, true
		}
		return nil, nil, false
	}
	l.leadOn(answered)
	return res, err, true
}

// leadAfter runs those that wait when the caller's own statement has run by itself, which has taken
// that long. It has had its own sync: if it took long, that does not tell of the statement.
func (c *conn) leadAfter(sc *server.Conn, adm *admission, took time.Duration) {
	if took < longRide {
		c.noteTook(adm.Query, took)
	}
	if !adm.mayRide || !c.mayLead(sc, &c.leaf.Gate) {
		return
	}
	l := c.newLead(sc, &c.leaf.Gate.Hold, &c.leaf.Lock)
	defer l.abandon()
	l.leadOn(0)
}

// leadAfterTx runs those that wait when the transaction has ended on its server connection.
func (t *tx) leadAfterTx() {
	c := t.conn
	if t.called != calledHandle || !c.db.combine || t.outer != nil || t.atGate == nil || !t.ownConn || c.raw != nil || c.bound != nil ||
		!c.mayLead(c.drawn.Conn, &t.atGate.Gate) {
		return
	}
	l := c.newLead(c.drawn.Conn, &t.atGate.Gate.Hold, &t.hold.Lock)
	defer l.abandon()
	l.leadOn(0)
}

// mayLead tells whether one who is at the gate finds others that wait, and may run their statements on sc.
func (c *conn) mayLead(sc *server.Conn, at *gate.Place) bool {
	return at.IsAlone() && c.pool.gate.Writers() > 1 && sc != nil && !sc.HasFailed() && !sc.HasRows() && c.pool.attached.Gates() == nil && sqlite.IsPlain(sc)
}

// pace says what is known of the time that a text takes.
type pace uint8

const (
	unknownPace pace = iota
	short
	long
)

func (c *conn) paceOf(query string) pace {
	t := c.db.texts.Took(query)
	switch {
	case t == nil, t.Load() == 0:
		return unknownPace
	case t.Load() < int64(longRide):
		return short
	}
	return long
}

// noteTook notes how long a text has taken. An hour is for one that is not to be combined.
func (c *conn) noteTook(query string, took time.Duration) {
	if t := c.db.texts.Took(query); t != nil {
		t.Store(int64(max(took, 1)))
	}
}

// newLead is for one who has the gate and, perhaps, a user's lock.
func (c *conn) newLead(sc *server.Conn, gate, user *rwlock.Hold) *lead {
	l := &lead{c: c, sc: sc, gate: gate, user: user, rest: mostRides, now: time.Now()}
	l.until = l.now.Add(longestLead)
	l.batch.Begin(gate, user)
	return l
}

// leadOn runs one transaction after the other, as long as there is somebody who waits, and it may.
// Many who were answered come back at once: they are let run for that, once each time.
func (l *lead) leadOn(answered int) {
	for !l.lost {
		if !l.takes() {
			if answered < fewRides {
				return
			}
			answered = 0
			runtime.Gosched()
			continue
		}
		if l.begin() != nil {
			return
		}
		l.runTaken()
		answered = len(l.rides)
		if !l.commit() {
			return
		}
	}
}

// takes takes the first ride of a transaction.
func (l *lead) takes() bool {
	l.stop, l.now = false, time.Now()
	return l.take(true)
}

// take takes the next ride.
func (l *lead) take(first bool) bool {
	if l.rest == 0 || l.stop || !l.now.Before(l.until) {
		return false
	}
	took := l.batch.Take(func(r any) bool {
		next := r.(*ride)
		if next.pool != l.c.pool {
			return false
		}
		pace := l.c.paceOf(next.call.Query)
		return pace == short || first && pace == unknownPace
	})
	if took == nil {
		return false
	}
	r := took.(*ride)
	r.err = errAlone // unless it runs
	l.rides = append(l.rides, r)
	l.rest--
	return true
}

// begin begins a transaction. If that fails, those that were taken run by themselves.
func (l *lead) begin() error {
	_, err := l.exec(context.Background(), "BEGIN IMMEDIATE")
	if err != nil {
		l.answer(errAlone)
	}
	return err
}

func (l *lead) exec(ctx context.Context, query string) (driver.Result, error) {
	return l.run(ctx, &server.Call{Statement: sqltext.Statement{Multi: true}, Query: query})
}

// runTaken runs the rides that were taken, and those that can be taken as well.
func (l *lead) runTaken() {
	l.now = time.Now()
	for i := 0; i < len(l.rides) && !l.stop; i++ {
		r, start := l.rides[i], l.now
		r.res, r.err = l.run(r.ctx, &r.call)
		l.now = time.Now()
		took := l.now.Sub(start)
		if r.err == errAlone {
			took = time.Hour
		}
		l.c.noteTook(r.call.Query, took)
		if took < longRide {
			l.take(false)
		}
	}
}

// run runs one statement. Any error makes it the last of its transaction; with a panic it is to run by
// itself, for its caller to have that.
func (l *lead) run(ctx context.Context, s *server.Call) (res driver.Result, err error) {
	l.stop, l.lost = true, true // also if the driver ends the goroutine
	err = errAlone
	panicked := server.Contain(l.c.db.logger, func() {
		if res, err = l.sc.Exec(ctx, s); err == nil {
			res = server.ReadResult(res)
		}
	})
	if panicked != nil {
		return nil, errAlone
	}
	l.stop = l.sc.Heed(err) != nil
	l.lost = l.sc.HasFailed() || errors.Is(err, driver.ErrBadConn)
	return res, err
}

// commit ends the transaction, and answers those whose statements it has. If it cannot, nothing was
// written, and it reports false.
func (l *lead) commit() bool {
	if !l.lost {
		if _, err := l.exec(context.Background(), "COMMIT"); err == nil {
			l.answer(nil)
			return true
		}
	}
	l.rollback()
	return false
}

// rollback makes sure that nothing is left of the transaction, before others have the gate.
func (l *lead) rollback() {
	lost := l.lost
	l.exec(context.Background(), "ROLLBACK") // an error if SQLite has done that already
	if lost || l.lost {
		l.lost = true
		l.sc.Fail()
	}
	l.answer(errAlone)
}

// answer answers those that were taken: with their own results, or an error instead.
func (l *lead) answer(err error) {
	stats, alone := &l.c.db.combined, 0
	var left []*ride
	for i, r := range l.rides {
		if err != nil {
			r.res, r.err = nil, err
		}
		if r.err == errAlone {
			alone++
		}
		if r.end() {
			left = append(left, r)
		}
		l.rides[i] = nil
	}
	stats.alone.Add(int64(alone))
	if ran := len(l.rides) - alone; ran > 0 {
		stats.batches.Add(1)
		stats.calls.Add(int64(ran))
	}
	l.rides = l.rides[:0]
	l.batch.End()
	for _, r := range left {
		r.hold.Release()
	}
	l.batch.Begin(l.gate, l.user)
}

// abandon is for a lead that did not come to its end.
func (l *lead) abandon() {
	if len(l.rides) > 0 {
		l.rollback()
	}
}

// combinedStats count what a handle's leads have done.
type combinedStats struct{ batches, calls, alone atomic.Int64 }
