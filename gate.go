package dblocker

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A gate stands before a SQLite database, and whatever SQLite would refuse as busy
// waits there instead. A file in WAL mode lets one write at a time and many read
// beside it: there writers pass the gate alone, and readers pass by. With any other
// journal, and in memory, readers and writers shut each other out: there readers pass the
// gate together.
//
// Holding it is what makes SQLite's own locks free, so it is taken before the
// statement that needs them, and given up no earlier than SQLite gives them up.
type gate struct {
	lock *rwlock.Lock
	name string // of the lock

	learning *rwlock.Lock // of who opens the first connection, to set wal
	crowd    crowd        // the readers without a user that have the gate

	// wal tells whether the file is in WAL mode. It is learned from each new
	// connection, and after each statement of ours that may change it, while that has
	// the gate. Another process can end WAL mode only while we have no connection.
	wal atomic.Int32

	// passers counts the readers that passed by. A reader counts itself before it
	// looks at wal; so once wal says otherwise, and the count is zero, there are none.
	passers atomic.Int64

	// writers counts those who have the gate alone or wait for it, and reads what passes
	// by meanwhile.
	writers atomic.Int32
	reads   atomic.Uint32

	// writes counts the times that somebody had the gate alone. barred tells that who has
	// it now is not to be kept company by a walReader.
	writes atomic.Int64
	barred atomic.Bool

	conns openConns    // to the database
	left  leftOpenings // of such
}

// The values of gate.wal.
const (
	walUnknown int32 = iota // until the first connection
	walOff
	walOn
	walLeaving // still in it, but readers are kept out
)

const gateNamePrefix = "the gate of the SQLite database"

func newGate(id string) *gate {
	name := gateNamePrefix
	if path, ok := strings.CutPrefix(id, sqliteName+":"); ok {
		name += " " + path
	}
	return &gate{lock: rwlock.NewGate(name), name: name, learning: rwlock.NewLock(name, 0)}
}

// useGate gives the pool the gate of its database, if it needs one.
func (p *pool) useGate(c *Connector) {
	if !c.dialect.gated {
		return
	}
	p.gate = p.database.gate
	s, ok := c.inner.(*sqliteConnector)
	if !ok {
		return
	}
	if s.dsn.isImmutable() { // SQLite takes no lock
		p.gate = nil
	}
	p.readOnly = s.dsn.last("mode") == "ro"
}

// passByGate counts h as a reader that passes by, if the database lets readers; or if
// the owner has rows that have passed by, and for which others wait.
func (c *conn) passByGate(op *operation, h *userHold, g *gate) bool {
	g.passers.Add(1)
	if wal := g.wal.Load(); wal != walOn && !(wal == walLeaving && op.id.owner.hasPassed(g)) {
		g.passers.Add(-1)
		return false
	}
	h.gate.passed = true
	return true
}

func (o *owner) hasPassed(g *gate) bool {
	return o.rowsThat(func(r *rows) bool { return r.hold.gate.passed && r.hold.gate.asked == g }) != nil
}

// makeRoom is called by a reader that has passed by. Reads that never wait would keep the
// processors to themselves, for 10 ms at a time, from a writer that has got its turn or comes
// back from the disk: so some of them make room.
func (g *gate) makeRoom() {
	const oneOf = 16
	if g.writers.Load() > 0 && g.reads.Add(1)%oneOf == 0 {
		runtime.Gosched()
	}
}

// gateRequest adds to req what an operation on c asks of the gate in mode, and counts h as a reader that passes by.
func (c *conn) gateRequest(op *operation, h *userHold, req *request, mode Mode) error {
	g := c.pool.gate
	switch {
	case g == nil, req.asksGate == later:
		return nil
	case req.asksGate == unlessInside && c.scopeOnServer() != nil: // which has passed the gate, or will
		return nil
	}
	h.gate.asked = g
	if g.wal.Load() == walUnknown {
		if err := c.learnJournal(op, g); err != nil {
			return err
		}
	}
	if c.gates = c.pool.attached.now.Load(); c.gates != nil {
		req.more = h.askAttached(c.gates.gates, mode)
	}
	if c.pool.readOnly {
		mode = Shared
	}
	if mode == Shared && c.passByGate(op, h, g) {
		return nil
	}
	req.gate, req.gateMode = g, mode
	c.connectFirst(op.ctx, g, mode)
	return nil
}

