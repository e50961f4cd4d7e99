package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/bytelock"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
	"github.com/calmdocs/dblocker/internal/userid"
)

// LockScope says how far users' locks reach (DSN: lock_scope). The default is [ProcessScope]. Where an engine, or what stands
// between it and the program, cannot keep what [DatabaseScope] promises, to open the handle is an error that says so.
func LockScope(s LockScopePolicy) Option { return option("lock_scope", string(s)) }

// LockReaders is how many may share a user's lock at the same time on MySQL and MariaDB with [DatabaseScope], in all processes
// (DSN: lock_readers, from 1 to 64). The default is 4. These engines' locks have no shared mode: a lock is so many names, of which
// a reader takes one and a writer all, which costs some 3 µs each. All processes must say the same number, or their locks do
// not exclude each other.
func LockReaders(n int) Option { return option("lock_readers", strconv.Itoa(n)) }

func (c *config) setLockReaders(v string) (err error) {
	if c.lockReaders, err = strconv.Atoi(v); err != nil || c.lockReaders < 1 || c.lockReaders > 64 {
		return errBadValue
	}
	return nil
}

// Pooler says what there may be between the program and a PostgreSQL server (DSN: pooler). The default is [NoPooler].
func Pooler(p PoolerPolicy) Option { return option("pooler", string(p)) }

// A PoolerPolicy says what stands between the program and the server.
type PoolerPolicy string

const (
	// NoPooler is the server itself. A connection pooler such as pgbouncer that is seen nevertheless is taken for one that may run each transaction in
	// another session of the server: no statements are kept prepared, and [DatabaseScope] is refused.
	NoPooler PoolerPolicy = "none"

	// SessionPooler is a pooler that serves each client by one session of the server for as long as it is connected, as pgbouncer does with
	// pool_mode=session. Behind another one locks among processes would keep nobody out: where that shows, as when the handle is opened, it is refused.
	SessionPooler PoolerPolicy = "session"

	// TransactionPooler is a pooler that may run each transaction in another session of the server, as pgbouncer does with pool_mode=transaction. No statements are
	// kept prepared, nothing is set in a session, and pgx gets default_query_exec_mode=exec if its connection string does not say how it is to run statements.
	//
	// With [DatabaseScope] a user's lock is one of a transaction: BeginTx has it from its BEGIN, and a statement by itself runs as BEGIN with the lock, statement, and
	// COMMIT. Sections, [LockUsers], [LockAll], the handles of a Store, and transactions written in SQL are refused.
	TransactionPooler PoolerPolicy = "transaction"
)

func (c *config) setPooler(v string) error {
	switch p := PoolerPolicy(v); p {
	case NoPooler, SessionPooler, TransactionPooler:
		c.pooler = p
		return nil
	}
	return errBadValue
}

// A reachConfig is the options of how far locks reach.
type reachConfig struct {
	lockScope   LockScopePolicy
	lockReaders int
	pooler      PoolerPolicy
}

// A LockScopePolicy says how far users' locks reach.
type LockScopePolicy string

const (
	// ProcessScope has users' locks keep apart what is done in this process.
	ProcessScope LockScopePolicy = "process"

	// DatabaseScope has them keep apart what is done in all processes that have opened the database so, by locks of the database's
	// own engine, on the connection that does the work: a write cannot come after its lock is gone. All
	// processes, and all handles on the database, must be opened so, and with the same lockspace. It is for MySQL and MariaDB, with go-sql-driver, for PostgreSQL, with lib/pq or
	// pgx, without a pooler between or with a [SessionPooler] or [TransactionPooler], and for SQLite.
	//
	// A section runs on one connection, on which its calls take turns, as with [Pin]. If that is lost, the section ends with
	// [ErrLockLost].
	//
	// On SQLite it is for the processes of one host, on Linux and macOS, and for a file on a local disk. The locks are bytes of a file beside the database,
	// whose name has "-locks" at its end. It is made when it is needed, and is never to be deleted while a process
	// runs; whoever uses the database needs the right to write to it. The locks belong to the process, and not to a connection: its end gives
	// them up, also by SIGKILL, and nothing else loses them. Processes that wait for each other in a circle are
	// not found: that ends with lock_timeout. A database in memory has no other processes, so there it is as [ProcessScope].
	DatabaseScope LockScopePolicy = "database"
)

// refuseLockScope is the error of locks that are to reach beyond the process on an engine that has none for that.
func (c *config) refuseLockScope() error {
	if c.lockScope == DatabaseScope && c.engine.Locks == nil && !c.engine.Gated {
		return fmt.Errorf("dblocker: lock_scope=database is not to be had on the engine %s yet: it is there on PostgreSQL, MySQL, MariaDB and SQLite; leave the option out, and users' locks reach as far as this process", c.engine.Name)
	}
	if c.lockScope == DatabaseScope && c.pooler == TransactionPooler && c.engine.PooledLocks == nil {
		return fmt.Errorf("dblocker: lock_scope=database with pooler=transaction is for PostgreSQL, and not to be had on the engine %s", c.engine.Name)
	}
	return nil
}

