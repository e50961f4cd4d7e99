package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/userid"
)

// What an owner does beside a Tx, rows or a section of its own runs under the lock of that among processes: it would wait for itself at the server. Whoever works
// under a lock is counted, so it does not end before: see scope.Grant. It is lost only with the connection that has it, for which the server is asked.

// elsewhere returns the use of what a section has of the engine's locks, for an operation in it that is not on the section's connection,
// since it is by another handle; nil if it is on that.
func (c *conn) elsewhere(h *locks.Hold, sc *server.Conn) *scope.Use {
	if h.Section() == nil || h.Reach != nil || sc.Locked > 0 {
		return nil
	}
	return c.join(h, locks.Identity{Owner: h.Owner}.LockOwner(), true)
}

// join has the operation work under what its owner has; nil if there is nothing.
func (c *conn) join(h *locks.Hold, owner *rwlock.Owner, shared bool) *scope.Use {
	u := c.backend.Scope.Join(h.User, owner, shared)
	if u != nil {
		h.Reach = u
	}
	return u
}

var errTxElsewhere = errors.New("dblocker: with lock_scope=database a transaction in a section begun by another handle would not end if that lost its lock: begin it by the handle of the section, or leave the section first")

// besideOwn looks for what the owner has of the user's lock on other connections. What is in the way of it there, its own
// rows, is read into memory; a statement runs under what remains.
func (c *conn) besideOwn(ctx context.Context, h *locks.Hold, ask scope.Ask) (under *scope.Use, err error) {
	kin := c.backend.Scope.Kin(h.User, ask.Owner)
	if len(kin) == 0 {
		return nil, nil
	}
	if under = c.joinSingle(h, ask); under != nil {
		return under, nil
	}
	kin, err = spillKin(ctx, c.db, c, h.Owner, c.backend.Scope, ask)
	if err != nil {
		return nil, err
	}
	if under = c.joinSingle(h, ask); under != nil {
		return under, nil
	}
	if slices.ContainsFunc(kin, func(g *scope.Grant) bool { return !ask.Shared || !g.IsShared() }) {
		return nil, besideOwnError(ask)
	}
	return nil, nil
}

// joinSingle is join for a statement by itself.
func (c *conn) joinSingle(h *locks.Hold, ask scope.Ask) *scope.Use {
	if !single(ask) {
		return nil
	}
	return c.join(h, ask.Owner, ask.Shared)
}

// spillKin reads an owner's rows into memory that have the locks which are asked for, and returns what else it has of them. c may be nil.
func spillKin(ctx context.Context, db *handle, c *conn, owner *locks.Owner, s *scope.Scope, ask scope.Ask) (kin []*scope.Grant, err error) {
	for _, user := range ask.Users {
		inTheWay := func(r *rows) bool { return r.hold.User == user }
		if err := c.spillOwn(ctx, owner, db.mustSpill(), inTheWay); err != nil {
			return nil, err
		}
		kin = append(kin, s.Kin(user, ask.Owner)...)
	}
	return kin, nil
}

// checkUnder asks whether a lock that is held elsewhere has been there all the time: before a statement on sc that writes under it, and
// when one has returned. It ends before the statement only with the connection that has it.
func checkUnder(ctx context.Context, under *scope.Use, sc *server.Conn) (err error) {
	if under.IsOn(sc) {
		return nil
	}
	defer func() {
		if err != nil {
			under.Undo()
		}
	}()
	if held, err := under.IsHeld(ctx, sc); err != nil {
		return fmt.Errorf("%w: asking for it: %w", ErrLockLost, err)
	} else if !held && under.HasEnded() {
		return errEndedBeside
	} else if !held {
		return ErrLockLost
	}
	return nil
}

// checkFirst is checkUnder before a statement is sent. If the context ends while the server is asked, nothing was done, and nothing is lost.
func checkFirst(ctx context.Context, under *scope.Use, sc *server.Conn) error {
	err := checkUnder(ctx, under, sc)
	if err == nil || err == ErrLockLost || err == errEndedBeside || ctx.Err() == nil {
		return err
	}
	if errors.Is(err, driver.ErrBadConn) { // as in askServer
		sc.Fail()
	}
	return ctx.Err()
}

// checkUnderRows is checkUnder for a query, whose rows have its connection. They are closed if it fails.
func (c *conn) checkUnderRows(ctx context.Context, under *scope.Use, r *rows) error {
	if under.IsOn(c.drawn.Conn) {
		return nil
	}
	err := c.askUnder(ctx, under, r)
	if err == nil {
		return nil
	}
	under.Undo()
	if !r.IsClosed() {
		r.Rows.Close()
	}
	if !errors.Is(err, ErrLockLost) && !errors.Is(err, ErrSpillLimit) {
		err = fmt.Errorf("%w: asking for it: %w", ErrLockLost, err)
	}
	return err
}

// askUnder asks through another connection. Behind a pooler that might be one too many for it, so the rows are read into memory first.
func (c *conn) askUnder(ctx context.Context, under *scope.Use, r *rows) error {
	if !under.HasBegun() {
		return c.backend.Aside(ctx, func(sc *server.Conn) error { return checkUnder(ctx, under, sc) })
	}
	if err := c.readAll(ctx, r); err != nil || r.Failure() != nil { // which the rows tell
		return err
	}
	return checkUnder(ctx, under, c.drawn.Conn)
}

// besideOwnError is of what would wait for its own owner at the server.
func besideOwnError(ask scope.Ask) error {
	return &LockError{User: ask.Users[0], Mode: Exclusive, Err: ErrDeadlock,
		what:    fmt.Sprintf("the lock of user %s among the processes on the database", userid.Brief(ask.Users[0])),
		blocker: "a transaction or a section of the same request, on another connection",
		advice:  "do this with the Tx or the section's context that has it, or end that first"}
}
