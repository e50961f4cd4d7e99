package dblocker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/bytelock"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/server"
)

// A call that has its user's lock of this process asks the server for the engine's. If it has to wait there, that takes a connection. So
// who has a permit for that asks with all the time that is left of lock_timeout; who has none only tries. If that is in vain, the connection
// goes back, the call waits for a permit in the process, draws again, and asks again. See scope.Permit.

// A reachWait is the wait of one call for locks that reach beyond the process, with all its parts, which share one
// lock_timeout: for the lock of the process, for a permit, and at the server. Whoever has the connection, client or pinned, has it.
type reachWait struct {
	permit scope.Permit
	has    bool // the permit
	spare  bool // others could have the connection while the call waits
	hasty  bool // a reader of the process had the lock when this one had its permit, so it tried without

	told  bool          // a line was logged for it
	ask   scope.Ask     // that is to get a permit
	inAll time.Duration // waited so far
	there time.Duration // of that, for a permit and at the server
	seen  *seenWait     // who observes the handle is told of; nil if nobody does, or it has ended
}

// errQueues is of an ask that is made again with a permit.
var errQueues = errors.New("dblocker: the call waits for a permit")

// end ends the wait, whatever has become of it.
func (w *reachWait) end() {
	w.permit.Release()
	w.tellEnd(errGoneFromQueue, false)
	*w = reachWait{}
}

// take calls take to ask the server, once. If it fails with errQueues, the connection is to be given back, and queue to be called.
func (w *reachWait) take(ctx context.Context, db *handle, b *backend.Backend, a scope.Ask, take func(scope.Ask) error) error {
	asked := a
	a.Wait = w.left(a.Wait)
	tries := a.Wait > 0 && w.spare && !w.has && !b.Scope.TryPermit(&w.permit, a)
	if tries {
		a.Wait = 0
	}
	defer w.giveOn() // the lock is had, or not to be had
	began := time.Now()
	if a.Wait > slowReachAfter {
		db.slowReach.begin(db, b, w, asked, began)
		defer db.slowReach.end(w)
	}
	if a.Wait > 0 && db.observers != nil {
		w.tellBegin(ctx, db, asked, db.reachStats.slower())
	}
	err := take(a)
	took := time.Since(began)
	w.inAll += took
	w.there += took
	if tries && isHeld(err) {
		w.ask = asked
		return errQueues
	}
	w.tellEnd(err, db.reachStats.count(w, asked.Wait > 0, took, err))
	return err
}

func (w *reachWait) giveOn() {
	w.permit.Release()
	w.has = false
}

// link is scope.Permit.Link; w may be nil.
func (w *reachWait) link(owner *rwlock.Owner) *rwlock.Hold {
	if w == nil || !w.has {
		return nil
	}
	return w.permit.Link(owner)
}

// left is what is left of lock_timeout.
func (w *reachWait) left(limit time.Duration) time.Duration { return max(0, limit-w.inAll) }

// isHeld tells of the error of a try whether somebody has the lock.
func isHeld(err error) bool {
	var f *server.LockFailure
	return errors.As(err, &f) && !f.Deadlock && !f.Refused
}

// queue waits for a permit, without a connection. with is what the call has that cannot end before.
func (w *reachWait) queue(ctx context.Context, db *handle, b *backend.Backend, with *rwlock.Hold, work any, wait rwlock.Wait) error {
	wait.Timeout, wait.Stats, wait.Slow = w.left(w.ask.Wait), nil, nil
	began := time.Now()
	if wait.Timeout > slowReachAfter {
		db.slowReach.begin(db, b, w, w.ask, began)
		defer db.slowReach.end(w)
	}
	if db.observers != nil {
		w.tellBegin(ctx, db, w.ask, 0)
	}
	err := b.Scope.AwaitPermit(ctx, &w.permit, w.ask, with, work, wait)
	took := time.Since(began)
	w.inAll += took
	w.there += took
	if err != nil {
		w.tellEnd(err, db.reachStats.count(w, true, took, err))
		return db.reachError(ctx, b, err, w.ask, w.inAll)
	}
	w.has = true
	if w.ask.Shared && !w.hasty && b.Scope.HasShared(w.ask) { // then a try will do, for those behind too
		w.hasty = true
		w.giveOn()
	}
	return nil
}

// onServerInTurn is onServerAtOnce for a call that may have to wait at the server for a lock.
func (c *conn) onServerInTurn(ctx context.Context, op *operation, u usage, call func(*server.Conn) error) error {
	w := c.reachWait()
	defer w.end()
	for {
		w.spare = c.pinned == nil && op.pin == nil && c.transaction == nil && (c.drawn.Conn == nil || c.busy == idle)
		err := c.onServerAtOnce(ctx, op, u, call)
		if err != errQueues {
			return err
		}
		c.giveBack()
		if err := w.queue(ctx, c.db, c.backend, c.heldBy(w.ask.Owner), &c.resident, c.wait()); err != nil {
			return c.explainClosed(err)
		}
	}
}

// reachWait returns that of the call that has c.
func (c *conn) reachWait() *reachWait {
	if c.reaching == nil {
		c.reaching = new(reachWait)
	}
	return c.reaching
}

// waited notes how long a call has waited for its user's lock in this process, if that is to reach beyond it.
func (c *conn) waited(began time.Time) {
	if c.backend.Scope != nil {
		c.reachWait().inAll = time.Since(began)
	}
}

