//go:build unix

package processes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
)

// bound is the longest that a call may take: its waits, some times over, a process that is frozen, a busy machine, and a server that
// starts again.
const bound = 60 * time.Second

// calls watches the calls into database/sql of a process: how long they take, and with which errors they end.
type calls struct {
	record *recorder

	mu      sync.Mutex // guards the fields below
	running map[*call]bool
	ended   map[string]int // by reason
}

type call struct {
	what  string
	began time.Time
}

func newCalls(r *recorder) *calls {
	return &calls{record: r, running: make(map[*call]bool), ended: make(map[string]int)}
}

// do makes one call.
func (cs *calls) do(what string, f func() error) error {
	c := &call{what, time.Now()}
	cs.mu.Lock()
	cs.running[c] = true
	cs.mu.Unlock()
	err := f()
	why := reason(err)
	if why == "" {
		cs.record.bad("%s failed for no reason that the faults give: %v (%#v)", what, err, err)
		why = "unexpected"
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.running, c)
	cs.ended[why]++
	return err
}

// watch ends the process if a call does not return.
func (cs *calls) watch() {
	for range time.Tick(time.Second) {
		for _, what := range cs.overdue() {
			cs.record.bad("%s", what)
			stacks := make([]byte, 4<<20)
			fmt.Fprintf(os.Stderr, "%s\n%s\n", what, stacks[:runtime.Stack(stacks, true)])
			os.Exit(3)
		}
	}
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

func (cs *calls) counts() map[string]int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.ended
}

func isContexts(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