// checkReach is the rest of it, for a database that is known; s is nil if it is no SQLite file by a DSN.
func (c *config) checkReach(s *sqlite.Connector) error {
	if c.lockScope != DatabaseScope || !c.engine.Gated {
		return nil
	}
	if err := s.RefuseReach(); err != nil || !s.IsOfAFile() {
		return err
	}
	if err := bytelock.Check(); err != nil {
		return fmt.Errorf("dblocker: lock_scope=database: %w", err)
	}
	return nil
}

// With lock_scope=database, whoever has a user's lock of this process takes one of the engine's with it, on the connection
// that is going to do the work, and before that has done any. It gives that one up with the lock: see locks.Hold.
//
// Three need none: what is inside a section or a transaction that has it, on the connection of that; and what the
// owner does beside a Tx, rows or a section of its own that have it, since it would wait for itself there, where
// nobody sees it. That runs under their lock, and they cannot end before it but by losing their connection, which it asks for.

// reach takes the engine's locks, on sc, for what a statement has of those of the process: h, and what its
// transaction has. If it runs under a lock that is held elsewhere, the use of that is returned, which h has.
func (c *conn) reach(ctx context.Context, adm *admission, h *locks.Hold, sc *server.Conn) (under *scope.Use, err error) {
	if c.isPerTx() {
		if err := c.refusePooled(adm, h); err != nil {
			return nil, err
		}
	}
	var raw *locks.Hold // of the transaction that it begins
	if adm.raw != nil && adm.raw.from == nil {
		raw = &adm.raw.hold
		h = raw
	}
	if under, err = c.reachFor(ctx, h, sc); err != nil {
		return nil, err
	}
	if under != nil && h == raw {
		return nil, errTxElsewhere
	}
	if under != nil && adm.Statement.Kind != sqltext.Read {
		if err := c.tellUnder(ctx, checkFirst(ctx, under, sc)); err != nil {
			return nil, err // it would write without a lock
		}
	}
	for t := c.transaction; t != nil; t = t.outer {
		for i, joined := range t.joined {
			if _, err := c.reachFor(ctx, joined, sc); err != nil {
				t.joined = slices.Delete(t.joined, i, i+1) // the user has not joined
				c.release(joined)
				return nil, err
			}
		}
	}
	sc.TxSent = true
	if t := c.transactionOnServer(); t == nil || t.inSQL() {
		sc.TxLevel = server.LevelUnknown
	}
	return under, nil
}

// lookReach looks whether a statement, which was sent, may have given up the engine's locks. Then they are lost, as if the connection were.
func (c *conn) lookReach(adm *admission) {
	sc := c.drawn.Conn
	if sc == nil || sc.Locked == 0 || !c.backend.Scope.Drops(adm.Query) {
		return
	}
	sc.Fail()
	if c.pinned != nil {
		c.pinned.lose()
	}
}

// reachFor does it for one hold.
func (c *conn) reachFor(ctx context.Context, h *locks.Hold, sc *server.Conn) (under *scope.Use, err error) {
	if under, _ := h.Reach.(*scope.Use); under != nil { // of a try on another connection
		return under, c.beginBeside(ctx, under, sc)
	}
	ask, needs := c.askFor(h, sc)
	if !needs {
		return c.elsewhere(h, sc), nil
	}
	if under, err = c.besideOwn(ctx, h, ask); err != nil {
		return nil, err
	} else if under != nil {
		return under, c.beginBeside(ctx, under, sc)
	}
	claimToAsk(sc)
	ask.InTx = c.transactionOnServer() != nil
	if c.pinned == nil && single(ask) {
		if fold, g := c.backend.Scope.Fold(sc, ask); g != nil {
			c.has(h, g)
			return nil, nil
		} else if fold != nil {
			c.owe(fold, h, ask)
			return nil, nil
		}
	}
	return nil, c.askServer(ctx, h, ask, func(ask scope.Ask) (g *scope.Grant, err error) {
		return c.backend.Scope.Take(ctx, sc, ask)
	})
}

// owe has the statement ask for its lock itself, if the driver can do that; else the lock is asked for before.
func (c *conn) owe(fold *scope.Fold, h *locks.Hold, ask scope.Ask) {
	began := time.Now()
	fold.Owe(func(g *scope.Grant) { c.has(h, g) }, func(ctx context.Context) error {
		return c.askServer(ctx, h, ask, func(ask scope.Ask) (*scope.Grant, error) { return fold.Take(ctx, ask.Wait) })
	}, func(ctx context.Context, err error) error {
		return c.db.reachError(ctx, c.backend, err, ask, time.Since(began))
	})
}

