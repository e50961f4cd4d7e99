package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/calmdocs/dblocker"
)

// A monitor watches who is within a critical section of a user, by what the
// workers themselves say. It knows nothing of databases, so it also sees what
// their own locks would hide.
type monitor struct {
	mu         sync.Mutex // guards the fields below
	sections   map[int]map[*section]bool
	violations []string
	entered    int
}

func newMonitor() *monitor { return &monitor{sections: make(map[int]map[*section]bool)} }

// A section is a stretch of a worker's code that a lock covers: it begins after
// the lock was taken, and ends before it is given up. Since the end of ctx gives up
// the lock too, the section counts for no longer than that.
type section struct {
	user  int
	owner *owner
	mode  dblocker.Mode
	ctx   context.Context
	what  string
	until time.Time // when the lock may make way for others; zero if it lasts
}

func (s *section) String() string { return fmt.Sprintf("%s (%v)", s.what, s.mode) }

func (s *section) mayHaveMadeWay() bool { return !s.until.IsZero() && time.Now().After(s.until) }

// enter begins a section. leave, which may be called twice, ends it.
func (m *monitor) enter(s *section) (leave func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entered++
	if m.sections[s.user] == nil {
		m.sections[s.user] = make(map[*section]bool)
	}
	for other := range m.sections[s.user] {
		m.compare(s, other)
	}
	m.sections[s.user][s] = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.sections[s.user], s)
	}
}

// compare reports s and other if they exclude each other. It asks for the context of
// s last: if that has not ended by then, then s had its lock at the moment in which
// other, who is still here, had it too.
func (m *monitor) compare(s, other *section) {
	if s.owner == other.owner || s.mode == dblocker.Shared && other.mode == dblocker.Shared || s.mayHaveMadeWay() || other.mayHaveMadeWay() {
		return
	}
	if other.ctx.Err() == nil && s.ctx.Err() == nil {
		m.violations = append(m.violations, fmt.Sprintf("two are in a critical section of user %d: %v came in beside %v", s.user, s, other))
	}
}

// take returns what was found since the last time.
func (m *monitor) take() (violations []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	violations, m.violations = m.violations, nil
	return violations
}
