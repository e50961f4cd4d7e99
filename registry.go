package dblocker

import (
	"fmt"
	"slices"
	"strings"
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
	id      string // "" is never shared
	library string // Go package of the inner driver
	users   *rwlock.Table
	refs    atomic.Int64 // handles and client connections; 0 is final
}

// openSpace returns the space of the database with the given identity, which it
// retains for the caller. An empty identity is a database of its own.
func openSpace(id, library string, d *dialect) (*space, error) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	for _, s := range registry.spaces {
		if !s.is(id, d) || !s.retain() {
			continue
		}
		if d == sqlite && s.library != library {
			s.refs.Add(-1)
			return nil, fmt.Errorf("dblocker: the SQLite file %q is already open in this process through %s; "+
				"a second SQLite library, %s, would break SQLite's file locks (https://www.sqlite.org/howtocorrupt.html): use one driver for both handles",
				strings.TrimPrefix(id, d.name+":"), s.library, library)
		}
		return s, nil
	}
	s := &space{id: id, library: library, users: rwlock.NewTable()}
	s.refs.Store(1)
	if id != "" {
		registry.spaces = append(registry.spaces, s)
	}
	return s, nil
}

// is tells whether s is the space of the database with the given identity.
func (s *space) is(id string, d *dialect) bool {
	if id == "" || s.id == "" {
		return false
	}
	if s.id == id {
		return true
	}
	if d != sqlite {
		return false
	}
	prefix := d.name + ":"
	file, ok := strings.CutPrefix(s.id, prefix)
	return ok && sameSQLiteFile(file, strings.TrimPrefix(id, prefix))
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
