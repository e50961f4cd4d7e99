package dblocker

import (
	"sync"
	"time"

	"github.com/calmdocs/dblocker/internal/backend"
	"github.com/calmdocs/dblocker/internal/scope"
)

// A slowReach logs waits for locks that reach beyond the process which have lasted for five seconds, while they last: of those for one lock
// one line in five seconds, for all that have lasted so long by then. While anybody waits, and a moment longer, a timer is set.
type slowReach struct {
	mu      sync.Mutex // guards what follows
	waits   map[*reachWait]slowWait
	told    map[slowLock]time.Time // when a wait for the lock was last told of
	running bool
}

// A slowWait is a wait in a slowReach. It never changes.
type slowWait struct {
	backend *backend.Backend
	ask     scope.Ask
	since   time.Time
}

// A slowLock is what is waited for.
type slowLock struct {
	user   string // "" for all users
	shared bool
}

func (w slowWait) lock() slowLock {
	if w.ask.All {
		return slowLock{"", w.ask.Shared}
	}
	return slowLock{w.ask.Users[0], w.ask.Shared}
}

const (
	slowReachAfter = 5 * time.Second
	slowReachEvery = time.Second // it is looked for them
)

// begin and end stand around a part of a wait.
func (s *slowReach) begin(c *handle, b *backend.Backend, w *reachWait, ask scope.Ask, began time.Time) {
	if w.told {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits == nil {
		s.waits, s.told = make(map[*reachWait]slowWait), make(map[slowLock]time.Time)
	}
	s.waits[w] = slowWait{b, ask, began.Add(-w.there)}
	if !s.running {
		s.running = true
		time.AfterFunc(slowReachEvery, func() { s.patrol(c) })
	}
}

func (s *slowReach) end(w *reachWait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.waits[w]; there {
		delete(s.waits, w)
	} else {
		w.told = true
	}
}

// patrol looks once.
func (s *slowReach) patrol(c *handle) {
	for lock, due := range s.due(time.Now()) {
		c.tellSlowReach(due.oldest, s.waiting(lock)+due.n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running = len(s.waits) > 0; s.running {
		time.AfterFunc(slowReachEvery, func() { s.patrol(c) })
	}
}

// A slowDue is what there is to be told of a lock.
type slowDue struct {
	oldest slowWait
	n      int // waits that have lasted so long
}

// due takes out those that have lasted for long enough, if their lock was not told of just before.
func (s *slowReach) due(now time.Time) map[slowLock]slowDue {
	s.mu.Lock()
	defer s.mu.Unlock()
	for lock, at := range s.told {
		if now.Sub(at) >= slowReachAfter {
			delete(s.told, lock)
		}
	}
	due := make(map[slowLock]slowDue)
	for w, wait := range s.waits {
		lock := wait.lock()
		if _, before := s.told[lock]; before || now.Sub(wait.since) < slowReachAfter {
			continue
		}
		d := due[lock]
		if d.n++; d.n == 1 || wait.since.Before(d.oldest.since) {
			d.oldest = wait
		}
		due[lock] = d
		delete(s.waits, w)
	}
	for lock := range due {
		s.told[lock] = now
	}
	return due
}

// waiting counts the waits for a lock that were not told of.
func (s *slowReach) waiting(lock slowLock) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, wait := range s.waits {
		if wait.lock() == lock {
			n++
		}
	}
	return n
}

// tellSlowReach logs the oldest of so many waits for one lock.
func (c *handle) tellSlowReach(oldest slowWait, waiting int) {
	inTheWay := "another process"
	p, more := c.inTheWay(oldest.backend, oldest.ask, lookTime)
	args := []any{"for", describeReach(oldest.ask), "in_the_way", inTheWay, "waiting", waiting,
		"way_out", "what the other process does under its lock has to end, or its session to be ended at the server; on a SQLite file, the process itself"}
	if p != nil {
		args[3] = describeProcess(p, more)
		args = append(args, "session", p.Session, "application", p.Name, "address", p.Address)
	}
	c.tellHeldAmong(oldest, waiting, p)
	c.logger.Warn("dblocker: a call has been waiting for "+inRound(time.Since(oldest.since)), args...)
}