// askServer has take ask the server for a lock, which the hold has then too.
func (c *conn) askServer(ctx context.Context, h *locks.Hold, ask scope.Ask, take func(scope.Ask) (*scope.Grant, error)) error {
	var g *scope.Grant
	w := c.reachWait()
	err := w.take(ctx, c.db, c.backend, ask, func(ask scope.Ask) (err error) {
		g, err = take(ask)
		return err
	})
	switch err {
	case nil:
		c.has(h, g)
		return nil
	case errQueues:
		return err
	}
	if ctx.Err() != nil && errors.Is(err, driver.ErrBadConn) { // lib/pq says so of a wait that it has cut off; on a sql.Conn the program would see it
		if sc := c.drawn.Conn; sc != nil {
			sc.Fail()
		}
		err = ctx.Err()
	}
	return c.db.reachError(ctx, c.backend, err, ask, w.inAll)
}

// askFor returns what a hold needs of the engine, on sc; nothing if it has a place in a section instead. What it
// has on another connection it had before that turned out to be of no use.
func (c *conn) askFor(h *locks.Hold, sc *server.Conn) (ask scope.Ask, needs bool) {
	mode, held := h.Lock.HeldMode()
	if !held || h.User == "" {
		return scope.Ask{}, false
	}
	if g, ok := h.Reach.(*scope.Grant); ok {
		if g.Conn() == sc {
			return scope.Ask{}, false
		}
		h.ForgetReach()
	}
	return scope.Ask{Users: []string{h.User}, Shared: mode == rwlock.Shared, Owner: h.Lock.Owner, Kind: h.Lock.Kind, Wait: c.db.lockTimeout}, true
}

// has notes what the hold has of the engine's locks.
func (c *conn) has(h *locks.Hold, g *scope.Grant) {
	h.Reach = g
	if p := c.pinned; p != nil {
		g.KeepBy(p)
	} else {
		g.KeepBy((*sweptConn)(c))
	}
}

// claimToAsk is for who asks for locks on a connection next: rows of its own may have made way there, and others of its owner have left what was kept
// for them.
func claimToAsk(sc *server.Conn) {
	sc.GiveUpKept()
	sc.Claim()
}

// single tells whether the ask is that of a statement by itself.
func single(ask scope.Ask) bool { return ask.Kind == rwlock.Leaf || ask.Kind == rwlock.Rows }

// beginReaching begins a transaction that has the engine's lock for what h has of that of the process.
func (c *conn) beginReaching(ctx context.Context, h *locks.Hold, sc *server.Conn, opts driver.TxOptions) (driver.Tx, error) {
	ask, needs := c.askFor(h, sc)
	if !needs && c.elsewhere(h, sc) != nil { // which h gives up, as nothing comes of it
		return nil, errTxElsewhere
	}
	if !needs {
		return sc.BeginTx(ctx, opts)
	}
	if _, err := c.besideOwn(ctx, h, ask); err != nil {
		return nil, err
	}
	claimToAsk(sc)
	var tx driver.Tx
	err := c.askServer(ctx, h, ask, func(ask scope.Ask) (g *scope.Grant, err error) {
		tx, g, err = c.backend.Scope.Begin(ctx, sc, ask, opts)
		return g, err
	})
	return tx, err
}

// reachError says in the terms of a user of dblocker why a lock of the engine could not be had.
func (c *handle) reachError(ctx context.Context, b *backend.Backend, err error, ask scope.Ask, waited time.Duration) error {
	var f *server.LockFailure
	var w *rwlock.WaitError // for a permit
	failed, queued := errors.As(err, &f), errors.As(err, &w)
	switch {
	case failed && f.Refused:
		return f.Err
	case queued && w.Err == rwlock.ErrClosed:
		return errClosed
	}
	e := &LockError{Mode: Exclusive, Waited: waited, Err: ErrLockTimeout, what: describeReach(ask)}
	if ask.Shared {
		e.Mode = Shared
	}
	if !ask.All {
		e.User = ask.Users[0]
	}
	e.blocker = "another process"
	switch {
	case queued && w.Err != rwlock.ErrTimeout && w.Err != rwlock.ErrDeadlock:
		e.Err = w.Err // of the context
	case ctx.Err() != nil && !errors.Is(err, driver.ErrBadConn):
		e.Err = ctx.Err()
	case !failed && !queued:
		return err
	case queued && w.Err == rwlock.ErrDeadlock, failed && f.Deadlock:
		e.Err, e.advice = ErrDeadlock, outOfLocks
	case ask.Wait <= 0:
		e.Waited = 0
		return e
	}
	c.blameProcess(b, e, ask)
	return e
}

// describeReach names what is waited for.
func describeReach(ask scope.Ask) string {
	mode := Exclusive
	switch {
	case ask.All:
		return "the lock of all users among the processes on the database"
	case ask.Shared:
		mode = Shared
	}
	return fmt.Sprintf("the %v lock of user %s among the processes on the database", mode, userid.Brief(ask.Users[0]))
}
