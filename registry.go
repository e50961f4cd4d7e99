package dblocker

import (
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/locks"
	"github.com/calmdocs/dblocker/internal/sqlite"
)

// registry knows which databases this process has open through dblocker, so
// that handles on one database share its locks. Nobody looks at a file while he has
// its mutex: there may be thousands of files, and slow ones.
var registry = databaseList{byID: make(map[string]*database), byFile: make(map[sqlite.FileID][]*database)}

// A databaseList finds databases by what they are of.
type databaseList struct {
	mu     sync.Mutex // guards what follows
	byID   map[string]*database
	byFile map[sqlite.FileID][]*database // those of byID that have seen a file of this ID, the oldest first
}

// A database is what the handles on one database share. It lives as long as one of
// them, or one of their connections, does. If it has an ID, the registry has it, with
// refs > 0, but for the moment in which release removes it.
type database struct {
	id      string                      // "" is never shared
	file    atomic.Pointer[os.FileInfo] // the SQLite file last seen there, or nil; set while registry.mu is held
	library string                      // Go package of the inner driver
	users   *locks.Table
	gate    *gate.Gate   // that the handles of a gated dialect use
	schema  atomic.Int64 // counts the changes of its schema, as far as we see them
	refs    atomic.Int64 // handles and client connections; 0 is final

	untaggedRows locks.RowsList // of readers without an owner that have the gate
}

func newDatabase(id, library string) *database {
	d := &database{id: id, library: library, users: locks.NewTable()}
	d.gate = gate.New(gateName(id), &d.untaggedRows)
	d.refs.Store(1)
	return d
}

// openDatabase returns the database with the given identity, which it retains for the
// caller. An empty identity is a database of its own.
func openDatabase(id, library string) (*database, error) {
	if id == "" {
		return newDatabase(id, library), nil
	}
	d, isNew := registry.open(id, library)
	if isNew {
		return d, nil
	}
	return d.join(id, library)
}

// openFile is openDatabase for a SQLite file with an absolute path, which need not be resolved
// if somebody has the file open.
func openFile(path, library string) (*database, error) {
	file := sqlite.StatFile(path)
	registry.mu.Lock()
	d := registry.findFile(file)
	registry.mu.Unlock()
	if d != nil {
		return d.join(sqlite.Name+":"+path, library)
	}
	return openDatabase(sqlite.Name+":"+sqlite.ResolvePath(path), library)
}

// join lets a handle of the library have the database, which is retained for it, or releases that.
func (d *database) join(id, library string) (*database, error) {
	if err := sqlite.Mixed(id, d.library, library); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// open returns the database that is there, or else a new one, and retains it for the caller.
func (l *databaseList) open(id, library string) (d *database, isNew bool) {
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
func (l *databaseList) find(id string, file os.FileInfo) *database {
	if d := l.byID[id]; d != nil && d.retain() {
		return d
	}
	return l.findFile(file)
}

// findFile does that for a file that has been seen.
func (l *databaseList) findFile(file os.FileInfo) *database {
	if file, ok := sqlite.FileIDOf(file); ok {
		for _, d := range l.byFile[file] {
			if d.retain() {
				return d
			}
		}
	}
	return nil
}

// search is find for a file that a database may have under another name without having
// seen it: it has come to stand at the database'd path since that has last looked; or files
// have no IDs here. It looks now, without the mutex, and also at those that come meanwhile.
func (l *databaseList) search(id string, file os.FileInfo) *database {
	for looked := make(map[*database]bool); ; {
		var next []*database
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
		i := slices.IndexFunc(next, func(d *database) bool { return d.hasSeen(file) || d.finds(file) })
		l.mu.Lock()
		if d := l.find(id, file); d != nil { // by now
			return d
		}
		if i >= 0 && next[i].retain() {
			return next[i]
		}
	}
}

// see notes that d, which is in the list, has seen the file, and no longer another.
func (l *databaseList) see(d *database, file os.FileInfo) {
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
func (l *databaseList) forget(d *database) {
	file := d.file.Swap(nil)
	if file == nil {
		return
	}
	if id, ok := sqlite.FileIDOf(*file); ok {
		l.byFile[id] = slices.DeleteFunc(l.byFile[id], func(o *database) bool { return o == d })
		if len(l.byFile[id]) == 0 {
			delete(l.byFile, id)
		}
	}
}

// remove takes d out of the list, where another may have its identity by now.
func (l *databaseList) remove(d *database) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(d)
	if l.byID[d.id] == d {
		delete(l.byID, d.id)
	}
}

func (d *database) hasSeen(file os.FileInfo) bool {
	seen := d.file.Load()
	return seen != nil && os.SameFile(*seen, file)
}

// finds tells whether the file is what is at the path of d now.
func (d *database) finds(file os.FileInfo) bool {
	there := sqlite.Stat(d.id)
	return there != nil && os.SameFile(there, file)
}

// look notes which file a SQLite connection, which keeps d, has been opened on.
func (d *database) look() {
	file := sqlite.Stat(d.id)
	if file == nil || d.hasSeen(file) {
		return
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	registry.see(d, file)
}

// retain adds a reference unless the database is already gone.
func (d *database) retain() bool {
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

// release drops a reference; the last one forgets the database.
func (d *database) release() {
	if d.refs.Add(-1) == 0 && d.id != "" {
		registry.remove(d)
	}
}
