package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// The gates of attached files are passed with that of the handle: see databases.Attached.

// errOtherFiles is of a statement that has drawn a connection with other files attached than
// it has passed the gates of.
var errOtherFiles = errors.New("dblocker: the connections of the handle attach other files all the time; attach the same ones to all of them, in a connect hook")

// maxAnew bounds how often a statement starts anew.
const maxAnew = 16

// startsAnew tells whether a call that ended with err is to be tried again.
func startsAnew(err error, tries *int) bool {
	*tries++
	return err == errOtherFiles && *tries < maxAnew
}

// anew runs a call as often as it has to start anew.
func (c *conn) anew(call func() error) error {
	for tries := 0; ; {
		if err := call(); !startsAnew(err, &tries) {
			return err
		}
	}
}

// checkAttached is for a connection that was just drawn.
func (c *conn) checkAttached() error {
	if sc := c.drawn.Conn; sc.Attached == nil || c.backend.Gate == nil || c.gates.Covers(sc.Attached) {
		return nil
	}
	c.giveBack()
	return errOtherFiles
}

// noteAttached looks after a statement what it has attached, and what it did to the journals of
// what is. In r, which may be nil, are its
// rows: some drivers execute it no earlier than these are read.
func (c *conn) noteAttached(ctx context.Context, r *rows, st sqltext.Statement, text string) {
	sc := c.drawn.Conn
	if sc == nil || c.backend.Gate == nil || !sqlite.Attaches(st, text) && (sc.Attached == nil || !sqlite.SetsJournal(st, text)) {
		return
	}
	if r != nil && r.Inner != nil {
		r.Fill(c.db.mustSpill(), func() bool { return false })
	}
	c.lookAttached(ctx, sc)
}

// lookAttached looks what is attached. A connection that cannot tell is not used again.
func (c *conn) lookAttached(ctx context.Context, sc *server.Conn) {
	if sc.HasFailed() || c.backend.Gate == nil {
		return
	}
	if err := c.backend.Attached.Look(context.WithoutCancel(ctx), sc); err != nil {
		sc.Fail()
	}
}

// passMore is for a statement in a transaction that has attached files since it has passed the
// gate: it passes those of the new ones too.
func (c *conn) passMore(ctx context.Context) error {
	sc, t := c.server(), c.transactionOnServer()
	if sc == nil || t == nil || c.backend.Gate == nil || sc.Attached == nil && c.expected == nil {
		return nil
	}
	in := t.conn
	if in.gates.Covers(sc.Attached) && in.gates.Covers(c.expected) {
		return nil
	}
	set := c.backend.Attached.Gates()
	if set == nil {
		return nil
	}
	h := new(locks.Hold)
	joined := false
	defer func() {
		if !joined {
			h.Gate.Leave()
		}
	}()
	req := request{kind: rwlock.Tx, mode: t.mode()}
	req.passage.Reaches = c.backend.Reaches()
	req.passage.More = h.Gate.AskAttached(set.Without(in.gates), rwlock.Mode(req.mode))
	id := locks.Identity{Owner: t.outermost().hold.Owner}
	h.Describe(id, in.ownerFor(id), req.kind, c.db.label(ctx), &in.resident)
	if !req.passage.IsFree() {
		if err := h.TakeGate(ctx, req.passage, c.waitFor(req)); err != nil {
			return c.lockError(err, locks.Identity{})
		}
	}
	joined = true
	t.outermost().more = append(t.outermost().more, h)
	in.gates = set
	return nil
}

// expectAttached is for a statement that is about to ask for its locks. It may attach files.
func (c *conn) expectAttached(st sqltext.Statement, text string, args []driver.NamedValue) {
	if c.backend.Gate == nil || !sqlite.Attaches(st, text) {
		return
	}
	for _, a := range sqltext.Attaches(text) {
		if path := sqlite.AttachedFile(a, args); path != "" {
			id := sqlite.Name + ":" + path
			c.backend.Attached.Expect(id)
			c.expected = append(c.expected, id)
		}
	}
}

// doneAttaching is called when a statement has ended that was expected to attach files.
func (c *conn) doneAttaching() {
	for _, id := range c.expected {
		c.backend.Attached.Disappoint(id)
	}
	c.expected = nil
}
