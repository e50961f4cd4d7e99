// Package lost keeps locks for what the server may still be doing when its connection is lost: closed by the
// driver because a context ended, or broken.
package lost

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/userid"
)

// A Server is the server of a handle.
type Server interface {
	// Reserve returns a connection for one who watches over sessions. It is opened when it is first used.
	Reserve() Reserved

	// Retain keeps what handles share, their locks above all, until Release. The caller has it.
	Retain()
	Release()
}

// A Reserved is a connection to the server that is nobody else's.
type Reserved interface {
	// Survivors returns which of the sessions the server has not ended yet. It may end some itself.
	// It returns in time even if the driver does not, and after an error the connection is of no use.
	Survivors(ctx context.Context, sessions []server.Session) ([]server.Session, error)

	// Close closes the connection, if there is one. The next use opens another.
	Close()
}

// A lostSession is one whose connection was lost. The server may still be at work for it, on a
// statement or on the end of a transaction, so the lock that this is under is kept
// until the server has ended the session.
//
// It is in Sessions.list, and then has the lock, a timer that runs and what the Server
// retains; or it is over, for good. end makes it so.
type lostSession struct {
	session server.Session
	hold    locks.Hold // for nobody: its former owner has to wait too
	until   time.Time
	timer   *time.Timer // ends it at that time

	since   time.Time     // it is lost
	kind    rwlock.Kind   // of the hold that it had
	barrier locks.Barrier // of the section whose lock it is under
}

// An Event tells of a lost session.
type Event struct {
	Ctx    context.Context // of its call, if that is known; else nil
	User   string
	Kind   rwlock.Kind   // of what its lock was held for
	For    time.Duration // it was lost
	Ended  bool          // it is not lost any more, since
	GaveUp bool          // cancel_grace has passed, or else since the server has ended it
}

func (ls *Sessions) tell(o *lostSession, e Event) {
	if ls.Told == nil {
		return
	}
	e.User, e.Kind, e.For = o.hold.User, o.kind, time.Since(o.since)
	if l := o.hold.Lock.Label; l != nil {
		e.Ctx = l.Ctx
	}
	ls.Told(e)
}

// Sessions are the lost ones of a handle. While there are any, one goroutine watches over
// them, with a server connection of its own.
type Sessions struct {
	server Server
	table  *locks.Table // that the locks are of
	grace  time.Duration
	logger *slog.Logger

	// Told is told that a session is lost, and that it has ended, or was given up; nil if nobody wants to know. It is set before there are any, and must not
	// wait.
	Told func(Event)

	emptied chan struct{} // has room for one; wakes watch, at worst needlessly, when list is empty

	mu      sync.Mutex     // guards what follows
	list    []*lostSession // the one to be given up first comes first
	watched bool           // whether the goroutine runs; true if the list is not empty
	err     error          // of the last look; nil if it succeeded
}

// New returns those of a handle that has lost none. Each is given up when grace has passed.
func New(s Server, t *locks.Table, grace time.Duration, logger *slog.Logger) *Sessions {
	return &Sessions{server: s, table: t, grace: grace, logger: logger, emptied: make(chan struct{}, 1)}
}

var notEnded = rwlock.Tagged("that the server has not ended yet, its connection being lost")

// Adopt takes a session for lost, with the grant of h.
func (ls *Sessions) Adopt(s server.Session, h *locks.Hold) {
	o := &lostSession{session: s}
	o.hold.Lock.Kind, o.hold.Lock.Label = rwlock.Leaf, notEnded
	o.since, o.kind = time.Now(), h.Lock.Kind
	h.ForgetReach()
	if !h.MoveTo(&o.hold, nil) {
		return
	}
	ls.tell(o, Event{})
	o.barrier.Raise(ls.table, &o.hold)
	ls.server.Retain()
	ls.mu.Lock()
	defer ls.mu.Unlock()
	o.until = time.Now().Add(ls.grace)
	o.timer = time.AfterFunc(ls.grace, func() { ls.giveUp(o) })
	ls.list = append(ls.list, o)
	if !ls.watched {
		ls.watched = true
		go ls.watch()
	}
}

// IsGone asks the server whether it has ended a session.
func (ls *Sessions) IsGone(ctx context.Context, s server.Session) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, ls.grace)
	defer cancel()
	reserved := ls.server.Reserve()
	alive, err := reserved.Survivors(ctx, []server.Session{s})
	reserved.Close()
	return len(alive) == 0 && err == nil, err
}

// InUse returns how many sessions there are, and whether a section waits for one. ls may be nil.
func (ls *Sessions) InUse() (n int, barred bool) {
	if ls == nil {
		return 0, false
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return len(ls.list), slices.ContainsFunc(ls.list, func(o *lostSession) bool { return o.barrier.IsRaised() })
}

// watch looks for the lost sessions on the server, and ends those that are gone, until
// there are none.
func (ls *Sessions) watch() {
	reserved := ls.server.Reserve()
	defer reserved.Close()
	const shortest, longest = time.Millisecond, 100 * time.Millisecond
	for pause := shortest; ; pause = min(2*pause, longest) {
		watching, until := ls.next()
		if len(watching) == 0 {
			return
		}
		ctx, cancel := context.WithDeadline(context.Background(), until)
		var err error
		panicked := server.Contain(ls.logger, func() { err = ls.look(ctx, reserved, watching) })
		if err != nil || panicked != nil {
			reserved.Close()
		}
		cancel()
		select {
		case <-time.After(pause):
		case <-ls.emptied:
		}
	}
}

// next returns the lost sessions, and when the last of them will be given up. If there
// are none, watch ends.
func (ls *Sessions) next() ([]*lostSession, time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if len(ls.list) == 0 {
		ls.watched = false
		return nil, time.Time{}
	}
	return slices.Clone(ls.list), ls.list[len(ls.list)-1].until
}

// look ends the lost sessions that the server has ended.
func (ls *Sessions) look(ctx context.Context, reserved Reserved, watching []*lostSession) (err error) {
	defer func() {
		ls.mu.Lock()
		defer ls.mu.Unlock()
		ls.err = err
	}()
	sessions := make([]server.Session, len(watching))
	for i, o := range watching {
		sessions[i] = o.session
	}
	alive, err := reserved.Survivors(ctx, sessions)
	if err != nil {
		return err
	}
	for _, o := range watching {
		if !slices.Contains(alive, o.session) {
			ls.end(o, false)
		}
	}
	return nil
}

// end takes o off the list and releases its lock. It reports whether o was there.
func (ls *Sessions) end(o *lostSession, gaveUp bool) bool {
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
	ls.tell(o, Event{Ended: true, GaveUp: gaveUp})
	o.hold.Release()
	ls.server.Release()
	o.barrier.Lower() // last: what goes on now finds nothing left of o
	return true
}

// giveUp ends a lost session that the server has not ended in time.
func (ls *Sessions) giveUp(o *lostSession) {
	ls.mu.Lock()
	err := ls.err
	ls.mu.Unlock()
	if !ls.end(o, true) {
		return
	}
	args := []any{"user", userid.Short(o.hold.User), "session", o.session.ID, "cancel_grace", ls.grace}
	if err != nil {
		args = append(args, "error", err)
	}
	ls.logger.Warn("dblocker: a user's lock was released while the server may still be at work for the user: "+
		"the connection was lost, and its session was not seen to end within cancel_grace", args...)
}
