package dblocker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/calmdocs/dblocker/internal/plain"
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
