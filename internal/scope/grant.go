package scope

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
)

// A Table knows what the process has of the engine's locks, of one database or lockspace.
type Table struct {
	mu     sync.Mutex // guards what follows, and what a Grant says that it does
	grants map[string][]*Grant
	asking map[string]int // sessions that ask for some; see asks
	where  string         // what the locks are of; "" before that is known

	permits *rwlock.Table // of users, to wait at the server; set by the first who opens it so that the locks reach

	opened  bool // a handle has the locks, so that it is known how far they
	reaches bool // reach
}

// Open is for a handle whose locks are to reach beyond the process, or not. All that share locks must agree: else what one of them
// does under a lock, the other processes would not see.
func (t *Table) Open(reaches bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.opened {
		t.opened, t.reaches = true, reaches
		if reaches {
			t.permits = rwlock.NewTable()
		}
	}
	if t.reaches == reaches {
		return nil
	}
	return errMixed
}

var errMixed = errors.New("dblocker: the database is open in this process both with lock_scope=database and without: its handles share their locks, so open all of them in one way")

// Place says where the locks are, if nobody has yet, and returns where they are.
func (t *Table) Place(here string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.where == "" {
		t.where = here
	}
	return t.where
}

// allUsers is the key of those grants that are of all users. No user's ID is empty.
const allUsers = ""

// those returns the grants of the users of a that are so. Grants of all users are of each.
func (t *Table) those(a Ask, are func(*Grant) bool) (found []*Grant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.All {
		for _, all := range t.grants {
			found = append(found, all...)
		}
	} else {
		found = append(found, t.grants[allUsers]...)
		for _, user := range a.Users {
			found = append(found, t.grants[user]...)
		}
	}
	return slices.DeleteFunc(found, func(g *Grant) bool { return !are(g) })
}

// A Grant is what the process has of the engine's locks by one call, on one connection.
//
//	          in the table   at the server
//	held      yes            held, while the connection lives
//	kept      yes            held: who has taken it has ended, and others of its owner work under it
//	released  yes            while it rests on the connection, and until the server has answered
//	gone      no             given up, ended with the transaction or the connection, or that of the next call
//
// Whoever relies on it is counted: who has taken it, until Release, and who has joined it. The last one gives it up. So no call outlives the lock
// that it works under, unless that goes with its connection, or with the transaction that has it. While it is kept, so is its connection, by
// whoever has that: see server.Conn.Keep.
type Grant struct {
	scope      *Scope
	conn       *server.Conn
	ask        Ask
	locks      []server.WantedLock
	session    string // of conn, by which others ask the server for it
	endsWithTx bool   // the server gives it up with the transaction

	runs  int       // calls that have gone on under the same lock
	since time.Time // that the server has given it; zero if nobody can go on under it

	keeper Keeper // of the connection; set by who has taken it

	// The mutex of the table guards these.
	joined   int           // who relies on it besides
	kept     bool          // who has taken it does not any more
	unused   chan struct{} // closed when a kept one is released; nil if it was never kept
	released chan struct{} // closed when it is gone; nil while it is held or kept
	ended    bool          // with its transaction, whoever relied on it
}

// A Keeper has, or had, the connection of a lock that was kept. Unused tells it that the connection has a lock which nobody relies on any more. It must not
// wait.
type Keeper interface{ Unused() }

func (a Ask) names() []string {
	if a.All {
		return []string{allUsers}
	}
	return a.Users
}

// A run is bounded by the number of calls that go on under one lock, and by time, for other processes to come in between: who asks
// for the lock anew is behind them.
const (
	longestRun = 16
	runTime    = 10 * time.Millisecond
)

// goesOn makes it held by what rests on its connection, which may be nil, and reports false if that cannot be.
func (g *Grant) goesOn(left *Grant) bool {
	if left == nil || left.runs >= longestRun || left.ask.Shared != g.ask.Shared || !slices.Equal(left.locks, g.locks) || time.Since(left.since) > runTime {
		return false
	}
	g.runs, g.since = left.runs+1, left.since
	g.conn.Locked++
	g.replace(left)
	return true
}

// replace has it in the table instead of left.
func (g *Grant) replace(left *Grant) {
	t := g.scope.table
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range g.ask.names() {
		all := t.grants[name]
		all[slices.Index(all, left)] = g
	}
	close(left.released)
}

// enter makes it held.
func (g *Grant) enter() {
	g.since = time.Now()
	if !g.endsWithTx {
		g.conn.Locked++
	}
	t := g.scope.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.grants == nil {
		t.grants = make(map[string][]*Grant)
	}
	for _, name := range g.ask.names() {
		t.grants[name] = append(t.grants[name], g)
	}
}

