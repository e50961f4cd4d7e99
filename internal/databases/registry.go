// Package databases knows which databases the process has open, and which files connections have attached
// to them: what handles on one database share, their locks above all.
package databases

import (
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/scope"
	"github.com/calmdocs/dblocker/internal/sqlite"
	"github.com/calmdocs/dblocker/internal/walsync"
)

// GateNamePrefix begins the names of all gates.
const GateNamePrefix = "the gate of the SQLite database"

// gateName is the name of the gate of the database of that identity.
func gateName(id string) string {
	if path, ok := strings.CutPrefix(id, sqlite.Name+":"); ok {
		return GateNamePrefix + " " + path
	}
	return GateNamePrefix
}

// registry knows which databases this process has open through dblocker, so
// that handles on one database share its locks. Nobody looks at a file while he has
// its mutex: there may be thousands of files, and slow ones.
var registry = list{byID: make(map[string]*Database), byFile: make(map[sqlite.FileID][]*Database)}

// A list finds databases by what they are of.
type list struct {
	mu     sync.Mutex // guards what follows
	byID   map[string]*Database
	byFile map[sqlite.FileID][]*Database // those of byID that have seen a file of this ID, the oldest first
}

// A Database is what the handles on one database share. It lives as long as one of
// them, or one of their connections, does. If it has an ID, the registry has it, with
// refs > 0, but for the moment in which Release removes it.
type Database struct {
	ID      string                      // "" is never shared
	file    atomic.Pointer[os.FileInfo] // the SQLite file last seen there, or nil; set while registry.mu is held
	Library string                      // Go package of the inner driver
	Scope   scope.Table                 // what the process has of the engine's locks, if these reach beyond it
	Gate    *gate.Gate                  // that the handles of a gated engine use
	WAL     walsync.Log                 // of its file
	Schema  atomic.Int64                // counts the changes of its schema, as far as we see them
	refs    atomic.Int64                // handles and client connections; 0 is final

	usersOnce sync.Once
	users     *locks.Table // see Users

	lockFile lockFile // beside it

	FirstClosed  atomic.Uint32  // handles that have closed an unused client connection
	UntaggedRows locks.RowsList // of readers without an owner that have the gate
}

// Users returns the users' locks. Where each user has a database, all use those of one that is nobody's, so the others have none.
func (d *Database) Users() *locks.Table {
	d.usersOnce.Do(func() { d.users = locks.NewTable() })
	return d.users
}

func newDatabase(id, library string) *Database {
	d := &Database{ID: id, Library: library}
	d.Gate = gate.New(gateName(id), &d.UntaggedRows)
	if path, ok := strings.CutPrefix(id, sqlite.Name+":"); ok && !sqlite.InMemory(path) {
		d.WAL.Place(path)
		d.lockFile.path = path
		d.Gate.ReachBy(d.lockFile.whenThere)
	}
	d.refs.Store(1)
	return d
}

// Open returns the database with the given identity, which it retains for the
// caller. An empty identity is a database of its own.
func Open(id, library string) (*Database, error) {
	if id == "" {
		return newDatabase(id, library), nil
	}
	d, isNew := registry.open(id, library)
	if isNew {
		return d, nil
	}
	return d.join(id, library)
}

// OpenFile is Open for a SQLite file with an absolute path, which need not be resolved
// if somebody has the file open.
func OpenFile(path, library string) (*Database, error) {
	file := sqlite.StatFile(path)
	registry.mu.Lock()
	d := registry.findFile(file)
	registry.mu.Unlock()
	if d != nil {
		return d.join(path, library)
	}
	return Open(sqlite.Name+":"+sqlite.ResolvePath(path), library)
}

// join lets a handle of the library have the database, which is retained for it, or releases that.
func (d *Database) join(name, library string) (*Database, error) {
	if err := sqlite.Mixed(name, d.Library, library); err != nil {
		d.Release()
		return nil, err
	}
	return d, nil
}

