package dblocker

import (
	"context"
	"errors"
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
}

// errQueues is of an ask that is made again with a permit.
var errQueues = errors.New("dblocker: the call waits for a permit")

// end ends the wait, whatever has become of it.
func (w *reachWait) end() {
	w.permit.Release()
	*w = reachWait{}
}

// take calls take to ask the server, once. If it fails with errQueues, the connection is to be given back, and queue to be called.
func (w *reachWait) take(db *handle, b *backend.Backend, a scope.Ask, take func(scope.Ask) error) error {
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
	err := take(a)
	took := time.Since(began)
	w.inAll += took
	w.there += took
	if tries && isHeld(err) {
		w.ask = asked
		return errQueues
	}
	db.reachStats.count(w, asked.Wait > 0, took, err)
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
	err := b.Scope.AwaitPermit(ctx, &w.permit, w.ask, with, work, wait)
	took := time.Since(began)
	w.inAll += took
	w.there += took
	if err != nil {
		db.reachStats.count(w, true, took, err)
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

// count counts an ask that has ended with err, and whose last part took so long.
func (s *reachStats) count(w *reachWait, mayWait bool, took time.Duration, err error) {
	fastest := time.Duration(s.fastest.Load())
	if err == nil && took > noMessage && (fastest == 0 || took < fastest) {
		s.fastest.Store(int64(took))
	}
	queued := w.there > took
	if !mayWait || err != nil && !isWait(err) || err == nil && !queued && (fastest == 0 || took < fastest+slowerThan) {
		return
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
