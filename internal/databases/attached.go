package databases

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/server"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/walsync"
)

// A statement on a connection that has attached other files (ATTACH) may lock these too, and a
// BEGIN IMMEDIATE locks all of them. Their own handles wait at other gates. So whatever
// passes the gate of a handle passes those of all files that any connection of the handle has
// attached, all of them in one step, and holds none while it waits for another. A
// connection that has attached more than the statement knew of when it passed is given back,
// and the statement starts anew.
//
// Databases in memory and temporary ones are of one connection, or have no gate of their own.

// Attached are the files that the connections of a handle have attached.
type Attached struct {
	database *Database    // of the handle
	visitor  gate.Visitor // the handle, at the gates of the files
	isGated  bool         // it passes gates; else it need not know of files
	syncs    bool         // it syncs their WALs

	// now is nil while there are none, as with nearly every handle.
	now atomic.Pointer[GateSet]

	mu    sync.Mutex // guards what follows
	files map[string]*attachedFile
	ended bool // the handle is closed: no file stays without a connection
}

// An attachedFile stays when the last connection that has it is closed, since the next will
// attach it again: until that has been detached, or there are maxUnused like it.
type attachedFile struct {
	database *Database // retained
	leave    func()    // the gate of that, where the handle is a visitor
	conns    int       // that have it
}

const maxUnused = 16

// A GateSet is the gates of some files. It never changes.
type GateSet struct {
	ids   []string // of their databases, sorted
	Gates []*gate.Gate
}

// Covers tells whether the set, which may be nil, has the gates of the files.
func (s *GateSet) Covers(ids []string) bool {
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

// Without returns the gates that are not in the other set.
func (s *GateSet) Without(other *GateSet) (gates []*gate.Gate) {
	for i, id := range s.ids {
		if !other.Covers([]string{id}) {
			gates = append(gates, s.Gates[i])
		}
	}
	return gates
}

// Open prepares for the connections of a handle on d.
func (a *Attached) Open(d *Database, v gate.Visitor, isGated bool) {
	a.database, a.visitor, a.isGated = d, v, isGated
}

// Sync has the WAL of each file opened before anything is written to that.
func (a *Attached) Sync() { a.syncs = true }

// WALs returns those of the files.
func (a *Attached) WALs(lists ...[]string) (logs []*walsync.Log) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ids := range lists {
		for _, id := range ids {
			if f := a.files[id]; f != nil && !slices.Contains(logs, &f.database.WAL) {
				logs = append(logs, &f.database.WAL)
			}
		}
	}
	return logs
}

// Expect adds a file that a connection is about to attach: SQLite reads it then, for which its
// gate has to be passed too.
func (a *Attached) Expect(id string) {
	if id == a.database.ID {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.add(id) {
		a.files[id].conns--
		a.publish()
	}
}

// Disappoint drops a file that no connection has come to attach.
func (a *Attached) Disappoint(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.files[id]; f != nil && f.conns == 0 {
		a.drop(id)
		a.publish()
	}
}

// Look finds out which files the connection has attached.
func (a *Attached) Look(ctx context.Context, sc *server.Conn) error {
	if a == nil || !a.isGated {
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
		if id := sqlite.Name + ":" + sqlite.ResolvePath(row[2]); id != a.database.ID {
			schemas[id] = row[1]
		}
	}
	a.change(sc, schemas)
	for id, schema := range schemas {
		if d := a.databaseOf(id); d != nil {
			journal, _ := sqlite.Pragma(ctx, sc, `"`+strings.ReplaceAll(schema, `"`, `""`)+`".journal_mode`)
			d.Gate.Opened(journal)
			if a.syncs {
				d.WAL.Follow() // if that is not possible, the first sync says so
			}
		}
	}
	return nil
}

// change notes that the connection has these files attached, and no others.
func (a *Attached) change(sc *server.Conn, schemas map[string]string) {
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

// Closed notes that the connection is.
func (a *Attached) Closed(sc *server.Conn) {
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

// Gates returns those of the files; nil if there are none, as a rule.
func (a *Attached) Gates() *GateSet { return a.now.Load() }

// GateNamed returns the gate of a file that has the name; else nil.
func (a *Attached) GateNamed(name string) *gate.Gate {
	if set := a.Gates(); set != nil {
		for _, g := range set.Gates {
			if g.Name() == name {
				return g
			}
		}
	}
	return nil
}

// add counts one more connection that has a file. A file that another SQLite library has open
// has no gate that would help.
func (a *Attached) add(id string) bool {
	f := a.files[id]
	if f == nil {
		d, err := Open(id, a.database.Library)
		if err != nil {
			return false
		}
		f = &attachedFile{database: d, leave: d.Gate.Register(a.visitor)}
		if a.files == nil {
			a.files = make(map[string]*attachedFile)
		}
		a.files[id] = f
	}
	f.conns++
	return true
}

func (a *Attached) leave(id string, detached bool) {
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

func (a *Attached) drop(id string) {
	f := a.files[id]
	delete(a.files, id)
	f.leave()
	f.database.Release()
}

func (a *Attached) publish() {
	if len(a.files) == 0 {
		a.now.Store(nil)
		return
	}
	s := new(GateSet)
	for id := range a.files {
		s.ids = append(s.ids, id)
	}
	slices.Sort(s.ids)
	for _, id := range s.ids {
		s.Gates = append(s.Gates, a.files[id].database.Gate)
	}
	a.now.Store(s)
}

func (a *Attached) databaseOf(id string) *Database {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.files[id]; f != nil {
		return f.database
	}
	return nil
}

// Close forgets all files when the handle is closed. Those that open connections have go with these.
func (a *Attached) Close() {
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
