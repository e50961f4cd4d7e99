// Package scope lets users' locks reach beyond the process, by locks of the database's own engine. It knows which of these
// the process has, on which connections, and gives them up without that anybody waits for it.
//
// The lock of this process comes first, then that of the engine: so whoever asks here has the lock in the process already, and
// what else the process has of the same user is of its own owner, or shared as well.
package scope

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
)

// A Scope takes the locks for one handle.
type Scope struct {
	engine    *server.Locks
	table     *Table
	lockspace string
	proven    atomic.Bool // the locks exclude each other
	permits   permits
	contended contended
}

// New returns that of a handle. Handles of one lock table have one Table.
func New(engine *server.Locks, t *Table, lockspace string) *Scope {
	return &Scope{engine: engine, table: t, lockspace: lockspace, permits: permits{users: t.permits}}
}

// Key returns the key of a user in a lockspace, which is "" if none is named: the SHA-256 of both, so that it is the same in
// every process, whatever name it has connected to the database by.
func Key(lockspace, user string) server.LockKey { return key("user", lockspace, user) }

// KeyOfAll returns the second key: a share of it is taken with every user's lock, and all of it by who locks all users.
func KeyOfAll(lockspace string) server.LockKey { return key("all", lockspace, "") }

func key(kind, lockspace, user string) server.LockKey {
	return sha256.Sum256(fmt.Appendf(nil, "dblocker\x00%s\x00%d\x00%s\x00%s", kind, len(lockspace), lockspace, user))
}

// An Ask is what a call wants.
type Ask struct {
	Users  []string
	All    bool // every user instead
	Shared bool
	Owner  *rwlock.Owner // whose call it is; nil if it is nobody's
	Kind   rwlock.Kind
	Wait   time.Duration
	InTx   bool // a transaction is open on the connection, that the locks are not for
}

