package dblocker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/bytelock"
	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/userid"
)

// With lock_scope=database on a SQLite file, whoever has a user's lock of this process takes that among processes with it, and
// whoever has passed the gate takes that, in this order:
//
//	the user's lock of this process
//	that among processes
//	the gate of this process
//	that among processes
//
// What waits at the gate asks for the user's lock together with it, and so has it last. It takes that among processes
// if this needs no wait. Else it leaves the gate to others, and waits with the user's lock of this process only.
//
// These locks belong to the process, and to no connection: nothing but its end loses them.

// reachFree takes the lock of h among processes, if it is free; else h gives up that of this process.
func (c *conn) reachFree(h *locks.Hold) bool {
	ok, err := c.backend.Users.TryReach(h)
	if !ok || err != nil {
		h.ReleaseUser()
		return false
	}
	return true
}

// takeAmong takes among processes what h has just taken of this one. If it cannot, h gives all of it up.
func (c *conn) takeAmong(ctx context.Context, h *locks.Hold, req request, w rwlock.Wait) error {
	ok, err := c.backend.Users.TryReach(h)
	switch {
	case err != nil:
	case !ok && w.Timeout > 0:
		err = c.awaitAmong(ctx, h, req, w)
	case !ok:
		err = &amongUserError{h.User, req.mode, &bytelock.WaitError{Err: bytelock.ErrTimeout}}
	case !req.passage.IsFree():
		err = req.passage.Reach(ctx, &h.Gate, w)
	}
	if err != nil {
		h.Gate.StepBack()
		h.ReleaseUser()
	}
	return err
}

// awaitAmong waits for the user's lock among processes, and then at the gate again.
func (c *conn) awaitAmong(ctx context.Context, h *locks.Hold, req request, w rwlock.Wait) error {
	h.Gate.StepBack()
	req.passage.StepAside()
	err := c.awaitUserAmong(ctx, h, req, w)
	req.passage.Await() // or its end would end what has not begun
	if err != nil || req.passage.IsFree() {
		return err
	}
	w.Ride = nil // it has its user's lock itself
	return h.TakeGate(ctx, req.passage, w)
}

func (c *conn) awaitUserAmong(ctx context.Context, h *locks.Hold, req request, w rwlock.Wait) error {
	if err := c.spillForUpgrade(ctx, h, req); err != nil {
		return err
	}
	within := bytelock.Wait{Timeout: w.Timeout, Stopped: w.Closed, Inside: req.inside || h.Owner.HasRows()}
	ask := scope.Ask{Users: []string{h.User}, Shared: req.mode == Shared, Kind: h.Lock.Kind, Wait: w.Timeout}
	err := c.db.awaitingAmong(ctx, c.backend, ask, 0, func() error { return c.backend.Users.AwaitReach(ctx, h, within) })
	if err != nil {
		return &amongUserError{h.User, req.mode, err}
	}
	return nil
}

// awaitingAmong calls wait, which waits for locks among processes. Others see that it does. It counts if it has taken so long, or
// ends in vain.
func (c *handle) awaitingAmong(ctx context.Context, b *backend.Backend, ask scope.Ask, counts time.Duration, wait func() error) error {
	var w reachWait
	began := time.Now()
	if ask.Wait > slowReachAfter {
		c.slowReach.begin(c, b, &w, ask, began)
		defer c.slowReach.end(&w)
	}
	if ask.Wait > 0 && c.observers != nil {
		w.tellBegin(ctx, c, ask, counts)
	}
	err := wait()
	took := time.Since(began)
	waited := took >= counts || errors.Is(err, bytelock.ErrTimeout) && ask.Wait > 0
	if waited {
		c.reachStats.countFile(took, err)
	}
	w.tellEnd(err, waited)
	return err
}

// spillForUpgrade reads the owner's rows of the user into memory: others may have rows of theirs in another process, and each
// would wait for the other's.
func (c *conn) spillForUpgrade(ctx context.Context, h *locks.Hold, req request) error {
	if req.mode != Exclusive || h.Owner == nil || !h.Owner.HasRows() {
		return nil
	}
	err := c.spillOwn(ctx, h.Owner, c.db.mustSpill(), func(r *rows) bool { return r.hold.User == h.User })
	if err == errInCall {
		return nil // it is waited for
	}
	return err
}

