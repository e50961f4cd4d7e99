package scope

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/calmdocs/dblocker/internal/server"
)

// Where a lock is one of a transaction, a statement by itself runs in one that Take has begun. What it reads is committed with Release, like any lock that is given
// up; what it writes by Commit, before anybody hears of it.

// PerTx tells whether it is so.
func (s *Scope) PerTx() bool { return s.engine.PerTx }

// Commit ends the transaction of a statement that has been run, and with it the lock, whoever relies on that.
func (g *Grant) Commit(ctx context.Context) error {
	returned := false
	defer func() {
		if !returned {
			g.conn.Fail()
		}
		g.endWithTx()
	}()
	err := g.scope.engine.Release(ctx, g.conn, g.locks)
	returned = true
	return committed(g.conn, err)
}

func committed(sc *server.Conn, err error) error {
	if err != nil && errors.Is(err, driver.ErrBadConn) {
		sc.Fail()
		return fmt.Errorf("dblocker: the connection was lost while a statement was committed, which may have been done or not: %v", err) // so that nobody does it again
	}
	return err
}

// Rollback is Commit for a statement that is to have done nothing.
func (g *Grant) Rollback(ctx context.Context) {
	if _, err := g.conn.ExecContext(ctx, "ROLLBACK", nil); err != nil {
		g.conn.Fail()
	}
	g.endWithTx()
}

func (g *Grant) endWithTx() {
	g.conn.Locked--
	g.endsWithTx = true
	if released, _ := g.releasing(true); released {
		g.leave()
	}
}

// BeginBeside begins a transaction without locks for a statement that works under the lock of another one: a driver may need more than one message for a statement, and a
// pooler has another session for each.
func (u *Use) BeginBeside(ctx context.Context, sc *server.Conn) error {
	if u.beside == sc {
		return nil
	}
	if _, err := sc.ExecContext(ctx, "BEGIN", nil); err != nil {
		return err
	}
	u.beside = sc
	sc.Locked++
	return nil
}

// HasBegun tells whether BeginBeside has begun one.
func (u *Use) HasBegun() bool { return u.beside != nil }

// Undo has it rolled back.
func (u *Use) Undo() { u.undoes = true }

// Commit ends it for a statement that has been run.
func (u *Use) Commit(ctx context.Context) error {
	sc, returned := u.beside, false
	defer func() {
		if !returned {
			sc.Fail()
		}
		sc.Locked--
		u.beside = nil
	}()
	err := u.grant.scope.engine.Release(ctx, sc, nil)
	returned = true
	return committed(sc, err)
}

// Rollback is Commit for a statement that is to have done nothing.
func (u *Use) Rollback(context.Context) { u.Undo() }

// endBeside ends it without that anybody waits for it.
func (u *Use) endBeside() {
	sc := u.beside
	if sc == nil {
		return
	}
	u.beside = nil
	if !sc.IsSettling() && (sc.HasFailed() || sc.IsShut()) {
		return
	}
	sc.Later(func() {
		if sc.HasFailed() || sc.IsShut() { // as another lock was given up
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
		defer cancel()
		end := func() error { return u.grant.scope.engine.Release(ctx, sc, nil) }
		if u.undoes {
			end = func() error { _, err := sc.ExecContext(ctx, "ROLLBACK", nil); return err }
		}
		if err := end(); err != nil {
			sc.FailEnding(err)
		} else {
			sc.Locked--
		}
	})
}
