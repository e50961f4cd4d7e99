package dblocker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// A session is the server's side of a connection. The zero session is one that is
// not known.
type session struct {
	id     string // the server's number for it
	client string // the client's address, where numbers may come again
}

// An orphan is a session whose connection was lost: closed by the driver because
// a context ended, or broken. The server may still be at work for it, on a
// statement or on the end of a transaction, so the lock that this is under is kept
// until the server has ended the session.
//
// It is in orphans.list, and then has the lock, a timer that runs and a reference
// to the pool; or it is over, for good. end makes it so.
type orphan struct {
	session session
	hold    userHold // for nobody: its former owner has to wait too
	until   time.Time
	timer   *time.Timer // ends it at that time

	cover   *section    // whose lock it is under, if that is exclusive; else nil
	barrier rwlock.Hold // of a lock of its own in cover.lost
}

// orphans are those of a handle. While there are any, one goroutine watches over
// them, with a server connection of its own.
type orphans struct {
	pool    *pool
	emptied chan struct{} // has room for one; wakes watch, at worst needlessly, when list is empty

	mu      sync.Mutex // guards what follows
	list    []*orphan  // the one to be given up first comes first
	watched bool       // whether the goroutine runs; true if the list is not empty
	err     error      // of the last look; nil if it succeeded
}

// adopt makes an orphan of a session, with the grant of h.
func (os *orphans) adopt(s session, h *userHold) {
	o := &orphan{session: s}
	o.hold.lock.Kind, o.hold.lock.Tag = rwlock.Leaf, "that the server has not ended yet, its connection being lost"
	if !h.moveTo(&o.hold, nil) {
		return
	}
	o.bar(os.pool.users)
	os.pool.retain()
	os.mu.Lock()
	defer os.mu.Unlock()
	grace := os.pool.connector.cfg.cancelGrace
	o.until = time.Now().Add(grace)
	o.timer = time.AfterFunc(grace, func() { os.giveUp(o) })
	os.list = append(os.list, o)
	if !os.watched {
		os.watched = true
		go os.watch()
	}
}

// watch looks for the orphans on the server, and ends those that are gone, until
// there are none.
func (os *orphans) watch() {
	var reserved *serverConn
	defer func() { closeReserved(reserved) }()
	const shortest, longest = time.Millisecond, 100 * time.Millisecond
	for pause := shortest; ; pause = min(2*pause, longest) {
		watching, until := os.next()
		if len(watching) == 0 {
			return
		}
		ctx, cancel := context.WithDeadline(context.Background(), until)
		var err error
		panicked := os.pool.connector.cfg.contain(func() { reserved, err = os.look(ctx, reserved, watching) })
		if err != nil || panicked != nil {
			closeReserved(reserved)
			reserved = nil
		}
		cancel()
		select {
		case <-time.After(pause):
		case <-os.emptied:
		}
	}
}

func closeReserved(sc *serverConn) {
	if sc != nil {
		sc.Close()
	}
}

// next returns the orphans, and when the last of them will be given up. If there
// are none, watch ends.
func (os *orphans) next() ([]*orphan, time.Time) {
	os.mu.Lock()
	defer os.mu.Unlock()
	if len(os.list) == 0 {
		os.watched = false
		return nil, time.Time{}
	}
	return slices.Clone(os.list), os.list[len(os.list)-1].until
}

// look ends the orphans that the server has ended. sc is the connection to look
// through, which it makes if there is none.
func (os *orphans) look(ctx context.Context, sc *serverConn, watching []*orphan) (_ *serverConn, err error) {
	defer func() {
		os.mu.Lock()
		defer os.mu.Unlock()
		os.err = err
	}()
	lost := make([]session, len(watching))
	for i, o := range watching {
		lost[i] = o.session
	}
	sc, alive, err := os.ask(ctx, sc, lost)
	if err != nil {
		return sc, err
	}
	for _, o := range watching {
		if !slices.Contains(alive, o.session) {
			os.end(o)
		}
	}
	return sc, nil
}

// ask asks the server which of the sessions are left, through sc, or through a new connection,
// which it returns. It returns in time even if the driver does not: some heed no context while
// they connect.
func (os *orphans) ask(ctx context.Context, sc *serverConn, lost []session) (*serverConn, []session, error) {
	c := os.pool.connector
	var alive []session
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
func (os *orphans) end(o *orphan) bool {
	os.mu.Lock()
	i := slices.Index(os.list, o)
	if i >= 0 {
		os.list = slices.Delete(os.list, i, i+1)
	}
	if len(os.list) == 0 {
		select {
		case os.emptied <- struct{}{}:
		default: // watch has not seen the last one
		}
	}
	os.mu.Unlock()
	if i < 0 {
		return false
	}
	o.timer.Stop()
	o.hold.release()
	os.pool.release()
	o.unbar() // last: what goes on now finds nothing left of o
	return true
}

// giveUp ends an orphan that the server has not ended in time.
func (os *orphans) giveUp(o *orphan) {
	os.mu.Lock()
	err := os.err
	os.mu.Unlock()
	if !os.end(o) {
		return
	}
	cfg := os.pool.connector.cfg
	args := []any{"user", o.hold.user, "session", o.session.id, "cancel_grace", cfg.cancelGrace}
	if err != nil {
		args = append(args, "error", err)
	}
	cfg.logger.Warn("dblocker: a user's lock was released while the server may still be at work for the user: "+
		"the connection was lost, and its session was not seen to end within cancel_grace", args...)
}