// locks returns what is asked of the engine, in the order in which all ask: first for all users, then for each by its key.
// So no two can wait for each other.
func (s *Scope) locks(a Ask) []server.WantedLock {
	if a.All {
		return []server.WantedLock{{Key: KeyOfAll(s.lockspace), Shared: a.Shared}}
	}
	locks := make([]server.WantedLock, 1, 1+len(a.Users))
	locks[0] = server.WantedLock{Key: KeyOfAll(s.lockspace), Shared: true}
	for _, user := range a.Users {
		locks = append(locks, server.WantedLock{Key: Key(s.lockspace, user), Shared: a.Shared})
	}
	slices.SortFunc(locks[1:], func(a, b server.WantedLock) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	return locks
}

// Take takes what is asked for the session of a connection.
func (s *Scope) Take(ctx context.Context, sc *server.Conn, a Ask) (*Grant, error) {
	g, left, returned := s.grant(sc, a), (*Grant)(nil), false
	defer func() { g.endUnless(returned, left) }()
	left = s.takeLeft(sc, a.InTx)
	if g.goesOn(left) {
		returned = true
		return g, nil
	}
	left, err := s.clearWay(ctx, sc, a, left)
	if err != nil {
		returned = true
		return nil, err
	}
	s.table.asks(g.session, 1)
	defer s.table.asks(g.session, -1)
	err = s.engine.Acquire(ctx, sc, g.locks, left.wanted(), a.Wait, a.InTx)
	if returned = true; err != nil {
		return nil, failed(sc, left, err)
	}
	left.goneWith()
	g.enter()
	return g, nil
}

// Begin begins a transaction that has what is asked.
func (s *Scope) Begin(ctx context.Context, sc *server.Conn, a Ask, opts driver.TxOptions) (driver.Tx, *Grant, error) {
	if a.Wait <= 0 && !s.engine.PerTx { // an engine may wait a little to begin one
		g, err := s.Take(ctx, sc, a)
		if err != nil {
			return nil, nil, err
		}
		return s.beginUnder(ctx, sc, g, a, opts)
	}
	g, left, returned := s.grant(sc, a), (*Grant)(nil), false
	defer func() { g.endUnless(returned, left) }()
	left = s.takeLeft(sc, false)
	if g.goesOn(left) {
		returned = true
		return s.beginUnder(ctx, sc, g, a, opts)
	}
	left, err := s.clearWay(ctx, sc, a, left)
	if err != nil {
		returned = true
		return nil, nil, err
	}
	s.table.asks(g.session, 1)
	defer s.table.asks(g.session, -1)
	tx, ends, err := sc.BeginLocked(ctx, g.locks, left.wanted(), a.Wait, opts)
	if returned = true; err != nil {
		return nil, nil, failed(sc, left, err)
	}
	left.goneWith()
	g.endsWithTx = ends
	g.enter()
	return tx, g, nil
}

// beginUnder begins a transaction under what the session has.
func (s *Scope) beginUnder(ctx context.Context, sc *server.Conn, g *Grant, a Ask, opts driver.TxOptions) (driver.Tx, *Grant, error) {
	returned := false
	defer func() { g.endUnless(returned, nil) }()
	tx, _, err := sc.BeginLocked(ctx, nil, nil, a.Wait, opts)
	if returned = true; err != nil {
		g.Release()
		return nil, nil, err
	}
	return tx, g, nil
}

// endUnless is for a driver that has panicked, or ended the goroutine, instead of returning: some of the locks may be had. So the connection
// is not used again, and what is known of its locks, and of what rested on it, is gone with it.
func (g *Grant) endUnless(returned bool, left *Grant) {
	if returned {
		return
	}
	g.conn.Fail()
	g.Forget()
	if left == nil {
		return
	}
	select {
	case <-left.released: // by then
	default:
		left.leave()
	}
}

// takeLeft takes over what rests on a connection; nil if nothing does. In a transaction of the program's it is given up first.
func (s *Scope) takeLeft(sc *server.Conn, inTx bool) *Grant {
	left, _ := sc.TakeLeft().(*Grant)
	if left != nil && inTx {
		left.GiveUp()
		return nil
	}
	return left
}

// failed keeps a connection from being used again of which nobody knows what locks it has. left was to be given up, and is.
func failed(sc *server.Conn, left *Grant, err error) error {
	left.goneWith()
	var f *server.LockFailure
	switch {
	case errors.Is(err, server.ErrLockGone):
		sc.FailUnlocking(err)
		return driver.ErrBadConn // nothing was done by it for who asks
	case !errors.As(err, &f):
		sc.Fail()
	}
	return err
}

func (s *Scope) grant(sc *server.Conn, a Ask) *Grant {
	return &Grant{scope: s, conn: sc, ask: a, locks: s.locks(a), session: s.engine.Session(sc)}
}

// clearWay has what the process has left of the locks given up, where that is in the way, and waits for it: to have asked the server
// before that would be in vain. Whoever waits has nothing left that others may wait for: it returns what is left on the connection of
// the caller.
func (s *Scope) clearWay(ctx context.Context, sc *server.Conn, a Ask, left *Grant) (*Grant, error) {
	inTheWay := s.inTheWay(sc, a)
	if len(inTheWay) == 0 {
		return left, nil
	}
	left.drop()
	if a.Wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.Wait)
		defer cancel()
	}
	for _, g := range inTheWay {
		g.conn.Hurry()
		select {
		case <-g.released:
		case <-ctx.Done():
			return nil, &server.LockFailure{Err: ctx.Err()}
		}
	}
	return nil, nil
}

func (s *Scope) inTheWay(sc *server.Conn, a Ask) []*Grant {
	return s.table.those(a, func(g *Grant) bool { return g.released != nil && g.conn != sc && !(a.Shared && g.ask.Shared) })
}

// IsLeft tells whether a lock of a user rests on a connection, which the next call of the user can go on under.
func (s *Scope) IsLeft(user string) bool {
	t := s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.grants[user], func(g *Grant) bool { return g.released != nil && !g.endsWithTx && !s.engine.PerTx })
}

// Kin returns what the owner has of the user, in the process, on whatever connection. Nobody has nothing.
func (s *Scope) Kin(user string, o *rwlock.Owner) []*Grant {
	if o == nil {
		return nil
	}
	return s.table.those(Ask{Users: []string{user}}, func(g *Grant) bool { return g.released == nil && g.ask.Owner.InLine(o) })
}

// Watch returns a function that tells whether the server has ended the session of an idle connection; nil if that cannot be known.
func (s *Scope) Watch(sc *server.Conn) func() (ended, known bool) {
	if s.engine.Watch == nil {
		return nil
	}
	return s.engine.Watch(sc)
}

// Drops tells whether a statement may have given up locks of its session.
func (s *Scope) Drops(query string) bool { return s.engine.Drops != nil && s.engine.Drops(query) }

// Check looks at a new connection, and at the first ones also whether the locks are any: it takes one on each of two
// connections, of which beside opens the other.
func (s *Scope) Check(ctx context.Context, sc *server.Conn, beside func(context.Context) (*server.Conn, error)) error {
	if err := s.engine.Check(ctx, sc); err != nil || s.proven.Load() {
		return err
	}
	if err := s.place(ctx, sc); err != nil {
		return err
	}
	other, err := beside(ctx)
	if err != nil {
		return err
	}
	defer other.Close()
	if err := s.engine.Check(ctx, other); err != nil {
		return err
	}
	if err := s.prove(ctx, sc, other); err != nil {
		return err
	}
	s.proven.Store(true)
	return nil
}

