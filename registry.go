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
	file    os.FileInfo // of a SQLite file that existed when it was opened; else nil
	library string      // Go package of the inner driver
	users   *rwlock.Table
	all     *rwlock.Lock // the lock of all users; see LockAll
	refs    atomic.Int64 // handles and client connections; 0 is final
}

// openSpace returns the space of the database with the given identity, which it
// retains for the caller. An empty identity is a database of its own.
func openSpace(id, library string) (*space, error) {
	s := &space{id: id, file: statSQLite(id), library: library, users: rwlock.NewTable(), all: rwlock.NewLock(allUsers, 0)}
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

// isSame tells whether two spaces are of one database. A file that had not been
// made when it was first opened is looked at again.
func (s *space) isSame(other *space) bool {
	if s.id == other.id {
		return true
	}
	if s.file == nil {
		return false
	}
	file := other.file
	if file == nil {
		file = statSQLite(other.id)
	}
	return file != nil && os.SameFile(s.file, file)
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
