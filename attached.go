package dblocker

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/rwlock"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/sqltext"
)

// A statement on a connection that has attached other files (ATTACH) may lock these too, and a
// BEGIN IMMEDIATE locks all of them. Their own handles wait at other gates. So whatever
// passes the gate of a handle passes those of all files that any connection of the handle has
// attached, all of them in one step, and holds none while it waits for another. A
// connection that has attached more than the statement knew of when it passed is given back,
// and the statement starts anew.
//
// Databases in memory and temporary ones are of one connection, or have no gate of their own.

// attachments are the files that connections of a pool have attached.
type attachments struct {
	pool *pool

	// now is nil while there are none, as with nearly every handle.
	now atomic.Pointer[gateSet]

	mu    sync.Mutex // guards what follows
	files map[string]*attachedFile
	ended bool // the pool is closed: no file stays without a connection
}

// An attachedFile stays when the last connection that has it is closed, since the next will
// attach it again: until that has been detached, or there are maxUnused like it.
type attachedFile struct {
	database *database // retained
	leave    func()    // the gate of that, where the pool is a visitor
	conns    int       // that have it
}

const maxUnused = 16

// A gateSet is the gates of some files. It never changes.
type gateSet struct {
	ids   []string // of their databases, sorted
	gates []*gate.Gate
}

// covers tells whether the set, which may be nil, has the gates of the files.
func (s *gateSet) covers(ids []string) bool {
	for _, id := range ids {
		if s == nil {
			return false
		}
		if _, found := slices.BinarySearch(s.ids, id); !found {
			return false
		}
	}
	return true
}

// without returns the gates that are not in the other set.
func (s *gateSet) without(other *gateSet) (gates []*gate.Gate) {
	for i, id := range s.ids {
		if !other.covers([]string{id}) {
			gates = append(gates, s.gates[i])
		}
	}
	return gates
}

// expect adds a file that a connection is about to attach: SQLite reads it then, for which its
// gate has to be passed too.
func (a *attachments) expect(id string) {
	if id == a.pool.database.id {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.add(id) {
		a.files[id].conns--
		a.publish()
	}
}

// disappoint drops a file that no connection has come to attach.
func (a *attachments) disappoint(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.files[id]; f != nil && f.conns == 0 {
		a.drop(id)
		a.publish()
	}
}

// look finds out which files the connection has attached.
func (a *attachments) look(ctx context.Context, sc *server.Conn) error {
	if a == nil || a.pool.gate == nil {
		return nil
	}
	list, err := sc.QueryText(ctx, "PRAGMA database_list")
	if err != nil {
		return err
	}
	schemas := make(map[string]string)
	for _, row := range list {
		if len(row) < 3 || row[1] == "main" || row[1] == "temp" || row[2] == "" {
			continue
		}
		if id := sqlite.Name + ":" + sqlite.ResolvePath(row[2]); id != a.pool.database.id {
			schemas[id] = row[1]
		}
	}
	a.change(sc, schemas)
	for id, schema := range schemas {
		if g := a.gateOf(id); g != nil {
			journal, _ := sqlite.Pragma(ctx, sc, `"`+strings.ReplaceAll(schema, `"`, `""`)+`".journal_mode`)
			g.Opened(journal)
		}
	}
	return nil
}

// change notes that the connection has these files attached, and no others.
func (a *attachments) change(sc *server.Conn, schemas map[string]string) {
	if len(schemas) == 0 && sc.Attached == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	had := sc.Attached
	sc.Attached = nil
	for id := range schemas {
		if slices.Contains(had, id) || a.add(id) {
			sc.Attached = append(sc.Attached, id)
		}
	}
	for _, id := range had {
		if !slices.Contains(sc.Attached, id) {
			a.leave(id, true)
		}
	}
	a.publish()
}

// closed notes that the connection is.
func (a *attachments) closed(sc *server.Conn) {
	if a == nil || sc.Attached == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range sc.Attached {
		a.leave(id, false)
	}
	sc.Attached = nil
	a.publish()
}

// add counts one more connection that has a file. A file that another SQLite library has open
// has no gate that would help.
func (a *attachments) add(id string) bool {
	f := a.files[id]
	if f == nil {
		d, err := openDatabase(id, a.pool.database.library)
		if err != nil {
			return false
		}
		f = &attachedFile{database: d, leave: d.gate.Register(a.pool)}
		if a.files == nil {
			a.files = make(map[string]*attachedFile)
		}
		a.files[id] = f
	}
	f.conns++
	return true
}

func (a *attachments) leave(id string, detached bool) {
	f := a.files[id]
	if f.conns--; f.conns > 0 {
		return
	}
	unused := 0
	for _, f := range a.files {
		if f.conns == 0 {
			unused++
		}
	}
	if detached || a.ended || unused > maxUnused {
		a.drop(id)
	}
}

func (a *attachments) drop(id string) {
	f := a.files[id]
	delete(a.files, id)
	f.leave()
	f.database.release()
}

func (a *attachments) publish() {
	if len(a.files) == 0 {
		a.now.Store(nil)
		return
	}
	s := new(gateSet)
	for id := range a.files {
		s.ids = append(s.ids, id)
	}
	slices.Sort(s.ids)
	for _, id := range s.ids {
		s.gates = append(s.gates, a.files[id].database.gate)
	}
	a.now.Store(s)
}

func (a *attachments) gateOf(id string) *gate.Gate {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.files[id]; f != nil {
		return f.database.gate
	}
	return nil
}

// close forgets all files when the pool is closed. Those that open connections have go with these.
func (a *attachments) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	for id, f := range a.files {
		if f.conns == 0 {
			a.drop(id)
		}
	}
	a.publish()
}

