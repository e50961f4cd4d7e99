package dblocker

import (
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/gate"
	"github.com/calmdocs/dblocker/internal/rwlock"
)

// registry knows which databases this process has open through dblocker, so
// that handles on one database share its locks. Nobody looks at a file while he has
// its mutex: there may be thousands of files, and slow ones.
var registry = spaceList{byID: make(map[string]*space), byFile: make(map[fileID][]*space)}

// A spaceList finds spaces by what they are of.
type spaceList struct {
	mu     sync.Mutex // guards what follows
	byID   map[string]*space
	byFile map[fileID][]*space // those of byID that have seen a file of this ID, the oldest first

	looks atomic.Int64 // how often a file was looked at
}

// A space is what the handles on one database share. It lives as long as one of
// them, or one of their connections, does. If it has an ID, the registry has it, with
// refs > 0, but for the moment in which release removes it.
type space struct {
	id      string                      // "" is never shared
	file    atomic.Pointer[os.FileInfo] // the SQLite file last seen there, or nil; set while registry.mu is held
	library string                      // Go package of the inner driver
	users   *rwlock.Table
	gate    *gate.Gate   // that the handles of a gated dialect use
	schema  atomic.Int64 // counts the changes of its schema, as far as we see them
	all     *rwlock.Lock // the lock of all users; see LockAll
	refs    atomic.Int64 // handles and client connections; 0 is final

	untaggedRows rowsList // of readers without an owner that have the gate

	mu    sync.Mutex // guards pools
	pools []*pool    // of the open handles
}

func newSpace(id, library string) *space {
	s := &space{id: id, library: library, users: rwlock.NewTable(), all: rwlock.NewLock(allUsers, 0)}
	s.gate = gate.New(gateName(id), &s.untaggedRows)
	s.refs.Store(1)
	return s
}

// openSpace returns the space of the database with the given identity, which it
// retains for the caller. An empty identity is a database of its own.
func openSpace(id, library string) (*space, error) {
	if id == "" {
		return newSpace(id, library), nil
	}
	s, isNew := registry.open(id, library)
	if isNew {
		return s, nil
	}
	return s.join(id, library)
}

// openFile is openSpace for a SQLite file with an absolute path, which need not be resolved
// if somebody has the file open.
func openFile(path, library string) (*space, error) {
	file := statFile(path)
	registry.mu.Lock()
	s := registry.findFile(file)
	registry.mu.Unlock()
	if s != nil {
		return s.join(sqliteName+":"+path, library)
	}
	return openSpace(sqliteName+":"+resolvePath(path), library)
}

// join lets a handle of the library have the space, which is retained for it, or releases that.
func (s *space) join(id, library string) (*space, error) {
	if err := mixedSQLite(s, id, library); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

// open returns the space that is there, or else a new one, and retains it for the caller.
func (l *spaceList) open(id, library string) (s *space, isNew bool) {
	file := statSQLite(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.find(id, file); s != nil {
		return s, false
	}
	if hasOtherNames(file) {
		if s := l.search(id, file); s != nil {
			return s, false
		}
	}
	s = newSpace(id, library)
	l.byID[id] = s
	l.see(s, file)
	return s, true
}

// find returns the space of the identity, or one that has seen the file, if there is one,
// and retains it.
func (l *spaceList) find(id string, file os.FileInfo) *space {
	if s := l.byID[id]; s != nil && s.retain() {
		return s
	}
	return l.findFile(file)
}

// findFile does that for a file that has been seen.
func (l *spaceList) findFile(file os.FileInfo) *space {
	if file, ok := fileIDOf(file); ok {
		for _, s := range l.byFile[file] {
			if s.retain() {
				return s
			}
		}
	}
	return nil
}

// search is find for a file that a space may have under another name without having
// seen it: it has come to stand at the space's path since that has last looked; or files
// have no IDs here. It looks now, without the mutex, and also at those that come meanwhile.
func (l *spaceList) search(id string, file os.FileInfo) *space {
	for looked := make(map[*space]bool); ; {
		var next []*space
		for _, s := range l.byID {
			if !looked[s] {
				looked[s] = true
				next = append(next, s)
			}
		}
		if len(next) == 0 {
			return nil
		}
		l.mu.Unlock()
		i := slices.IndexFunc(next, func(s *space) bool { return s.hasSeen(file) || s.finds(file) })
		l.mu.Lock()
		if s := l.find(id, file); s != nil { // by now
			return s
		}
		if i >= 0 && next[i].retain() {
			return next[i]
		}
	}
}

// see notes that s, which is in the list, has seen the file, and no longer another.
func (l *spaceList) see(s *space, file os.FileInfo) {
	l.forget(s)
	if file == nil {
		return
	}
	s.file.Store(&file)
	if id, ok := fileIDOf(file); ok {
		l.byFile[id] = append(l.byFile[id], s)
	}
}

// forget takes s out of byFile.
func (l *spaceList) forget(s *space) {
	file := s.file.Swap(nil)
	if file == nil {
		return
	}
	if id, ok := fileIDOf(*file); ok {
		l.byFile[id] = slices.DeleteFunc(l.byFile[id], func(o *space) bool { return o == s })
		if len(l.byFile[id]) == 0 {
			delete(l.byFile, id)
		}
	}
}

// remove takes s out of the list, where another may have its identity by now.
func (l *spaceList) remove(s *space) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(s)
	if l.byID[s.id] == s {
		delete(l.byID, s.id)
	}
}

func (s *space) hasSeen(file os.FileInfo) bool {
	seen := s.file.Load()
	return seen != nil && os.SameFile(*seen, file)
}

// finds tells whether the file is what is at the path of s now.
func (s *space) finds(file os.FileInfo) bool {
	there := statSQLite(s.id)
	return there != nil && os.SameFile(there, file)
}

// look notes which file a SQLite connection, which keeps s, has been opened on.
func (s *space) look() {
	file := statSQLite(s.id)
	if file == nil || s.hasSeen(file) {
		return
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	registry.see(s, file)
}

// add and remove keep the list of the pools.
func (s *space) add(p *pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pools = append(s.pools, p)
}

func (s *space) remove(p *pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pools = slices.DeleteFunc(s.pools, func(o *pool) bool { return o == p })
}

func (s *space) openPools() []*pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pools)
}

// closeIdle closes the server connections that nobody uses, and returns how many
// are left.
func (s *space) closeIdle() (left int) {
	for _, p := range s.openPools() {
		left += p.walReader.close(false)
		db := p.inner.db()
		db.SetMaxIdleConns(0)
		left += db.Stats().OpenConnections
		db.SetMaxIdleConns(p.inner.limits.maxIdleConns)
	}
	return left
}

// retain adds a reference unless the space is already gone.
func (s *space) retain() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release drops a reference; the last one forgets the space.
func (s *space) release() {
	if s.refs.Add(-1) == 0 && s.id != "" {
		registry.remove(s)
	}
}
