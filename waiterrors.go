package dblocker

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/userid"
)

// lockError puts the end of a wait for a user's lock in the terms of a user of
// dblocker.
func (c *conn) lockError(err error, id locks.Identity) error {
	if err == nil {
		return nil
	}
	c.db.tellDeadlock(err)
	var w *rwlock.WaitError
	if !errors.As(err, &w) {
		return c.explainClosed(amongError(err, id)) // or the context was done before there was anything to wait for
	}
	if g := c.backend.GateNamed(w.Key); g != nil {
		return c.explainClosed(waitError(w, id, fmt.Sprintf("%s (%v)", g.Name(), w.Mode), outOfLocks))
	}
	return c.explainClosed(lockError(err, id))
}

// lockError does that for a wait for users' locks only.
func lockError(err error, id locks.Identity) error {
	if err == nil {
		return nil
	}
	var w *rwlock.WaitError
	if !errors.As(err, &w) {
		return err
	}
	what := fmt.Sprintf("the %v lock of user %s", w.Mode, userid.Brief(w.Key))
	switch {
	case w.Key != locks.AllUsers:
		id.User = w.Key // of those that were asked for together
	case w.Mode == rwlock.Shared:
		what = fmt.Sprintf("the lock of user %s behind the lock of all users", userid.Brief(id.User))
	default:
		what = "the lock of all users"
	}
	return waitError(w, id, what, outOfLocks)
}

// lockError puts the error of a section that could not be begun in the terms of a user of dblocker.
// It says besides of a wait in vain when it was for a section with the same context.
func (s *section) lockError(err error) error {
	s.db.tellDeadlock(err)
	var w *rwlock.WaitError
	if up, ok := err.(*locks.UpgradeError); ok {
		return nestedExclusive(up.User)
	}
	if !errors.As(err, &w) {
		return err
	}
	err = lockError(err, *s.locks.Identity())
	by, ok := w.Blocker.Work.(*locks.Section)
	if e, is := err.(*LockError); is && ok && e.Err == ErrLockTimeout && s.hasContextOf(by) {
		e.advice = "it was begun with the same context: if it is the caller's own, pass its handle or its context on instead of asking for another, or tag the request's context once with dblocker.WithUser"
	}
	return err
}

// hasContextOf reports whether the section was to be begun with the same context as another, and
// nobody else has that.
func (s *section) hasContextOf(other *locks.Section) bool {
	ctx := s.locks.Parent()
	return ctx.Done() != nil && reflect.ValueOf(ctx).Comparable() && other.Parent() == ctx
}

// connectError does the same for the wait for a server connection.
func (c *handle) connectError(err error) error {
	if err == nil {
		return nil
	}
	c.tellDeadlock(err)
	var w *rwlock.WaitError
	if errors.As(err, &w) {
		return waitError(w, locks.Identity{}, fmt.Sprintf("one of the %d server connections that max_open_conns allows", c.limits.MaxOpenConns), outOfConnections)
	}
	return err
}

// connsError does it for the wait until a connection to a SQLite file may be opened.
func connsError(e *gate.ConnsError) error {
	switch e.Err {
	case rwlock.ErrClosed:
		return errClosed
	case rwlock.ErrTimeout:
		e.Err = ErrLockTimeout
	}
	return &LockError{
		Waited: e.Waited,
		Err:    e.Err,
		what:   "another connection to the SQLite database, which is opened as the first or closed as the last",
	}
}

// dialTimeout is the error of a connection that the inner driver has not opened in time.
func dialTimeout(waited time.Duration) error {
	return &LockError{Waited: waited, Err: ErrLockTimeout, what: "a new connection, for which the inner driver has not returned from Connect"}
}

// How a request gets out of a circle with others.
const (
	outOfLocks       = "end what this request has, and begin it again; dblocker.LockUsers locks several users without deadlocks, and dblocker.Lock a user before the first read"
	outOfConnections = "do this with the Tx or the connection that this request has, or allow more with max_open_conns"
)

