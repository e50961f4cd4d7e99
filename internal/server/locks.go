package server

import (
	"context"
	"database/sql/driver"
	"errors"
	"time"
)

// A LockKey names a lock of the engine. It is a hash, of which an engine takes as much as its names have room for.
type LockKey [32]byte

// A WantedLock is a lock of the engine, in a mode.
type WantedLock struct {
	Key    LockKey
	Shared bool
}

// Locks are those of an engine that reach beyond the process, and belong to a session: whoever has one has it on the
// connection that does the work, and no longer than that lives. Each function gets all locks that a call wants, in the
// order in which all ask for them.
type Locks struct {
	// PerTx tells that a lock is one of a transaction: Acquire begins one, if none is open, for a single statement to run in, and Release commits it, or rolls
	// it back if a statement has failed in it. Begin also takes no time at all to wait. Session is called for each lock, and names what has it.
	PerTx bool

	// Check looks at a new connection, and returns the error to refuse the database with if a lock on it
	// would not be what it seems: a replica, a pooler that gives the next statement to another session.
	Check func(ctx context.Context, sc *Conn) error

	// Acquire takes the locks for the session, and waits as long as ctx and wait allow; not at all if wait is 0. If it
	// fails it has none of them, or the connection has failed. A wait in vain is a *LockFailure. inTx: a transaction is
	// open, that of the program, which goes on if Acquire fails. left are locks that an earlier Acquire has taken, and that it
	// gives up before: it fails with ErrLockGone if the session had not all of them.
	Acquire func(ctx context.Context, sc *Conn, locks, left []WantedLock, wait time.Duration, inTx bool) error

	// Release gives up what Acquire has taken. After an error the connection is of no more use.
	Release func(ctx context.Context, sc *Conn, locks []WantedLock) error

	// Begin begins a transaction which has the locks until it ends, and had them before it saw anything of the database.
	// ends tells that they end with it; else they are to be released after it. It fails as Acquire does, or with ErrSkip if it cannot
	// with the driver. If nil, or after that, Acquire comes before the transaction, and Release after it. Without locks
	// it only begins one.
	Begin func(ctx context.Context, sc *Conn, locks, left []WantedLock, wait time.Duration, opts driver.TxOptions) (tx driver.Tx, ends bool, err error)

	// Folds tells whether Exec and Query may do something on a connection.
	Folds func(sc *Conn) bool

	// Exec and Query run a statement under locks for which they ask in the same message. left is as for Acquire.
	Exec  func(ctx context.Context, sc *Conn, locks, left []WantedLock, s *Call) (driver.Result, Folded, error)
	Query func(ctx context.Context, sc *Conn, locks, left []WantedLock, s *Call) (driver.Rows, Folded, error)

	// Has tells whether the session holds the locks, asked through another connection.
	Has func(ctx context.Context, sc *Conn, session string, locks []WantedLock) (bool, error)

	// Holders returns who has the locks, asked through another connection. Who has a lock may be there more than once.
	Holders func(ctx context.Context, sc *Conn, locks []WantedLock) ([]LockHolder, error)

	// Session names the session of a connection, for Has.
	Session func(sc *Conn) string

	// Where names what the locks are of, if not all that the server has: a database. If nil, there is nothing to tell.
	Where func(ctx context.Context, sc *Conn) (string, error)

	// Watch returns a function that tells whether the server has ended the session of a connection that nobody is at work
	// on, as far as that can be known without to send anything. It may be nil, and return nil.
	Watch func(sc *Conn) func() (ended, known bool)

	// Drops tells of a statement, which was sent, that it may have given up locks of the session.
	Drops func(query string) bool
}

// A LockFailure is of a lock of the engine that could not be had. Nothing else was done.
type LockFailure struct {
	Deadlock bool // which the server has found; else the time has passed
	Refused  bool // neither: Err says why it is not to be had
	Err      error
}

func (e *LockFailure) Error() string { return e.Err.Error() }
func (e *LockFailure) Unwrap() error { return e.Err }

