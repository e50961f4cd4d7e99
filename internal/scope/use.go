package scope

import (
	"context"

	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
)

// A Use is what a call has of a lock that another one of its owner has taken: that one does not give it up before.
type Use struct {
	grant *Grant
	left  bool // guarded by the table

	// Where locks are those of transactions: see BeginBeside. Whoever has the connection guards these.
	beside *server.Conn // on which a transaction is open for the call; nil if there is none
	undoes bool         // it is to be rolled back
}

// Join returns the use of a lock which the owner has of the user, on whatever connection, that is enough for what is asked; nil if there is none.
func (s *Scope) Join(user string, o *rwlock.Owner, shared bool) *Use {
	for _, g := range s.Kin(user, o) {
		if u := g.join(); u != nil && (shared || !g.ask.Shared) {
			return u
		} else if u != nil {
			u.Release()
		}
	}
	return nil
}

func (g *Grant) join() *Use {
	g.scope.table.mu.Lock()
	defer g.scope.table.mu.Unlock()
	if g.released != nil {
		return nil
	}
	g.joined++
	return &Use{grant: g}
}

// Release ends it. If it was the last one of a lock that was kept for it, whoever has the connection is told to give that up. The second time it does
// nothing.
func (u *Use) Release() {
	u.endBeside()
	if g := u.grant; u.leave() && g.keeper != nil {
		g.keeper.Unused()
	}
}

// leave tells whether the lock is to be given up now.
func (u *Use) leave() bool {
	g := u.grant
	g.scope.table.mu.Lock()
	defer g.scope.table.mu.Unlock()
	if u.left {
		return false
	}
	u.left = true
	g.joined--
	if g.joined > 0 || !g.kept || g.released != nil {
		return false
	}
	g.released = make(chan struct{})
	close(g.unused)
	return true
}

// Forget is Release: the connection of the lock is another one.
func (u *Use) Forget() { u.Release() }

// KeepsFor tells whether connections keep locks for calls of the owner.
func (s *Scope) KeepsFor(o *rwlock.Owner) bool {
	return len(s.table.those(Ask{All: true}, func(g *Grant) bool { return g.kept && g.released == nil && g.ask.Owner.InLine(o) })) > 0
}

// IsOn tells whether the lock is that of the session of a connection.
func (u *Use) IsOn(sc *server.Conn) bool { return u.grant.conn == sc }

// IsHeld asks the server, through another connection sc, whether the lock has been there all the time.
func (u *Use) IsHeld(ctx context.Context, sc *server.Conn) (bool, error) {
	g := u.grant
	held, err := g.scope.engine.Has(ctx, sc, g.session, g.locks)
	return held && !g.isReleased(), err
}

// isReleased tells of a lock that somebody uses whether it is lost.
func (g *Grant) isReleased() bool {
	g.scope.table.mu.Lock()
	defer g.scope.table.mu.Unlock()
	return g.released != nil
}

// HasEnded tells whether the lock has ended with its transaction, as it was to.
func (u *Use) HasEnded() bool {
	u.grant.scope.table.mu.Lock()
	defer u.grant.scope.table.mu.Unlock()
	return u.grant.ended
}

// KeepBy says who is to be told when a lock was kept.
func (g *Grant) KeepBy(k Keeper) { g.keeper = k }

// Unused implements [server.KeptLock].
func (g *Grant) Unused() <-chan struct{} { return g.unused }

// GiveUpKept implements [server.KeptLock].
func (g *Grant) GiveUpKept() {
	g.scope.table.mu.Lock()
	gone := g.isGone()
	g.scope.table.mu.Unlock()
	if !gone { // as it was forgotten
		g.giveUpLocked()
	}
}
