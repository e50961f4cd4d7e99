package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/calmdocs/dblocker"
)

const (
	lockTimeout = 2 * time.Second

	// slack is for what is not ours to bound: the scheduler of a busy machine, a
	// server that starts again, SQLite's busy timeout.
	slack = 20 * time.Second

	// bound is the longest that a call may take: database/sql tries up to three
	// times when connections turn out to be broken, and each try waits for a lock
	// and for a connection. A broken connection may have to wait for the server.
	bound = 3*2*lockTimeout + graceTime + slack
)

// calls watches the calls into database/sql: how long they take, and with which
// errors they end.
type calls struct {
	allowed func(error) string // of the engine

	mu         sync.Mutex // guards the fields below
	running    map[*call]bool
	ended      map[string]int // by kind of error, "ok" if there was none
	longest    time.Duration
	violations []string
}

type call struct {
	what  string
	began time.Time
}

func newCalls(allowed func(error) string) *calls {
	return &calls{allowed: allowed, running: make(map[*call]bool), ended: make(map[string]int)}
}

// do makes one call.
func (cs *calls) do(what string, f func() error) error {
	c := &call{what, time.Now()}
	cs.mu.Lock()
	cs.running[c] = true
	cs.mu.Unlock()
	err := f()
	cs.end(c, err)
	return err
}

func (cs *calls) end(c *call, err error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.running, c)
	took := time.Since(c.began)
	cs.longest = max(cs.longest, took)
	if took > bound {
		cs.violate("%s took %v, more than all its waits together may take", c.what, took)
	}
	var le *dblocker.LockError
	if errors.As(err, &le) && le.Waited > lockTimeout+slack {
		cs.violate("%s waited %v with lock_timeout=%v: %v", c.what, le.Waited, lockTimeout, err)
	}
	kind := cs.kind(err)
	if kind == "" {
		kind = "unexpected"
		cs.violate("%s failed for no reason that the faults give: %v (%T)", c.what, err, err)
	}
	cs.ended[kind]++
}

func (cs *calls) violate(format string, args ...any) {
	cs.violations = append(cs.violations, fmt.Sprintf(format, args...))
}

// kind names the reason of an error; "" if there should be none such.
func (cs *calls) kind(err error) string {
	var le *dblocker.LockError
	switch {
	case err == nil, errors.Is(err, sql.ErrTxDone):
		return "ok" // a Rollback behind a Commit, or behind the end of the context
	case errors.Is(err, dblocker.ErrDeadlock):
		return "deadlock"
	case errors.Is(err, dblocker.ErrLockTimeout):
		return "lock_timeout"
	case errors.As(err, &le):
		return "context ended while waiting"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "context ended"
	case err.Error() == "sql: database is closed":
		return "handle closed"
	}
	return cs.allowed(err)
}

// overdue returns the calls that should have returned by now.
func (cs *calls) overdue() (late []string) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for c := range cs.running {
		if took := time.Since(c.began); took > bound {
			late = append(late, fmt.Sprintf("%s has not returned for %v", c.what, took))
		}
	}
	return late
}

// take returns what was found since the last time.
func (cs *calls) take() (violations []string) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	violations, cs.violations = cs.violations, nil
	return violations
}

func (cs *calls) counts() (ended map[string]int, longest time.Duration) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return maps.Clone(cs.ended), cs.longest
}
