package dblocker

import (
	"context"
	"fmt"
	"time"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// passByGate counts h as a reader that passes by, if the database lets readers; or if
// the owner has rows that have passed by, and for which others wait.
func (c *conn) passByGate(op *operation, h *locks.Hold, g *gate.Gate) bool {
	return h.Gate.PassBy(false) || g.IsLeaving() && op.id.Owner.HasPassed(g) && h.Gate.PassBy(true)
}

// gateRequest adds to req what an operation on c asks of the gate in mode, and counts h as a reader that passes by.
func (c *conn) gateRequest(op *operation, h *locks.Hold, req *request, mode Mode) error {
	g := c.backend.Gate
	switch {
	case g == nil, req.asksGate == later:
		return nil
	case req.asksGate == unlessInside && c.transactionOnServer() != nil: // which has passed the gate, or will
		return nil
	}
	h.Gate.Come(g)
	req.passage.Reaches = c.backend.Reaches()
	if !g.IsKnown() {
		if err := c.learnJournal(op, g); err != nil {
			return err
		}
	}
	if c.gates = c.backend.Attached.Gates(); c.gates != nil {
		req.passage.More = h.Gate.AskAttached(c.gates.Gates, rwlock.Mode(mode))
	}
	if c.backend.ReadOnly {
		mode = Shared
	}
	if mode == Shared && c.passByGate(op, h, g) {
		return nil
	}
	req.passage.Gate, req.passage.Mode = g, rwlock.Mode(mode)
	c.connectFirst(op.ctx, g, mode)
	return nil
}

// passGate is for what only reads the schema: it passes the gate as a reader, and
// takes no user's lock.
func (c *conn) passGate(op *operation, h *locks.Hold) error {
	if t := c.transactionOnServer(); c.backend.Gate == nil || t != nil && t.pending == nil {
		return nil
	}
	id := op.id
	req := request{kind: rwlock.Leaf, mode: Shared, asksGate: atOnce}
	if err := c.gateRequest(op, h, &req, Shared); err != nil || req.passage.IsFree() {
		return err
	}
	id.User = ""
	return c.acquire(op.ctx, h, req, id)
}

// spillAtGate spills those rows of the owner, and of the connection, that have
// the gate and would keep req waiting there for ever.
func (c *conn) spillAtGate(ctx context.Context, req request, id locks.Identity) error {
	if req.passage.IsFree() {
		return nil
	}
	writes := req.passage.Writes()
	inTheWay := func(r *rows) bool {
		return (r.writes || writes) && r.hold.Gate.IsHeld()
	}
	if err := c.spillOn(ctx, c.server(), inTheWay); err != nil {
		return err
	}
	if id.Owner == nil || !id.Owner.HasRows() {
		return nil
	}
	if err := c.spillOwn(ctx, id.Owner, c.db.mustSpill(), inTheWay); err != errInCall {
		return err
	}
	return nil // then they are waited for as others' are
}

// spillConnection spills the rows that are open on a connection of a gated dialect,
// before a statement that SQLite would refuse beside them: what begins or ends a
// transaction or changes the schema, VACUUM, a PRAGMA; and outside a transaction every
// write, since the rows may show a state that is no longer the last.
func (c *conn) spillConnection(ctx context.Context, st sqltext.Statement) error {
	switch {
	case c.backend.Gate == nil || c.transactionOnServer() != nil && (st.Kind == sqltext.Read || sqlite.WritesRows(st)):
		return nil
	case st.Kind == sqltext.Read:
		return c.spillRowsBehind(ctx)
	}
	return c.spillOn(ctx, c.server(), func(*rows) bool { return true })
}

// spillRowsBehind is spillConnection for a read outside a transaction. Rows keep a connection at the state which the first of them began with: if
// its section has written since, by another connection, the read would not see that.
func (c *conn) spillRowsBehind(ctx context.Context) error {
	p := c.using
	if p == nil {
		return nil
	}
	written := p.section.locks.Identity().LockOwner().Written()
	if written == p.rowsSee {
		return nil
	}
	if err := c.spillOn(ctx, c.server(), func(*rows) bool { return true }); err != nil {
		return err
	}
	p.rowsSee = written
	return nil
}

// spillForEnd is spillConnection for the end of a transaction, which cannot be refused.
// There are rows only on a pinned connection: those of other client connections.
func (c *conn) spillForEnd(kind sqltext.Kind) {
	err := c.spillConnection(context.Background(), sqltext.Statement{Kind: kind})
	if sc := c.drawn.Conn; err == nil && sc != nil {
		err = c.clearPinned(context.Background(), sc)
	}
	if err == nil {
		return
	}
	for _, r := range openOn(c.drawn.Conn) {
		r.end(err)
	}
}

// spillOn spills those of the open rows on a server connection, which may be nil, that are in the way.
func (c *conn) spillOn(ctx context.Context, sc *server.Conn, inTheWay func(*rows) bool) error {
	if sc == nil {
		return nil
	}
	for _, r := range openOn(sc) {
		if !inTheWay(r) {
			continue
		}
		if err := r.spillWithin(ctx, c.db.mustSpill()); err != nil {
			return err
		}
	}
	return nil
}

// learnJournal opens the first connection, which learns the journal mode. Nobody has
// passed the gate before that. Others wait for it even where nobody is to wait for a
// lock: it is no other's work that they would wait for.
func (c *conn) learnJournal(op *operation, g *gate.Gate) error {
	ctx, id := op.ctx, op.id
	var at gate.Place
	at.Come(g)
	at.Hold.Owner, at.Hold.With, at.Hold.Label = c.ownerFor(id), c.turnLink(id.LockOwner()), c.db.label(ctx)
	w := c.wait()
	w.Timeout = max(w.Timeout, w.Self)
	if err := g.Learn(ctx, &at, w); err != nil {
		return c.lockError(err, id)
	}
	defer at.Leave()
	if g.IsKnown() {
		return nil
	}
	slot := rwlock.Hold{Owner: at.Hold.Owner, With: &at.Hold, Label: at.Hold.Label}
	d, err := c.backend.Servers.Draw(ctx, &slot, c.waitForConn(id.User))
	if err != nil {
		return c.db.connectError(err)
	}
	defer slot.Release()
	d.GiveBack()
	return nil
}

// connectFirst opens the first connection of a handle, for an operation that will have the
// gate alone, before that: to open one takes longer than most writes, and others could not
// write meanwhile. It reads, so only in WAL mode it is in no writer's way. The connection is
// the backend's until the operation has its locks. If none can be opened, the operation will
// meet the reason itself.
func (c *conn) connectFirst(ctx context.Context, g *gate.Gate, mode Mode) {
	b := c.backend
	if mode != Exclusive || b.Servers.IsConnected() || c.drawn.Conn != nil || b.Servers.Slots != nil || b.Servers.Limits().MaxIdleConns == 0 {
		return
	}
	var at gate.Place
	defer at.Leave()
	at.Come(g)
	if !at.PassBy(false) || !b.Servers.ClaimFirst() {
		return
	}
	if d, err := b.Servers.Connect(ctx); err == nil {
		d.GiveBack()
	}
}

// restWALReaders ends the reads of the WALReaders, and lets none begin, while h has the gate
// for itself, if those would be in the way of the statement. Those of an ordinary write
// are for one of sqlite.WALReaderWrites only.
func (c *conn) restWALReaders(h *locks.Hold, ordinary bool) {
	g := h.Gate.Gate()
	if !h.Gate.IsAlone() || ordinary && g.Writes()%sqlite.WALReaderWrites != sqlite.WALReaderWrites-1 {
		return
	}
	g.Bar()
	c.backend.Database.Gate.Rest()
}

const (
	clearFor   = 20 * time.Millisecond // how long a try keeps everybody out
	clearPause = 10 * time.Millisecond
)

// closeToLeaveWAL makes way for a statement, for which h has the gate, that takes the file
// out of WAL mode. SQLite does that only when no other connection has the file open. So
// readers are sent to the gate, those that have passed by are waited for, and the
// connections are closed. Some of those readers may themselves come to wait at
// the gate: then they are let through, and it is tried again, as long as a busy timeout
// would last.
func (c *conn) closeToLeaveWAL(op *operation, h *locks.Hold, req request, st sqltext.Statement, text string) error {
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
