package dblocker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
)

// How long a request that would be in a circle with others, and whose rows are too large to
// make way, or in a call, waits for that to change, or for the others' rows to make way; and
// how often it looks.
const (
	othersYield = 2*time.Second + yieldTime
	lookForThem = 20 * time.Millisecond
)

// takeBesideReaders goes on with take, which was refused with err since others, who read
// too, wait for rows of the owner. These are read into memory. If they are too large, the
// others' rows may still make way; if not, it cannot go on. c is the connection that take
// is for, or nil.
func takeBesideReaders(ctx context.Context, db *handle, c *conn, id locks.Identity, users []string, err error, take func() error) error {
	var w *rwlock.WaitError
	if id.Owner == nil || !id.Owner.HasRows() || errors.As(err, &w) && id.LockOwner().InLine(w.Blocker.Owner) {
		return err // or it has waited for itself
	}
	inTheWay := func(r *rows) bool { return slices.Contains(users, r.hold.User) }
	for until := time.Now().Add(min(othersYield, db.lockTimeout)); ; {
		spillErr := c.spillOwn(ctx, id.Owner, db.spillLimits(), inTheWay)
		tooLarge := errors.Is(spillErr, ErrSpillLimit)
		if spillErr != nil && !tooLarge && spillErr != errInCall {
			return spillErr
		}
		if err = take(); spillErr == nil || !errors.Is(err, rwlock.ErrDeadlock) {
			return err
		}
		if time.Now().After(until) {
			if tooLarge {
				return spillErr
			}
			return err
		}
		select {
		case <-time.After(lookForThem):
		case <-ctx.Done():
			return ctx.Err()
		case <-db.closed:
			return errClosed
		}
	}
}

// errInCall says that rows could not be spilled since a call of the program has their
// connection.
var errInCall = errors.New("the connection is in a call")

// spillOwn makes an owner give up what those of its open rows hold that are in the way of
// an operation of its on c, or of a section if c is nil, by reading the rest of them into
// memory. Rows on other connections are left alone while these are in a call, and errInCall
// tells of that. The operation does not wait long for rows whose driver takes its time.
func (c *conn) spillOwn(ctx context.Context, o *locks.Owner, limit server.FillLimit, inTheWay func(*rows) bool) error {
	var elsewhere []*rows
	for _, h := range o.RowsThat(func(h *locks.RowsHold) bool { return inTheWay(h.Lock.Work.(*rows)) }) {
		r := h.Lock.Work.(*rows)
		if c == nil || !c.hasOpen(r) {
			elsewhere = append(elsewhere, r)
		} else if err := r.spillWithin(ctx, limit); err != nil {
			return err
		}
	}
	results := make(chan error, len(elsewhere))
	for _, r := range elsewhere {
		go func() { results <- r.spillFromElsewhere(limit) }()
	}
	enough := time.NewTimer(yieldTime)
	defer enough.Stop()
	for range elsewhere {
		select {
		case err := <-results:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-enough.C:
			return errInCall
		}
	}
	return nil
}

// hasOpen tells whether the rows are open on the server connection of c, which c has.
func (c *conn) hasOpen(r *rows) bool {
	if sc := c.server(); sc != nil {
		return slices.Contains(openOn(sc), r)
	}
	return false
}

// spillFromElsewhere spills the rows unless a call has their connection.
func (r *rows) spillFromElsewhere(limit server.FillLimit) error {
	if !r.conn.tryEnter() {
		return errInCall
	}
	defer r.conn.leaveFill()
	return r.spill(limit, r.conn.isWanted)
}
