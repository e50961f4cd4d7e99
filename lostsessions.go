package dblocker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
)

// A lostSession is one whose connection was lost: closed by the driver because
// a context ended, or broken. The server may still be at work for it, on a
// statement or on the end of a transaction, so the lock that this is under is kept
// until the server has ended the session.
//
// It is in lostSessions.list, and then has the lock, a timer that runs and a reference
// to the pool; or it is over, for good. end makes it so.
type lostSession struct {
	session server.Session
	hold    locks.Hold // for nobody: its former owner has to wait too
	until   time.Time
	timer   *time.Timer // ends it at that time

	barrier locks.Barrier // of the section whose lock it is under
}

// lostSessions are those of a handle. While there are any, one goroutine watches over
// them, with a server connection of its own.
type lostSessions struct {
	pool    *pool
	emptied chan struct{} // has room for one; wakes watch, at worst needlessly, when list is empty

	mu      sync.Mutex     // guards what follows
	list    []*lostSession // the one to be given up first comes first
	watched bool           // whether the goroutine runs; true if the list is not empty
	err     error          // of the last look; nil if it succeeded
}

// adopt takes a session for lost, with the grant of h.
func (ls *lostSessions) adopt(s server.Session, h *locks.Hold) {
	o := &lostSession{session: s}
	o.hold.Lock.Kind, o.hold.Lock.Tag = rwlock.Leaf, "that the server has not ended yet, its connection being lost"
	if !h.MoveTo(&o.hold, nil) {
		return
	}
	o.barrier.Raise(ls.pool.users, &o.hold)
	ls.pool.retain()
	ls.mu.Lock()
	defer ls.mu.Unlock()
	grace := ls.pool.connector.cfg.cancelGrace
	o.until = time.Now().Add(grace)
	o.timer = time.AfterFunc(grace, func() { ls.giveUp(o) })
	ls.list = append(ls.list, o)
	if !ls.watched {
		ls.watched = true
		go ls.watch()
	}
}

// watch looks for the lost sessions on the server, and ends those that are gone, until
// there are none.
func (ls *lostSessions) watch() {
	var reserved *serverConn
	defer func() { closeReserved(reserved) }()
	const shortest, longest = time.Millisecond, 100 * time.Millisecond
	for pause := shortest; ; pause = min(2*pause, longest) {
		watching, until := ls.next()
		if len(watching) == 0 {
			return
		}
		ctx, cancel := context.WithDeadline(context.Background(), until)
		var err error
		panicked := ls.pool.connector.cfg.contain(func() { reserved, err = ls.look(ctx, reserved, watching) })
		if err != nil || panicked != nil {
			closeReserved(reserved)
			reserved = nil
		}
		cancel()
		select {
		case <-time.After(pause):
		case <-ls.emptied:
		}
	}
}

func closeReserved(sc *serverConn) {
	if sc != nil {
		sc.Close()
	}
}

// next returns the lost sessions, and when the last of them will be given up. If there
// are none, watch ends.
func (ls *lostSessions) next() ([]*lostSession, time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if len(ls.list) == 0 {
		ls.watched = false
		return nil, time.Time{}
	}
	return slices.Clone(ls.list), ls.list[len(ls.list)-1].until
}

// look ends the lost sessions that the server has ended. sc is the connection to look
// through, which it makes if there is none.
func (ls *lostSessions) look(ctx context.Context, sc *serverConn, watching []*lostSession) (_ *serverConn, err error) {
	defer func() {
		ls.mu.Lock()
		defer ls.mu.Unlock()
		ls.err = err
	}()
	lost := make([]server.Session, len(watching))
	for i, o := range watching {
		lost[i] = o.session
	}
	sc, alive, err := ls.ask(ctx, sc, lost)
	if err != nil {
		return sc, err
	}
	for _, o := range watching {
		if !slices.Contains(alive, o.session) {
			ls.end(o)
		}
	}
	return sc, nil
}

// ask asks the server which of the sessions are left, through sc, or through a new connection,
// which it returns. It returns in time even if the driver does not: some heed no context while
// they connect.
func (ls *lostSessions) ask(ctx context.Context, sc *serverConn, lost []server.Session) (*serverConn, []server.Session, error) {
	c := ls.pool.connector
	var alive []server.Session
	through, err := awaitDial(ctx, c.cfg.logger, 0, nil, func(ctx context.Context) (*serverConn, error) {
		through := sc
		if through == nil {
			ci, err := c.dial(ctx)
			if err != nil {
				return nil, err
			}
			through = newServerConn(ci, c.cfg)
		}
		left, err := c.cfg.dialect.survivors(ctx, through, lost)
		alive = left
		return through, err
	})
	if err != nil {
		return through, nil, err
	}
	return through, alive, nil
}

// end takes o off the list and releases its lock. It reports whether o was there.
func (ls *lostSessions) end(o *lostSession) bool {
	ls.mu.Lock()
	i := slices.Index(ls.list, o)
	if i >= 0 {
		ls.list = slices.Delete(ls.list, i, i+1)
	}
	if len(ls.list) == 0 {
		select {
		case ls.emptied <- struct{}{}:
		default: // watch has not seen the last one
		}
	}
	ls.mu.Unlock()
	if i < 0 {
		return false
	}
	o.timer.Stop()
	o.hold.Release()
	ls.pool.release()
	o.barrier.Lower() // last: what goes on now finds nothing left of o
	return true
}

// giveUp ends a lost session that the server has not ended in time.
func (ls *lostSessions) giveUp(o *lostSession) {
	ls.mu.Lock()
	err := ls.err
	ls.mu.Unlock()
	if !ls.end(o) {
		return
	}
	cfg := ls.pool.connector.cfg
	args := []any{"user", o.hold.User, "session", o.session.ID, "cancel_grace", cfg.cancelGrace}
	if err != nil {
		args = append(args, "error", err)
	}
	cfg.logger.Warn("dblocker: a user's lock was released while the server may still be at work for the user: "+
		"the connection was lost, and its session was not seen to end within cancel_grace", args...)
}