// gateNamed returns the gate of the handle, or of an attached file, that has the name; else nil.
func (p *pool) gateNamed(name string) *gate.Gate {
	if p.gate != nil && p.gate.Name() == name {
		return p.gate
	}
	if set := p.attached.now.Load(); set != nil {
		for _, g := range set.gates {
			if g.Name() == name {
				return g
			}
		}
	}
	return nil
}

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
	if sc := c.drawn.Conn; sc.Attached == nil || c.pool.gate == nil || c.gates.covers(sc.Attached) {
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
	if sc == nil || c.pool.gate == nil || !sqlite.Attaches(st, text) && (sc.Attached == nil || !setsJournal(st, text)) {
		return
	}
	if r != nil && r.Inner != nil {
		r.Fill(c.db.mustSpill(), func() bool { return false })
	}
	c.lookAttached(ctx, sc)
}

// lookAttached looks what is attached. A connection that cannot tell is not used again.
func (c *conn) lookAttached(ctx context.Context, sc *server.Conn) {
	if sc.HasFailed() || c.pool.gate == nil {
		return
	}
	if err := c.pool.attached.look(context.WithoutCancel(ctx), sc); err != nil {
		sc.Fail()
	}
}

// passMore is for a statement in a transaction that has attached files since it has passed the
// gate: it passes those of the new ones too.
func (c *conn) passMore(ctx context.Context) error {
	sc, s := c.server(), c.scopeOnServer()
	if sc == nil || s == nil || c.pool.gate == nil || sc.Attached == nil && c.expected == nil {
		return nil
	}
	in := s.conn
	if in.gates.covers(sc.Attached) && in.gates.covers(c.expected) {
		return nil
	}
	set := c.pool.attached.now.Load()
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
	req := request{kind: rwlock.Tx, mode: s.mode()}
	req.passage.More = h.Gate.AskAttached(set.without(in.gates), rwlock.Mode(req.mode))
	id := locks.Identity{Owner: s.outermost().hold.Owner}
	h.Describe(id, in.ownerFor(id), req.kind, "", &in.resident)
	if !req.passage.IsFree() {
		if err := h.TakeGate(ctx, req.passage, c.waitFor(req)); err != nil {
			return c.lockError(err, locks.Identity{})
		}
	}
	joined = true
	s.outermost().more = append(s.outermost().more, h)
	in.gates = set
	return nil
}

// expectAttached is for a statement that is about to ask for its locks. It may attach files.
func (c *conn) expectAttached(st sqltext.Statement, text string, args []driver.NamedValue) {
	if c.pool.gate == nil || !sqlite.Attaches(st, text) {
		return
	}
	for _, a := range sqltext.Attaches(text) {
		if path := sqlite.AttachedFile(a, args); path != "" {
			id := sqlite.Name + ":" + path
			c.pool.attached.expect(id)
			c.expected = append(c.expected, id)
		}
	}
}

// doneAttaching is called when a statement has ended that was expected to attach files.
func (c *conn) doneAttaching() {
	for _, id := range c.expected {
		c.pool.attached.disappoint(id)
	}
	c.expected = nil
}