// ErrLockGone is of a lock that is to be given up, and that the session has not any more.
var ErrLockGone = errors.New("dblocker: a lock of the server was gone")

// BeginLocked begins a transaction that has locks of the engine until it ends. ends tells that they end with it; else
// they are to be released after it. left is as for Acquire. Without locks it has those that the session has already.
func (sc *Conn) BeginLocked(ctx context.Context, locks, left []WantedLock, wait time.Duration, opts driver.TxOptions) (tx driver.Tx, ends bool, err error) {
	l := sc.cfg.Locks()
	if l.Begin != nil {
		tx, ends, err := l.Begin(ctx, sc, locks, left, wait, opts)
		if err == nil {
			sc.TxLevel, sc.TxSent = opts.Isolation, false
			return &serverTx{tx, sc, ctx}, ends, nil
		}
		if !errors.Is(err, driver.ErrSkip) {
			return nil, false, err
		}
	}
	if len(locks) > 0 {
		if err := l.Acquire(ctx, sc, locks, left, wait, false); err != nil {
			return nil, false, err
		}
	}
	tx, err = sc.BeginTx(ctx, opts)
	return tx, false, err
}

// Later runs f, which has the connection then, on a goroutine of its own, after those that it was called with before.
// Until all have returned the connection is busy: see Settle. Whoever has drawn it calls this, and gives it back by
// another f if it is not to wait.
func (sc *Conn) Later(f func()) {
	before, done := sc.settling, make(chan struct{})
	sc.settling = done
	go func() {
		defer close(done)
		if before != nil {
			<-before
		}
		sc.Wake() // so that it is alone there
		if panicked := sc.cfg.contain(f); panicked != nil {
			sc.broken = true
		}
	}()
}

// IsSettling tells whether somebody is at work on the connection whom Later has let, or may begin to be.
func (sc *Conn) IsSettling() bool {
	if sc == nil {
		return false
	}
	if rests := sc.rest.state.Load(); rests == resting || rests == givingUp {
		return true
	}
	if sc.settling == nil {
		return false
	}
	select {
	case <-sc.settling:
		sc.settling = nil
		return false
	default:
		return true
	}
}

// LevelUnknown is the level of a transaction that was not begun by BeginTx.
const LevelUnknown driver.IsolationLevel = -1

// LockReaders is how many may share a lock that has no shared mode of its own; 0 for the engine's default.
func (sc *Conn) LockReaders() int { return sc.cfg.LockReaders }

// HasSessionPooler tells whether there may be a pooler between that serves each client by one session of the server.
func (sc *Conn) HasSessionPooler() bool { return sc.cfg.SessionPooler }

// IsShut tells whether it is closed.
func (sc *Conn) IsShut() bool { return sc.closed }

// FailUnlocking is Fail for a connection whose server has not given up its locks: to close it does.
func (sc *Conn) FailUnlocking(err error) {
	sc.Fail()
	sc.cfg.Logger.Warn("dblocker: a lock of the server was not there any more, or could not be given up, and the connection was closed; "+
		"what runs under lock_scope=database must leave the server's advisory locks to dblocker", "error", err)
}

// FailEnding is Fail for a connection on which the transaction around a statement that reads could not be ended.
func (sc *Conn) FailEnding(err error) {
	sc.Fail()
	if !errors.Is(err, driver.ErrBadConn) {
		sc.cfg.Logger.Warn("dblocker: the transaction in which a statement that only reads has run, as pooler=transaction asks for, could not be committed, and the connection was closed", "error", err)
	}
}

// Settle waits until nobody is, and gives up the lock that rests. sc may be nil.
func (sc *Conn) Settle() {
	if sc == nil {
		return
	}
	if sc.settling != nil {
		sc.settle()
	}
	if sc.rest.state.Load() != nothing {
		sc.giveUpRest()
	}
}

// Claim is Settle for who leaves the lock as it is: with Wake, LieDown is to follow.
func (sc *Conn) Claim() {
	if sc != nil && sc.settling != nil {
		sc.settle()
	}
	sc.Wake()
}

func (sc *Conn) settle() {
	<-sc.settling
	sc.settling = nil
}
