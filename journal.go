package dblocker

import (
	"context"
	"fmt"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

const (
	clearFor   = 20 * time.Millisecond // how long a try keeps everybody out
	clearPause = 10 * time.Millisecond
)

// clearDatabase makes way for a statement, for which h has the gate, that takes the file
// out of WAL mode. SQLite does that only when no other connection has the file open. So
// readers are sent to the gate, those that have passed by are waited for, and the
// connections are closed. Some of those readers may themselves come to wait at
// the gate: then they are let through, and it is tried again, as long as a busy timeout
// would last.
func (c *conn) clearDatabase(op *operation, h *locks.Hold, req request, st sqltext.Statement, text string) error {
	g := c.backend.Gate
	if g == nil || c.transactionOnServer() != nil || !sqlite.SetsJournal(st, text) || !sqlite.LeavesWAL(text) {
		return nil
	}
	deadline := time.Now().Add(min(c.db.lockTimeout, c.db.selfWait))
	for g.IsWAL() {
		others := c.closeOthers(op.ctx)
		if others == 0 {
			return nil
		}
		h.Release()
		if err := c.pause(op.ctx, clearPause); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("dblocker: the journal mode is not changed: SQLite leaves WAL mode only when no other connection has the file open, and others, %d of them, were in use too long; close rows and sql.Conns before: %w", others, ErrLockTimeout)
		}
		if err := c.lock(op, h, req); err != nil {
			return err
		}
	}
	return nil
}

// closeOthers keeps readers out and waits until all other connections could be closed.
// It returns how many are left; if none, readers are still kept out.
func (c *conn) closeOthers(ctx context.Context) (others int) {
	g := c.backend.Gate
	own := 0
	if c.server() != nil {
		own = 1
	}
	g.KeepOut()
	for until := time.Now().Add(clearFor); ; {
		passers := g.Passers() // first: they draw connections
		if others = c.backend.Database.Gate.CloseIdle() - own; others == 0 && passers == 0 {
			return 0
		}
		if time.Now().After(until) || c.pause(ctx, time.Millisecond) != nil {
			g.LetIn()
			return max(others, 1)
		}
	}
}

func (c *conn) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.db.closed:
		return errClosed
	}
}

// noteJournal follows what a statement on c, which has the gate, did to the journal, be
// it that it failed. If c has no server connection it did not come to be executed.
func (c *conn) noteJournal(ctx context.Context, st sqltext.Statement, text string) {
	g, sc := c.backend.Gate, c.drawn.Conn
	switch {
	case g == nil || !sqlite.SetsJournal(st, text):
	case sc == nil:
		g.LetIn()
	default:
		journal, _ := sqlite.Pragma(context.WithoutCancel(ctx), sc, "journal_mode")
		g.SetJournal(journal)
		c.followJournal(ctx, sc, journal)
	}
}

// forgetJournal is noteJournal for one that did not return: the next to come to the gate learns
// the journal mode.
func forgetJournal(g *gate.Gate, st sqltext.Statement, text string) {
	if g != nil && sqlite.SetsJournal(st, text) {
		g.ForgetJournal()
	}
}

// noteJournalOf is noteJournal for one with rows, which SQLite has done with no earlier
// than these have ended.
func (c *conn) noteJournalOf(ctx context.Context, r *rows, st sqltext.Statement, text string) {
	if c.backend.Gate == nil || !sqlite.SetsJournal(st, text) {
		return
	}
	if r.Inner != nil {
		r.Fill(c.db.mustSpill(), func() bool { return false })
	}
	c.noteJournal(ctx, st, text)
}