// waitError has the way out of a deadlock with others, for which it is the advice.
func waitError(w *rwlock.WaitError, id locks.Identity, what, wayOut string) error {
	e := &LockError{
		User:   id.User,
		Mode:   Mode(w.Mode),
		Waited: w.Waited,
		Err:    w.Err,
		what:   what,

		Blocked: w.Blocker.For,
	}
	switch w.Err {
	case rwlock.ErrClosed:
		return errClosed
	case rwlock.ErrTimeout:
		e.Err = ErrLockTimeout
	case rwlock.ErrDeadlock:
		e.Err = ErrDeadlock
	}
	if w.Hopeless {
		wayOut, e.own = adviceForHopeless(w)
	}
	own := kinship(id, w.Blocker)
	e.blocker = describeBlocker(w.Blocker, own, id.User != "")
	switch e.Err {
	case ErrDeadlock:
		e.advice = wayOut
	case ErrLockTimeout:
		e.advice = wayPast(w.Blocker)
	}
	if own != "" {
		e.own = e.Err != ErrLockTimeout || w.Blocker.Kind != rwlock.Leaf // a statement in parallel ends by itself
		with := "the Tx or the connection that has it"
		if w.Blocker.Kind == rwlock.Section {
			with = "the section's context or handle"
		}
		e.advice = "do this with " + with + ", or end that first; for work that runs in parallel give each part a context of dblocker.Fork"
	} else if e.Err == ErrLockTimeout && id.LockOwner().Related(w.Blocker.Owner) {
		e.advice = "both have contexts that dblocker.WithUser made from the same one, which has a user already: they count as two requests, so if they are one, tag that once"
	}
	return e
}

// adviceForHopeless says how to get out of such a circle, and whether it is of the caller alone.
func adviceForHopeless(w *rwlock.WaitError) (way string, own bool) {
	if by, ok := w.Blocker.Work.(locks.Worker); ok && by.BegunBy() != nil && by.InOneCall() == 0 {
		return "it is the caller's own section, begun by the same goroutine, or what that has left open: pass its handle or its context on instead of asking for another, or tag the request's context once with dblocker.WithUser", true
	}
	return "its statement may wait on the server for rows that this transaction has locked: begin the transaction with a context of dblocker.WithUser, or lock its rows after the user's lock; then roll this one back and begin it again", false
}

// kinship says whether what was in the way is the caller's own; "" if it is a stranger's.
func kinship(id locks.Identity, b rwlock.Info) string {
	switch own := id.LockOwner(); {
	case own == nil || !own.InLine(b.Owner):
		return ""
	case own == b.Owner:
		return " of the same owner"
	}
	return " of the same request (whose context was tagged again by dblocker.WithUser)"
}

// wayPast says how to get what is in the way out of it.
func wayPast(b rwlock.Info) string {
	way := ""
	switch {
	case b.Form == rwlock.Limited:
		way = "close rows, end transactions, give back each sql.Conn, or allow more with max_open_conns; dblocker.Holds tells who has the connections"
	case b.Kind == rwlock.Leaf:
		return "bound what a statement may take with its context or with statement_timeout"
	case b.Kind == rwlock.Rows:
		way = "rows have to be closed, or read to their end"
	case b.Kind == rwlock.Tx:
		way = "a transaction has to end, and what belongs to it to be done with its Tx"
	case b.Kind == rwlock.Session:
		way = "a connection has to go back, and a transaction on it to end with COMMIT or ROLLBACK"
	case b.Kind == rwlock.Section:
		way = "a section has to be left by its unlock, a handle of a Store by its cancel"
		if b.Tag == tagOnOpen || b.Tag == tagEachUser {
			return "what the function given to " + b.Tag + " does has to be done with the context and the handle that it is given"
		}
	}
	if b.Tag == "" {
		way += "; with trace=on errors name the place where it began"
	}
	return way
}

// describeBlocker says in a few words what was in the way. The mode is of interest
// for a user's lock only.
func describeBlocker(b rwlock.Info, own string, withMode bool) string {
	what := b.Kind.String() + own
	if b.Form == rwlock.Limited {
		return describeUse(b, own)
	}
	if b.Tag != "" {
		what = fmt.Sprintf("%s, %s", what, printable(b.Tag))
	}
	verb := "has held it"
	if b.Waiting {
		verb = "came before and has waited"
	}
	if withMode {
		verb += fmt.Sprintf(" (%v)", b.Mode)
	}
	return fmt.Sprintf("%s, which %s for %s", what, verb, inRound(b.For))
}

// describeUse is describeBlocker of a server connection: of those that are in use, the one that has been so for the longest.
func describeUse(b rwlock.Info, own string) string {
	at := ""
	if b.Tag != "" {
		at = " " + printable(b.Tag)
	}
	if b.Waiting {
		return fmt.Sprintf("who came before%s%s, and has waited for %s", own, at, inRound(b.For))
	}
	return fmt.Sprintf("one in use%s%s, for %s", own, at, inRound(b.For))
}