// passGate is for what only reads the schema: it passes the gate as a reader, and
// takes no user's lock.
func (c *conn) passGate(op *operation, h *userHold) error {
	if s := c.scopeOnServer(); c.pool.gate == nil || s != nil && s.pending == nil {
		return nil
	}
	id := op.id
	req := request{kind: rwlock.Leaf, mode: Shared, asksGate: atOnce}
	if err := c.gateRequest(op, h, &req, Shared); err != nil || req.gate == nil && req.more == nil {
		return err
	}
	id.user = ""
	return c.acquire(op.ctx, h, req, id)
}

// spillAtGate spills those rows of the owner, and of the connection, that have
// the gate and would keep req waiting there for ever.
func (c *conn) spillAtGate(ctx context.Context, req request, id identity) error {
	if req.gate == nil && req.more == nil {
		return nil
	}
	writes := req.gate != nil && req.gateMode == Exclusive || req.more != nil && req.more.mode == Exclusive
	inTheWay := func(r *rows) bool {
		return (r.writes || writes) && r.hold.gate.isHeld()
	}
	if err := c.server().spill(ctx, c.db.mustSpill(), inTheWay); err != nil {
		return err
	}
	if id.owner == nil || !id.owner.hasRows() {
		return nil
	}
	if err := c.spillOwn(ctx, id.owner, c.db.mustSpill(), inTheWay); err != errInCall {
		return err
	}
	return nil // then they are waited for as others' are
}

// clearConnection spills the rows that are open on a connection of a gated dialect,
// before a statement that SQLite would refuse beside them: what begins or ends a
// transaction or changes the schema, VACUUM, a PRAGMA; and outside a transaction every
// write, since the rows may show a state that is no longer the last.
func (c *conn) clearConnection(ctx context.Context, st sqltext.Statement) error {
	if c.pool.gate == nil || st.Kind == sqltext.Read || c.scopeOnServer() != nil && writesRows(st) {
		return nil
	}
	return c.server().spill(ctx, c.db.mustSpill(), func(*rows) bool { return true })
}

// clearForEnd is clearConnection for the end of a transaction, which cannot be refused.
// There are rows only on a pinned connection: those of other client connections.
func (c *conn) clearForEnd(kind sqltext.Kind) {
	err := c.clearConnection(context.Background(), sqltext.Statement{Kind: kind})
	if err == nil {
		return
	}
	for c.drawn.sc.open != nil {
		c.drawn.sc.open.end(err)
	}
}

// spill spills those of the open rows that are in the way.
func (sc *serverConn) spill(ctx context.Context, limit fillLimit, inTheWay func(*rows) bool) error {
	if sc == nil {
		return nil
	}
	for r := sc.open; r != nil; {
		below := r.below // also if it fails, and leaves the list
		if inTheWay(r) {
			if err := r.spillWithin(ctx, limit); err != nil {
				return err
			}
		}
		r = below
	}
	return nil
}

// writesRows tells whether a statement does nothing but to write rows of tables.
func writesRows(st sqltext.Statement) bool {
	if st.Kind != sqltext.Write || st.Multi {
		return false
	}
	switch st.Verb {
	case "INSERT", "UPDATE", "DELETE", "REPLACE", "SELECT":
		return true
	}
	return false
}

// learnJournal opens the first connection, which learns the journal mode. Nobody has
// passed the gate before that. Others wait for it even where nobody is to wait for a
// lock: it is no other's work that they would wait for.
func (c *conn) learnJournal(op *operation, g *gate) error {
	ctx, id := op.ctx, op.id
	at := place{asked: g}
	at.hold.Owner, at.hold.With = c.ownerFor(id), c.turnLink(id.lockOwner())
	w := c.wait()
	w.Timeout = max(w.Timeout, w.Self)
	if err := g.learning.Acquire(ctx, rwlock.Exclusive, &at.hold, w); err != nil {
		return c.lockError(err, id)
	}
	defer at.leave()
	if g.wal.Load() != walUnknown {
		return nil
	}
	slot := rwlock.Hold{Owner: at.hold.Owner, With: &at.hold}
	d, err := c.pool.draw(ctx, &slot, c.waitForConn(id.user))
	if err != nil {
		return c.db.connectError(err)
	}
	defer slot.Release()
	d.giveBack()
	return nil
}