// leave makes it gone. The second time it does nothing.
func (g *Grant) leave() {
	t := g.scope.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if g.isGone() {
		return
	}
	for _, name := range g.ask.names() {
		if left := slices.DeleteFunc(t.grants[name], func(o *Grant) bool { return o == g }); len(left) > 0 {
			t.grants[name] = left
		} else {
			delete(t.grants, name)
		}
	}
	if g.released != nil {
		close(g.released)
	}
}

// isGone has the mutex.
func (g *Grant) isGone() bool {
	select {
	case <-g.released: // never, if it is nil
		return true
	default:
		return false
	}
}

// releasing makes it released, or kept, and reports which; neither if it was that before.
func (g *Grant) releasing(lost bool) (released, kept bool) {
	g.scope.table.mu.Lock()
	defer g.scope.table.mu.Unlock()
	switch {
	case g.released != nil || g.kept && !lost:
		return false, false
	case g.joined > 0 && !lost:
		g.kept, g.unused = true, make(chan struct{})
		return false, true
	}
	g.released, g.ended = make(chan struct{}), (g.endsWithTx || g.scope.engine.PerTx) && !g.conn.HasFailed()
	if g.unused != nil {
		close(g.unused)
	}
	return true, false
}

// releaseTime is how long the server may take to give a lock up. After that the connection is closed, which does it too.
const releaseTime = 10 * time.Second

// Release gives it up, if nobody else relies on it. It does not wait for the server: until that has answered, the connection is settling. Whoever
// calls it has the connection. The second time it does nothing.
func (g *Grant) Release() {
	// The end of the transaction, or of the session, gives it up. While somebody gives up another lock there, only that one knows how it fares.
	ended := g.endsWithTx || !g.conn.IsSettling() && (g.conn.HasFailed() || g.conn.IsShut())
	switch released, kept := g.releasing(ended || g.scope.engine.PerTx); {
	case kept:
		g.conn.Keep(g)
	case !released:
	case ended:
		g.leave()
	case g.rests():
	default:
		g.conn.Later(g.giveUpLocked)
	}
}

func (g *Grant) giveUpLocked() {
	if g.conn.HasFailed() || g.conn.IsShut() { // as the lock before was given up
		g.leave()
		return
	}
	g.GiveUp()
	if !g.conn.HasFailed() {
		g.conn.Locked--
	}
}

// rests leaves it on the connection for the next call, if it can. It cannot where another lock is just being given up.
func (g *Grant) rests() bool {
	return !g.scope.engine.PerTx && !g.conn.IsSettling() && len(g.ask.Users) == 1 && g.conn.Locked == 1 && g.conn.Rest(g, g.ask.Users[0], func() { g.conn.Locked-- })
}

// GiveUp implements [server.Leftover].
func (g *Grant) GiveUp() {
	defer g.leave()
	returned := false
	defer func() {
		if !returned { // the driver has panicked, or ended the goroutine
			g.conn.Fail()
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	err := g.scope.engine.Release(ctx, g.conn, g.locks)
	switch returned = true; {
	case err == nil:
	case g.scope.engine.PerTx:
		g.conn.FailEnding(err)
	default:
		g.conn.FailUnlocking(err)
	}
}

// Lost implements [server.Leftover], and [server.KeptLock].
func (g *Grant) Lost() {
	g.releasing(true)
	g.leave()
}

// A nil *Grant stands for nothing left.

// wanted returns what it is of the engine's locks.
func (g *Grant) wanted() []server.WantedLock {
	if g == nil {
		return nil
	}
	return g.locks
}

// drop gives it up when nothing came of what was to take it over.
func (g *Grant) drop() {
	if g != nil {
		g.GiveUp()
	}
}

// goneWith is for what the server has given up on the way to another lock, or with the connection.
func (g *Grant) goneWith() {
	if g != nil {
		g.leave()
	}
}

// Forget is Release for a session whose connection is lost: its end gives the lock up.
func (g *Grant) Forget() {
	if released, _ := g.releasing(true); released {
		g.leave()
	}
}

// IsShared tells whether others may have it too.
func (g *Grant) IsShared() bool { return g.ask.Shared }

// Kind is that of the hold in the process.
func (g *Grant) Kind() rwlock.Kind { return g.ask.Kind }

// Conn is whose session has it.
func (g *Grant) Conn() *server.Conn { return g.conn }
