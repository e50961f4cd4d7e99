package dblocker

import (
	"context"
	"errors"
	"slices"
	"time"
)

// An Event tells an [Observe] function what has happened. Which fields are set is said with each [EventKind]; the others are zero.
// Later versions may have more kinds and more fields.
type Event struct {
	Kind   EventKind
	Time   time.Time // when it happened
	Engine string    // of the handle: sqlite, postgres, mysql or generic, as [Dialect] has it

	// Context is the one of the call that it happened to, which has the request's trace, if it uses one. It may be done by now. It is nil
	// where no call is concerned.
	Context context.Context

	User string // whose lock, or whose call, it is; "" for nobody's
	What string // what is held or waited for: lock, gate or connection, as in a [HoldInfo]; turn, of a pinned connection; process, a user's lock among processes
	Mode Mode   // of the lock
	Held string // what it is held for, or wanted for: statement, rows, transaction, session or section, as the Kind of a [HoldInfo]
	Tag  string // of the section; with trace=on, also the place in the program

	Wait     int64         // the number of a wait, by which its begin and its end are joined
	Duration time.Duration // how long it has lasted
	Outcome  Outcome       // how it ended

	// Blocker is what was in the way, or nil. BlockerContext is the context of its call if this handle, or another one that is
	// observed, has it.
	Blocker        *HoldInfo
	BlockerContext context.Context

	// Circle is that of a deadlock: the wait that is refused, what is in its way, what the owner of that waits for, and so on. It is empty
	// where the circle does not lie in the lock table alone.
	Circle []HoldInfo

	Waiting   int    // how many wait
	Count     int    // how many calls
	Bytes     int64  // in memory
	Operation string // what the statement does, by its first word, as SELECT; or CONNECT, BEGIN, COMMIT, ROLLBACK, PING

	Err   error  // why it failed
	Code  string // what the database calls Err: the SQLSTATE, the number of MySQL and MariaDB, the result code of SQLite; "" if it is not an error of the database
	Cause string // Err in one word, of few: the Code, or canceled, deadline_exceeded, lock_timeout, deadlock and so on, or the type of what is in it

	// Dropped is how many events were dropped before this one, since the function has not kept up with them.
	Dropped int64
}

// An EventKind says what has happened.
type EventKind string

