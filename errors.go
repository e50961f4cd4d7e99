package dblocker

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/plain"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/userid"
)

const restoreAdvice = `put the disk right, and send "PRAGMA wal_checkpoint(TRUNCATE)" through dblocker: when that has succeeded, all that is committed is on disk`

var (
	// ErrNoUser is returned for a section whose context carries no user, and for an
	// operation without one on a handle with the option untagged=error.
	ErrNoUser = errors.New("dblocker: the context carries no user; tag it with dblocker.WithUser, or, for work that belongs to no user, such as a migration, with dblocker.WithoutUser")

	// ErrUserID is wrapped by the error of the first use of a context whose user ID cannot be used, since it is empty, or, with {user} in
	// the DSN, too long for a name, or the name of a device on Windows. An ID of a type that cannot be used, or a nil
	// pointer, is a fault of the program, and another error.
	ErrUserID = userid.ErrUserID

	// ErrLockTimeout is what a [LockError] wraps when lock_timeout has passed.
	ErrLockTimeout = errors.New("lock_timeout has passed")

	// ErrDeadlock is what a [LockError] wraps when a wait would never have ended, or when one
	// that most likely would not has lasted for self_wait: of an owner for itself, of a goroutine
	// for a section without an owner that it has begun, in a circle through several contexts of
	// one request, or of a statement in a transaction that was begun for nobody, behind a statement
	// that may wait on the server for the rows which that transaction has locked.
	ErrDeadlock = errors.New("deadlock")

	// ErrSpillLimit is wrapped by the error of a statement that cannot go on while rows of
	// its owner are open, which are too large to be read into memory (spill_limit). These are
	// rows of a user for whose lock others wait who have it too, and cannot make way
	// either: so a write inside them would wait for ever. And on SQLite they are rows on the
	// same connection, and beside a rollback journal or in memory all those that the owner
	// has open.
	ErrSpillLimit = errors.New("dblocker: the open rows of this user's request, which have to make way for its write while others read, are too large to keep in memory")

	// ErrReadOnly is returned for a statement that writes in a shared section, or in
	// a read-only transaction where the engine would let it pass; and for an exclusive
	// section inside a shared one.
	ErrReadOnly = errors.New("dblocker: this statement writes, or is not known to only read, where only reading is allowed")

	// ErrReleased is the error of a section's context when the section has been left,
	// and of everything that is done with it then. errors.Is takes it for
	// context.Canceled too.
	ErrReleased error = releasedError{}

	// errReadOnlyTx and errSharedSection are ErrReadOnly with what to do about it.
	errReadOnlyTx    = fmt.Errorf("%w: its transaction is read-only; begin it without sql.TxOptions.ReadOnly, or overrule a wrong judgement with dblocker.WithMode(ctx, dblocker.Shared)", ErrReadOnly)
	errSharedSection = fmt.Errorf("%w: its section is shared; begin one that writes with dblocker.Lock, or with RWGetDB", ErrReadOnly)

	// errImmediateInShared is of a BEGIN IMMEDIATE or EXCLUSIVE, in SQL, in a shared section.
	errImmediateInShared = fmt.Errorf("%w: it takes SQLite's write lock, and its section is shared; write BEGIN, or begin a section that writes with dblocker.Lock, or with RWGetDB", ErrReadOnly)

	// ErrRolledBack is wrapped by what a transaction on SQLite answers after SQLite
	// has rolled it back, because a statement of it was interrupted or failed in
	// another grave way. It wraps that statement's error too.
	ErrRolledBack = errors.New("dblocker: SQLite has rolled this transaction back, since one of its statements was interrupted or failed; nothing of it was written, and nothing more can be done in it: roll it back and begin again")

	// ErrNotDurable is wrapped by the error of a write on a handle with durability=group that is committed, but whose sync
	// has failed: it is not known to be on disk, and others see it. The kernel may have dropped what it could not
	// write, and take it for written; so from then on every write answers so, and those that have not begun are not
	// done. It ends when PRAGMA wal_checkpoint(TRUNCATE), sent through dblocker, has succeeded: then all that is
	// committed is on disk in the database file.
	ErrNotDurable = errors.New("dblocker: the write is committed, and others see it, but it is not known to be on disk, since a sync failed; " + restoreAdvice)

	// errNotWritten is ErrNotDurable of a write that has not begun.
	errNotWritten error = restated{ErrNotDurable, "dblocker: nothing was written, since an earlier write is not known to be on disk after a sync that failed; " + restoreAdvice}

	// ErrLockLost is the error of a section's context, and of what is done with it, when the connection is lost on which the section
	// has its user's lock, with lock_scope=database: another process may have the lock by now. What the section has written
	// stays. It is also wrapped by the error of a statement beside a transaction or section of its own, under whose lock
	// it ran, if that one's connection was lost meanwhile: the statement is done.
	ErrLockLost = errors.New("dblocker: the connection to the server is lost on which this request had its user's lock, which another process may have by now: begin again")

	// errGivenBack is what a Store's handle answers after its cancel. It is ErrReleased.
	errGivenBack error = restated{ErrReleased, "dblocker: this handle was given back to the Store by its cancel; use it before that, or get another one"}

	// errClosed has the text of database/sql's own error, which is not exported.
	errClosed = errors.New("sql: database is closed")
)