// connectFirst opens the first connection of a handle, for an operation that will have the
// gate alone, before that: to open one takes longer than most writes, and others could not
// write meanwhile. It reads, so only in WAL mode it is in no writer's way. The connection is
// the pool's until the operation has its locks. If none can be opened, the operation will
// meet the reason itself.
func (c *conn) connectFirst(ctx context.Context, g *gate, mode Mode) {
	p := c.pool
	if mode != Exclusive || p.connected.Load() || c.drawn.sc != nil || p.slots != nil || p.inner.limits.maxIdleConns == 0 {
		return
	}
	g.passers.Add(1)
	at := place{asked: g, passed: true}
	defer at.leave()
	if g.wal.Load() != walOn || !p.connected.CompareAndSwap(false, true) {
		return
	}
	if d, err := p.connect(ctx); err == nil {
		d.giveBack()
	}
}

// opened adapts the gate to the journal mode that a new connection has reported. One that
// could not tell, for example because the file is no database, leaves the gate as it
// is, and at first closed to readers beside writers. While a statement is about to
// change the mode, it is for that to say what came of it.
func (g *gate) opened(journal string) {
	if g == nil {
		return
	}
	was := g.wal.Load()
	if was == walLeaving || journal == "" && was != walUnknown {
		return
	}
	g.wal.CompareAndSwap(was, walFrom(journal))
}

func walFrom(journal string) int32 {
	if journal == "wal" {
		return walOn
	}
	return walOff
}

// setsJournal tells whether a statement may change the journal mode.
func setsJournal(st sqltext.Statement, text string) bool {
	return st.Kind == sqltext.Write && (st.Verb == "PRAGMA" || st.Multi) &&
		strings.Contains(strings.ToLower(text), "journal_mode")
}

// leavesWAL tells whether a statement that sets the journal mode asks for another
// than WAL.
func leavesWAL(text string) bool {
	_, value, _ := strings.Cut(strings.ToLower(text), "journal_mode")
	value = strings.TrimLeft(value, " \t\r\n")
	if value == "" || value[0] != '=' && value[0] != '(' {
		return false
	}
	return !strings.HasPrefix(strings.TrimLeft(value[1:], " \t\r\n'\""), "wal")
}

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
func (c *conn) clearDatabase(op *operation, h *userHold, req request, st sqltext.Statement, text string) error {
	g := c.pool.gate
	if g == nil || c.scopeOnServer() != nil || !setsJournal(st, text) || !leavesWAL(text) {
		return nil
	}
	deadline := time.Now().Add(min(c.db.lockTimeout, c.db.selfWait))
	for g.wal.Load() == walOn {
		others := c.closeOthers(op.ctx)
		if others == 0 {
			return nil
		}
		h.release()
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
	g := c.pool.gate
	own := 0
	if c.server() != nil {
		own = 1
	}
	g.wal.Store(walLeaving)
	for until := time.Now().Add(clearFor); ; {
		passers := g.passers.Load() // first: they draw connections
		if others = c.pool.database.closeIdle() - own; others == 0 && passers == 0 {
			return 0
		}
		if time.Now().After(until) || c.pause(ctx, time.Millisecond) != nil {
			g.wal.Store(walOn)
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

// afterStatement follows what a statement, which has the gate, did to the journal, be
// it that it failed. sc is nil if it did not come to be executed.
func (g *gate) afterStatement(ctx context.Context, sc *serverConn, st sqltext.Statement, text string) {
	switch {
	case g == nil || !setsJournal(st, text):
	case sc == nil:
		g.wal.CompareAndSwap(walLeaving, walOn)
	default:
		journal, _ := sc.pragma(context.WithoutCancel(ctx), "journal_mode")
		g.wal.Store(walFrom(journal))
	}
}

// unsettle is afterStatement for one that did not return: the next to come to the gate learns
// the journal mode.
func (g *gate) unsettle(st sqltext.Statement, text string) {
	if g != nil && setsJournal(st, text) {
		g.wal.Store(walUnknown)
	}
}

// afterQuery is afterStatement for one with rows, which SQLite has done with no earlier
// than these have ended.
func (g *gate) afterQuery(ctx context.Context, r *rows, st sqltext.Statement, text string) {
	if g == nil || !setsJournal(st, text) {
		return
	}
	if r.Rows != nil {
		r.fillMemory(r.conn.db.mustSpill(), func() bool { return false })
	}
	g.afterStatement(ctx, r.conn.drawn.sc, st, text)
}