const (
	// EventWaitBegan: a call has to wait. Context, User, What, Mode, Held, Tag, Wait, Blocker. Of a call that waits for its user's lock and for a gate, What
	// is where something is in its way. A wait for a user's lock among processes, with lock_scope=database, is one by itself: its What is process, its User is "" for
	// all users' lock, and it has no Blocker. At a server it is told when it has lasted for some milliseconds, since no server tells sooner; Time is when it began.
	// So is that for the gate of a file which another process has: its What is gate. A call that gives way to others and asks again waits once.
	EventWaitBegan EventKind = "wait_began"

	// EventWaitEnded: it does not any more. As EventWaitBegan, with Duration, Outcome and, unless it was granted, Err.
	EventWaitEnded EventKind = "wait_ended"

	// EventHoldLong: somebody has been waiting for five seconds. The fields are those of what is in the way: Context, User, What, Mode, Held, Tag,
	// Duration; and Waiting. It is told once in five seconds for each lock, while it is so, by the handle of the one who waits. Of another process Held is process, Duration is
	// of the wait, and the Process of Blocker says who it is, if that could be told.
	EventHoldLong EventKind = "hold_long"

	// EventHoldEnded: what was granted was given up. Context, User, What, Mode, Held, Tag, Duration. It comes with every call, so it is
	// told only to who asks for it.
	EventHoldEnded EventKind = "hold_ended"

	// EventDeadlock: a call gets ErrDeadlock. Context, User, What, Mode, Held, Tag, Duration, Blocker, Circle, Err.
	EventDeadlock EventKind = "deadlock"

	// EventUpgrade: an owner that reads has got its user's lock exclusively too, beside its rows. Context, User, Mode, Held, Tag.
	EventUpgrade EventKind = "upgrade"

	// EventSpill: rows were read into memory to make way for others. Context, User, Bytes.
	EventSpill EventKind = "spill"

	// EventBatch: one caller has run statements of others in a transaction of SQLite. Count of them; Duration of the transaction. See [Combine].
	EventBatch EventKind = "batch"

	// EventSync: a write-ahead log was synced, for the call that has asked first, and for others. Count of the calls so far, Duration, Err. See [Durability].
	EventSync EventKind = "sync"

	// EventSessionLost: a call has lost its connection, and its lock is kept until the server has ended the session. Context, User, What, Held.
	EventSessionLost EventKind = "session_lost"

	// EventLockLost: a section has lost its connection, and with it, with lock_scope=database, its lock among processes: it ends with ErrLockLost. Or a statement has, that
	// ran under the lock of a section or transaction of its request. User, What, Held, Err.
	EventLockLost EventKind = "lock_lost"

	// EventSessionEnded: the server has ended it. Context, User, What, Held, Duration; the Outcome is OutcomeTimeout if cancel_grace passed before that.
	EventSessionEnded EventKind = "session_ended"

	// EventConnOpened: a server connection was opened, or, with Err, could not be. Duration.
	EventConnOpened EventKind = "conn_opened"

	// EventConnClosed: it was closed. Duration since it was opened.
	EventConnClosed EventKind = "conn_closed"

	// EventDatabaseOpened: the database of a user, who has one of their own, was opened, or, with Err, could not be. User, Duration.
	EventDatabaseOpened EventKind = "database_opened"

	// EventDatabaseEvicted: it was closed again, since it was idle, to make room for others, or with the handle. User, Duration since it was opened.
	EventDatabaseEvicted EventKind = "database_evicted"

	// EventOperationEnded: a call at the server, without the waits before it. Context, User, Operation, Duration, Err. It comes with every call, so it is told only
	// to who asks for it.
	EventOperationEnded EventKind = "operation_ended"
)

// An Outcome says how a wait has ended.
type Outcome string

const (
	OutcomeGranted  Outcome = "granted"  // it was had; or whoever had the gate has run the statement
	OutcomeTimeout  Outcome = "timeout"  // lock_timeout has passed
	OutcomeContext  Outcome = "context"  // its context has ended
	OutcomeDeadlock Outcome = "deadlock" // it would not have ended
	OutcomeClosed   Outcome = "closed"   // the handle was closed
	OutcomeFailed   Outcome = "failed"   // the server or the connection has, of a lock among processes
)

// Observe has f called with what happens on the handle: waits, long holds, deadlocks, connections and so on. (It has no form in a DSN.) A kind that comes
// with every call, EventHoldEnded or EventOperationEnded, is told only if it is named in also. Given several times, all are called, but one and the same option once; given to
// several handles, f gets the events of all. Of handles that share a database each has the events of its own calls.
//
// f is called after the fact, one event at a time and in their order, on a goroutine of its own and with nothing of dblocker locked. So it keeps no
// call waiting, however long it takes, and it may use the handle: [Stats], [Holds], its database. Stats and Holds may be
// called with each event: a connection that Holds opens, to ask the database, is not told of. A statement may cause events, of which f is told in turn. f may get
// further behind than 8192 events: then some are dropped, which is logged once, and the next one says how many. So one that never returns keeps its goroutine and 8192 events in memory, with their contexts, and
// nothing else: calls go on, also that of Close. A panic in it is logged, once, and it is called again with the next event.
func Observe(f func(Event), also ...EventKind) Option {
	if f == nil {
		return func(*config) error { return errNoObserver }
	}
	for _, k := range also {
		if !k.isKnown() {
			return func(*config) error { return unknownKind(k) }
		}
	}
	o := newObserver(f, also)
	return func(c *config) error {
		if slices.Contains(c.observers, o) {
			return nil
		}
		c.observers = append(c.observers[:len(c.observers):len(c.observers)], o)
		return nil
	}
}

var errNoObserver = errors.New("dblocker: Observe: got a nil function; leave the option out to observe nothing")