// open returns the database that is there, or else a new one, and retains it for the caller.
func (l *list) open(id, library string) (d *Database, isNew bool) {
	file := sqlite.Stat(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.find(id, file); d != nil {
		return d, false
	}
	if sqlite.HasOtherNames(file) {
		if d := l.search(id, file); d != nil {
			return d, false
		}
	}
	d = newDatabase(id, library)
	l.byID[id] = d
	l.see(d, file)
	return d, true
}

// find returns the database of the identity, or one that has seen the file, if there is one,
// and retains it.
func (l *list) find(id string, file os.FileInfo) *Database {
	if d := l.byID[id]; d != nil && d.Retain() {
		return d
	}
	return l.findFile(file)
}

// findFile does that for a file that has been seen.
func (l *list) findFile(file os.FileInfo) *Database {
	if file, ok := sqlite.FileIDOf(file); ok {
		for _, d := range l.byFile[file] {
			if d.Retain() {
				return d
			}
		}
	}
	return nil
}

// search is find for a file that a database may have under another name without having
// seen it: it has come to stand at the database'd path since that has last looked; or files
// have no IDs here. It looks now, without the mutex, and also at those that come meanwhile.
func (l *list) search(id string, file os.FileInfo) *Database {
	for looked := make(map[*Database]bool); ; {
		var next []*Database
		for _, d := range l.byID {
			if !looked[d] {
				looked[d] = true
				next = append(next, d)
			}
		}
		if len(next) == 0 {
			return nil
		}
		l.mu.Unlock()
		i := slices.IndexFunc(next, func(d *Database) bool { return d.hasSeen(file) || d.finds(file) })
		l.mu.Lock()
		if d := l.find(id, file); d != nil { // by now
			return d
		}
		if i >= 0 && next[i].Retain() {
			return next[i]
		}
	}
}

// see notes that d, which is in the list, has seen the file, and no longer another.
func (l *list) see(d *Database, file os.FileInfo) {
	l.forget(d)
	if file == nil {
		return
	}
	d.file.Store(&file)
	if id, ok := sqlite.FileIDOf(file); ok {
		l.byFile[id] = append(l.byFile[id], d)
	}
}

// forget takes d out of byFile.
func (l *list) forget(d *Database) {
	file := d.file.Swap(nil)
	if file == nil {
		return
	}
	if id, ok := sqlite.FileIDOf(*file); ok {
		l.byFile[id] = slices.DeleteFunc(l.byFile[id], func(o *Database) bool { return o == d })
		if len(l.byFile[id]) == 0 {
			delete(l.byFile, id)
		}
	}
}

// Each calls f for all databases of the process, which nobody else can look for meanwhile.
func Each(f func(*Database)) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	for _, d := range registry.byID {
		f(d)
	}
}

// remove takes d out of the list, where another may have its identity by now.
func (l *list) remove(d *Database) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(d)
	if l.byID[d.ID] == d {
		delete(l.byID, d.ID)
	}
}

func (d *Database) hasSeen(file os.FileInfo) bool {
	seen := d.file.Load()
	return seen != nil && os.SameFile(*seen, file)
}

// finds tells whether the file is what is at the path of d now.
func (d *Database) finds(file os.FileInfo) bool {
	there := sqlite.Stat(d.ID)
	return there != nil && os.SameFile(there, file)
}

// Look notes which file a SQLite connection, which keeps d, has been opened on.
func (d *Database) Look() {
	file := sqlite.Stat(d.ID)
	if file == nil || d.hasSeen(file) {
		return
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	registry.see(d, file)
}

// InUse returns how many handles and client connections retain it.
func (d *Database) InUse() int64 { return d.refs.Load() }

// Retain adds a reference unless the database is already gone.
func (d *Database) Retain() bool {
	for {
		n := d.refs.Load()
		if n == 0 {
			return false
		}
		if d.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release drops a reference; the last one forgets the database.
func (d *Database) Release() {
	if d.refs.Add(-1) > 0 {
		return
	}
	if d.ID != "" {
		registry.remove(d)
	}
	d.WAL.Close()
	d.lockFile.close()
}