// heldBy returns what a call of the owner has that cannot end before the call, linked, for what it goes on to wait for.
func (c *conn) heldBy(owner *rwlock.Owner) *rwlock.Hold {
	with := c.turnLink(owner)
	if leaf := c.leaf.Linked(owner); leaf != nil {
		c.leaf.Lock.With = with
		with = leaf
	}
	return with
}

// reachStats count waits for locks that reach beyond the process.
type reachStats struct {
	rwlock.WaitStats
	handOvers atomic.Int64
	fastest   atomic.Int64 // answer of the server to who did not wait; 0 if there was none
}

// slowerThan is by how much an answer has to be later than the fastest one to be taken for the end of a wait: the server does not say.
const slowerThan = 5 * time.Millisecond

// noMessage is what an ask takes at most that goes on under a lock which rests on its connection.
const noMessage = 20 * time.Microsecond

// slower is how long an ask takes at least that is taken for a wait.
func (s *reachStats) slower() time.Duration { return time.Duration(s.fastest.Load()) + slowerThan }

// count counts an ask that has ended with err, and whose last part took so long, if it was a wait, and reports whether it was.
func (s *reachStats) count(w *reachWait, mayWait bool, took time.Duration, err error) bool {
	fastest := time.Duration(s.fastest.Load())
	if err == nil && took > noMessage && (fastest == 0 || took < fastest) {
		s.fastest.Store(int64(took))
	}
	queued := w.there > took
	if !mayWait || err != nil && !isWait(err) || err == nil && !queued && (fastest == 0 || took < fastest+slowerThan) {
		return false
	}
	s.Waits.Add(1)
	s.Time.Add(int64(w.there))
	switch {
	case err == nil:
		s.handOvers.Add(1)
	case errors.Is(err, rwlock.ErrDeadlock), isDeadlock(err):
		s.Deadlocks.Add(1)
	case errors.Is(err, rwlock.ErrTimeout), isHeld(err):
		s.Timeouts.Add(1)
	}
	return true
}

// countFile counts a wait for another process on a SQLite file that has ended with err.
func (s *reachStats) countFile(took time.Duration, err error) {
	s.Waits.Add(1)
	s.Time.Add(int64(took))
	switch {
	case err == nil:
		s.handOvers.Add(1)
	case errors.Is(err, bytelock.ErrTimeout):
		s.Timeouts.Add(1)
	}
}

// isWait tells of the error of an ask whether that has waited.
func isWait(err error) bool {
	var w *rwlock.WaitError
	return errors.As(err, &w) || isHeld(err) || isDeadlock(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func isDeadlock(err error) bool {
	var f *server.LockFailure
	return errors.As(err, &f) && f.Deadlock
}

// errGoneFromQueue is of who has waited for a permit, and has gone before asking the server.
var errGoneFromQueue = errors.New("dblocker: the call has ended before it could ask for its lock")

// A seenWait is what is told of a wait, on a handle that somebody observes: that it has begun, when it has lasted for longer than an
// answer takes, and that it has ended.
type seenWait struct {
	db    *handle
	timer *time.Timer

	mu          sync.Mutex // guards what follows; the timer's goroutine is another
	event       Event      // of the begin
	told, ended bool
}

// tellBegin tells of a wait for what is asked, if it lasts for so long.
func (w *reachWait) tellBegin(ctx context.Context, db *handle, a scope.Ask, after time.Duration) {
	s := w.seen
	if s == nil {
		e := Event{Kind: EventWaitBegan, Time: time.Now(), Context: ctx, What: "process", Mode: Exclusive, Held: a.Kind.String(), Wait: rwlock.NextWait()}
		if a.Shared {
			e.Mode = Shared
		}
		if !a.All {
			e.User = a.Users[0]
		}
		s = &seenWait{db: db, event: e}
		w.seen = s
	}
	if after == 0 {
		s.begin()
	} else {
		s.timer = time.AfterFunc(after, s.begin)
	}
}

func (s *seenWait) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tellBegan()
}

// tellBegan has the mutex.
func (s *seenWait) tellBegan() {
	if !s.told && !s.ended {
		s.told = true
		s.db.observers.tell(s.event)
	}
}

// tellEnd tells that the wait has ended with err, if it was one.
func (w *reachWait) tellEnd(err error, waited bool) {
	s := w.seen
	if s == nil {
		return
	}
	w.seen = nil
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if waited {
		s.tellBegan()
	}
	if s.ended = true; !s.told {
		return
	}
	e := s.event
	e.Kind, e.Time, e.Duration = EventWaitEnded, time.Now(), time.Since(e.Time)
	e.Outcome, e.Err = outcomeAmong(e.Context, err)
	s.db.observers.tell(e)
	if e.Outcome == OutcomeDeadlock {
		e.Kind = EventDeadlock
		e.Wait, e.Outcome = 0, ""
		s.db.observers.tell(e)
	}
}

// outcomeAmong is how a wait for a lock among processes has ended, and with which error.
func outcomeAmong(ctx context.Context, err error) (Outcome, error) {
	switch {
	case err == nil:
		return OutcomeGranted, nil
	case isDeadlock(err), errors.Is(err, rwlock.ErrDeadlock):
		return OutcomeDeadlock, ErrDeadlock
	case errors.Is(err, rwlock.ErrClosed), errors.Is(err, bytelock.ErrStopped):
		return OutcomeClosed, errClosed
	case ctx.Err() != nil:
		return OutcomeContext, ctx.Err()
	case errors.Is(err, rwlock.ErrTimeout), errors.Is(err, bytelock.ErrTimeout), isHeld(err):
		return OutcomeTimeout, ErrLockTimeout
	}
	return OutcomeFailed, err
}
