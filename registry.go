package dblocker

import (
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

// registry knows which databases this process has open through dblocker, so
// that handles on one database share its locks.
var registry struct {
	mu     sync.Mutex // guards spaces
	spaces []*space   // each with refs > 0, but for the moment in which release removes it
}

// A space is what the handles on one database share. It lives as long as one of
// them, or one of their connections, does.
type space struct {
	id      string      // "" is never shared
	file    os.FileInfo // the SQLite file last seen there, or nil; guarded by registry.mu
	library string      // Go package of the inner driver
	users   *rwlock.Table
	gate    *gate        // that the handles of a gated dialect use
	pools   []*pool      // of the open handles; guarded by registry.mu
	schema  atomic.Int64 // counts the changes of its schema, as far as we see them
	all     *rwlock.Lock // the lock of all users; see LockAll
	refs    atomic.Int64 // handles and client connections; 0 is final
}

// openSpace returns the space of the database with the given identity, which it
// retains for the caller. An empty identity is a database of its own.
func openSpace(id, library string) (*space, error) {
	s := &space{id: id, file: statSQLite(id), library: library, users: rwlock.NewTable(), all: rwlock.NewLock(allUsers, 0), gate: newGate(id)}
	s.refs.Store(1)
	if id == "" {
		return s, nil
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	for _, other := range registry.spaces {
		if !s.isSame(other) {
			continue
		}
		if err := mixedSQLite(other, s); err != nil {
			return nil, err
		}
		if other.retain() {
			return other, nil
		}
	}
	registry.spaces = append(registry.spaces, s)
	return s, nil
}

// isSame tells whether the new space s is of the same database as other. A file
// may have been made, replaced or renamed since other looked: what is there now
// counts, and what other's connections have open.
func (s *space) isSame(other *space) bool {
	if s.id == other.id {
		return true
	}
	if s.file == nil {
		return false
	}
	for _, file := range []os.FileInfo{other.file, statSQLite(other.id)} {
		if file != nil && os.SameFile(s.file, file) {
			return true
		}
	}
	return false
}

// look notes which file a SQLite connection has been opened on.
func (s *space) look() {
	if file := statSQLite(s.id); file != nil {
		registry.mu.Lock()
		s.file = file
		registry.mu.Unlock()
	}
}

// add and remove keep the list of the pools.
func (s *space) add(p *pool) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	s.pools = append(s.pools, p)
}

func (s *space) remove(p *pool) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	s.pools = slices.DeleteFunc(s.pools, func(o *pool) bool { return o == p })
}

func (s *space) openPools() []*pool {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	return slices.Clone(s.pools)
}

// closeIdle closes the server connections that nobody uses, and returns how many
// are left.
func (s *space) closeIdle() (left int) {
	for _, p := range s.openPools() {
		p.walReader.close(false)
		p.db.SetMaxIdleConns(0)
		left += p.db.Stats().OpenConnections
		p.db.SetMaxIdleConns(p.maxIdleConns)
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
	if s.refs.Add(-1) > 0 {
		return
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	registry.spaces = slices.DeleteFunc(registry.spaces, func(o *space) bool { return o == s })
}