// A LockError tells that the wait for a user's lock, for the gate of a SQLite
// database or for a server connection ended without it. Nothing was sent to the
// database. Its text has durations in round figures, so that errors of one cause are alike.
type LockError struct {
	User    string        // who wanted it; "" when it was a server connection, or nobody's
	Mode    Mode          // of the lock
	Waited  time.Duration // until the wait was given up
	Blocked time.Duration // how long what was in the way had been there

	// Process is who had the lock, with lock_scope=database, if that was another process and could be told in time;
	// else nil. It is looked for when a wait has ended in vain, for a second at most.
	Process *ProcessInfo

	// Err is [ErrLockTimeout], [ErrDeadlock] or the error of the context.
	Err error

	own     bool   // what was in the way is the caller's own, and the program has to change
	what    string // was waited for
	blocker string // what was in the way
	advice  string // what to do about it; may be empty
}

// Error names what was waited for, how long, and what was in the way.
func (e *LockError) Error() string {
	var b strings.Builder
	if e.Waited == 0 && e.Err == ErrLockTimeout { // by TryLock, or with lock_timeout=0
		fmt.Fprintf(&b, "dblocker: did not wait for %s", e.what)
	} else {
		fmt.Fprintf(&b, "dblocker: waited %s for %s: %v", inRound(e.Waited), e.what, e.Err)
	}
	if e.blocker != "" {
		fmt.Fprintf(&b, "; in the way: %s", e.blocker)
	}
	if e.advice != "" {
		fmt.Fprintf(&b, "; %s", e.advice)
	}
	return b.String()
}

// longText is how many bytes errors and logs have of a tag, and of what a server says of a process.
const longText = 300

// printable returns a text of the program, or of a server, as it is; in quotes and escapes if it has what a terminal or a log would take for something
// else. A long one is cut.
func printable(text string) string {
	if len(text) > longText {
		return printable(plain.Begin(text, longText)) + plain.Rest(text)
	}
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) < 0 {
		return text
	}
	return strconv.Quote(text)
}

// inRound writes a duration with one figure or two.
func inRound(d time.Duration) string {
	switch {
	case d < time.Second:
		return "less than 1s"
	case d < 10*time.Second:
		return d.Round(time.Second).String()
	case d < time.Minute:
		return d.Round(10 * time.Second).String()
	}
	return d.Round(time.Minute).String()
}

// Unwrap returns Err.
func (e *LockError) Unwrap() error { return e.Err }

// A restated error is another one in words that fit a section.
type restated struct {
	error
	text string
}

func (e restated) Error() string { return e.text }
func (e restated) Unwrap() error { return e.error }

var errSectionOfNobody = restated{ErrNoUser, "dblocker: the context carries no user, whose lock the section would take; tag it with dblocker.WithUser, or take dblocker.LockUsers or LockAll"}

// errNoUserAt is ErrNoUser with the place in the program.
func errNoUserAt(site string) error {
	return restated{ErrNoUser, fmt.Sprintf("%v (at %s)", ErrNoUser, site)}
}

// errNoUserOfMany is errNoUserAt on a handle with a database for each user, where nothing belongs to nobody.
func errNoUserOfMany(site string) error {
	return restated{ErrNoUser, fmt.Sprintf("dblocker: the context carries no user, whose database this would be done on; tag it with dblocker.WithUser; "+
		"migrations belong into the option OnOpen, and what is for all users into dblocker.EachUser (at %s)", site)}
}

// nestedExclusive is the error of an exclusive section of a user inside a shared one.
func nestedExclusive(user string) error {
	return restated{ErrReadOnly, fmt.Sprintf("dblocker: an exclusive section of user %s inside a shared one, which only reads; take the outer one with dblocker.Lock", userid.Brief(user))}
}

// givenBack is the error of a Store's handle whose section has ended for the given reason.
func givenBack(reason error) error {
	switch reason {
	case ErrReleased:
		return errGivenBack
	case errClosed:
		return errClosed
	}
	return restated{reason, fmt.Sprintf("dblocker: this handle, of a Store or of OnOpen, has ended with the context that it was asked for with: %v", reason)}
}

// releasedError is the type of ErrReleased.
type releasedError struct{}

func (releasedError) Error() string {
	return "dblocker: the section has ended; do this before its unlock, or with the context from outside of it"
}

func (releasedError) Is(target error) bool { return target == context.Canceled }

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