// place keeps handles of one lockspace to one database: elsewhere their locks would not be the same.
func (s *Scope) place(ctx context.Context, sc *server.Conn) error {
	if s.lockspace == "" || s.engine.Where == nil {
		return nil
	}
	here, err := s.engine.Where(ctx, sc)
	if err != nil {
		return err
	}
	if there := s.table.Place(here); there != here {
		return fmt.Errorf("dblocker: lock_scope=database: handles of lockspace %q are open on two databases, %s and %s, and a lock of the server is of one database: "+
			"give each database a lockspace of its own, or leave lockspace out", s.lockspace, there, here)
	}
	return nil
}

// proveWait is how long a lock may take that nobody has.
const proveWait = 5 * time.Second

// prove takes a lock that is nobody's on two connections, which is to be refused, and then to be had.
func (s *Scope) prove(ctx context.Context, a, b *server.Conn) error {
	if of := s.engine.Session; of != nil && of(a) != "" && of(a) == of(b) {
		return errOneSession
	}
	return s.exclude(ctx, a, b)
}

var errOneConnection = errors.New("dblocker: lock_scope=database: two connections could not take turns with a lock of the server within five seconds: " +
	"behind a pooler they need two connections to the server, so its pool must have room for them (default_pool_size)")

func (s *Scope) exclude(ctx context.Context, a, b *server.Conn) error {
	locks := []server.WantedLock{{}}
	rand.Read(locks[0].Key[:])
	if err := s.engine.Acquire(ctx, a, locks, nil, proveWait, false); err != nil {
		return fmt.Errorf("dblocker: lock_scope=database: trying a lock of the server: %w", err)
	}
	var f *server.LockFailure
	shared := []server.WantedLock{{Key: locks[0].Key, Shared: true}}
	for _, wanted := range [][]server.WantedLock{locks, shared} {
		if err := s.tryBeside(ctx, a, b, locks, wanted); err == nil {
			return excludesNot(ctx, a)
		} else if err == errOneConnection {
			return err
		} else if !errors.As(err, &f) {
			return fmt.Errorf("dblocker: lock_scope=database: trying a lock of the server: %w", err)
		}
	}
	for _, try := range []func() error{
		func() error { return s.engine.Release(ctx, a, locks) },
		func() error { return s.engine.Acquire(ctx, b, locks, nil, proveWait, false) },
		func() error { return s.engine.Release(ctx, b, locks) },
	} {
		if err := try(); err != nil {
			return fmt.Errorf("dblocker: lock_scope=database: trying a lock of the server: %w", err)
		}
	}
	return nil
}

// tryBeside tries a lock on b that a has. Behind a pooler that has no more than one connection to the server, b waits for that of a; then a gives its lock up.
func (s *Scope) tryBeside(ctx context.Context, a, b *server.Conn, locks, wanted []server.WantedLock) error {
	if !s.engine.PerTx {
		return s.engine.Acquire(ctx, b, wanted, nil, 0, false)
	}
	given := make(chan struct{})
	patience := time.AfterFunc(proveWait, func() {
		defer close(given)
		defer func() {
			if recover() != nil {
				a.Fail()
			}
		}()
		s.engine.Release(context.WithoutCancel(ctx), a, locks)
	})
	err := s.engine.Acquire(ctx, b, wanted, nil, 0, false)
	if patience.Stop() {
		return err
	}
	<-given
	return errOneConnection
}

// excludesNot is the error of a lock that another had beside a; but if the session of a has ended meanwhile, that has given it up.
func excludesNot(ctx context.Context, a *server.Conn) error {
	if _, err := a.QueryText(ctx, "SELECT 1"); err != nil {
		return fmt.Errorf("dblocker: lock_scope=database: trying a lock of the server: %w", err)
	}
	return errNoExclusion
}

var errOneSession = errors.New("dblocker: lock_scope=database cannot be had here: two connections have one session of the server, to which a lock of one is that of the other; " +
	"a pooler between must give each client a session of its own (pool_mode=session), or connect to the server itself")

var errNoExclusion = errors.New("dblocker: lock_scope=database cannot be had here: two connections had one lock of the server at the same time, so its locks exclude nobody; " +
	"connect to the server itself, or to one that has them, or leave lock_scope out, and the locks reach as far as this process")