// reachAmong takes among processes what a section has taken itself.
func (s *section) reachAmong(ctx context.Context, req sectionRequest) error {
	id, w := s.locks.Identity(), bytelock.Wait{Timeout: s.db.lockTimeout, Stopped: s.db.closed}
	if req.try {
		w.Timeout = 0
	}
	users, all := s.locks.Taken()
	if req.mode == Exclusive && (all || len(users) > 0) && id.Owner.HasRows() {
		var none *conn
		inTheWay := func(r *rows) bool { return all || slices.Contains(users, r.hold.User) }
		if err := none.spillOwn(ctx, id.Owner, s.db.mustSpill(), inTheWay); err != nil && err != errInCall {
			return err
		}
	}
	var user string
	ask := scope.Ask{Users: users, All: all, Shared: req.mode == Shared, Kind: rwlock.Section, Wait: w.Timeout}
	err := s.db.awaitingAmong(ctx, s.backend, ask, leastSectionWait, func() (err error) {
		user, err = s.locks.ReachByBytes(w)
		return err
	})
	if err == nil {
		return nil
	}
	return amongError(&amongUserError{user, req.mode, err}, *id)
}

// leastSectionWait is what a section that has waited for its locks has taken for that at least, as a rule: it does not say whether it has.
const leastSectionWait = 500 * time.Microsecond

// An amongUserError is of the lock of a user among processes, or of all if there is none.
type amongUserError struct {
	user string
	mode Mode
	err  error
}

func (e *amongUserError) Error() string { return e.err.Error() }
func (e *amongUserError) Unwrap() error { return e.err }

// Is lets it count as an error of a lock of this process.
func (e *amongUserError) Is(target error) bool {
	return target == rwlock.ErrTimeout && errors.Is(e.err, bytelock.ErrTimeout)
}

// amongError says in the terms of a user of dblocker why a lock among processes could not be had; of other errors nothing.
func amongError(err error, id locks.Identity) error {
	var u *amongUserError
	var g *gate.ReachError
	var w *bytelock.WaitError
	e := &LockError{User: id.User, what: "its lock among the processes that have the file open"}
	switch {
	case errors.As(err, &g):
		e.Mode, e.what, w = Mode(g.Mode), fmt.Sprintf("%s (%v) among processes", g.Name, g.Mode), g.Wait
	case errors.As(err, &u):
		e.User, e.Mode = u.user, u.mode
		e.what = fmt.Sprintf("the %v lock of user %s among the processes that have the file open", u.mode, userid.Brief(u.user))
		if u.user == "" {
			e.what = "the lock of all users among the processes that have the file open"
		}
		if !errors.As(u.err, &w) {
			return u.err
		}
	default:
		return err
	}
	e.Waited = w.Waited
	switch w.Err {
	case bytelock.ErrStopped:
		return errClosed
	case bytelock.ErrTimeout:
		e.Err = ErrLockTimeout
		e.advice = outOfProcesses
	default:
		e.Err = w.Err
	}
	if len(w.Holders) > 0 {
		e.blocker = describeHolders(w.Holders)
	}
	for _, h := range w.Holders {
		if h.PID != 0 && h.PID != os.Getpid() {
			e.Process = &ProcessInfo{Session: strconv.Itoa(h.PID)}
			break
		}
	}
	return e
}

// outOfProcesses is for a wait of which nobody knows whether it would ever have ended.
const outOfProcesses = "if processes wait for each other in a circle, which is not found on SQLite files, this ends it: end what this request has, and begin it again; " +
	"lock users in one order, or several at once by dblocker.LockUsers"

func describeHolders(holders []bytelock.Holder) string {
	var who []string
	for _, h := range holders {
		switch h.PID {
		case 0:
			who = append(who, fmt.Sprintf("another process (%v)", h.Mode))
		case os.Getpid():
			who = append(who, fmt.Sprintf("this process (%v)", h.Mode))
		default:
			who = append(who, fmt.Sprintf("process %d (%v)", h.PID, h.Mode))
		}
	}
	return strings.Join(who, ", ")
}
