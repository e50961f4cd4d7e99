//go:build unix

package processes

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A child is a process that the test has started.
type child struct {
	task  task
	cmd   *exec.Cmd
	stdin io.Closer
	write func(string)
	lines chan string // that it says
	errs  bytes.Buffer
	ended chan struct{} // closed when it has
	err   error         // with which it has ended
	proxy *proxy        // that it is connected by; nil if there is none
}

// start starts a process, which ends with the test.
func start(t testing.TB, k task) *child {
	t.Helper()
	text, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{task: k, lines: make(chan string, 100), ended: make(chan struct{})}
	c.cmd = exec.Command(os.Args[0])
	// The race detector would sleep for a second at the end of each.
	c.cmd.Env = append(os.Environ(), taskEnv+"="+string(text), "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	c.cmd.Stderr = &c.errs
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdin, c.write = stdin, func(s string) { io.WriteString(stdin, s) }
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		defer close(c.lines)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			c.lines <- s.Text()
		}
		c.err = c.cmd.Wait()
	}()
	t.Cleanup(func() { c.kill() })
	return c
}

func (c *child) signal(s syscall.Signal) { c.cmd.Process.Signal(s) }

// kill ends it as a crash would, also if it is frozen, and returns when it has ended.
func (c *child) kill() {
	c.signal(syscall.SIGKILL)
	<-c.ended
	c.stdin.Close()
}

// hear waits for a line that it says.
func (c *child) hear(t testing.TB, want string, patience time.Duration) bool {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				t.Errorf("process %d has ended (%v) before it said %q: %s", c.task.Number, c.cmd.ProcessState, want, tail(c.errs.String()))
				return false
			}
			if line == want {
				return true
			}
			t.Logf("process %d: %s", c.task.Number, line)
		case <-deadline:
			t.Errorf("process %d has not said %q for %v", c.task.Number, want, patience)
			return false
		}
	}
}

func tail(s string) string { return s[max(0, len(s)-20000):] }

// A crew is the processes of a round.
type crew struct {
	*world
	role     string
	options  []string // by turns, of the processes
	dir      string
	seed     uint64
	living   []*child
	proxies  []*proxy // of the first of them
	started  int
	released []func() // what proxies have swallowed
}

// crewSize is how many processes work at the same time.
const crewSize = 4

func (w *world) newCrew(seed uint64, role string, options ...string) *crew {
	c := &crew{world: w, role: role, options: options, dir: w.t.TempDir(), seed: seed}
	if w.server != nil {
		for range crewSize / 2 {
			c.proxies = append(c.proxies, newProxy(w.t, w.server.Addr()))
		}
	}
	for i := range crewSize {
		c.living = append(c.living, c.start(i))
	}
	return c
}

// start starts a process in a place of the crew.
func (c *crew) start(place int) *child {
	k := task{Engine: c.engine.name, Role: c.role, Number: c.started, Seed: c.seed*1000 + uint64(c.started)}
	k.Options = c.options[place%len(c.options)]
	k.File = filepath.Join(c.dir, fmt.Sprintf("%03d", c.started))
	c.started++
	var through *proxy
	if place < len(c.proxies) {
		through = c.proxies[place]
	}
	k.Driver = c.engine.drivers[place/2%len(c.engine.drivers)]
	if c.engine.server != nil && len(c.engine.drivers) > 1 {
		k.Driver = c.engine.drivers[place%len(c.engine.drivers)] // one of each has a proxy
	}
	k.DSN = c.dsn(k.Driver, through)
	child := start(c.t, k)
	child.proxy = through
	return child
}

// replace kills a process and starts another in its place.
func (c *crew) replace(place int) {
	c.living[place].kill()
	c.living[place] = c.start(place)
}

// finish lets the processes end their work, looks that nothing is left of it while they live, and ends them.
func (c *crew) finish() (violations []string) {
	for _, child := range c.living {
		child.write("stop\n")
	}
	for _, child := range c.living {
		if !child.hear(c.t, "idle", bound+settle+30*time.Second) {
			return []string{fmt.Sprintf("process %d has not ended its work", child.task.Number)}
		}
	}
	for _, release := range c.released {
		release()
	}
	violations = append(violations, c.lookAtLocks()...)
	for _, child := range c.living {
		child.write("end\n")
		<-child.ended
		if child.err != nil {
			violations = append(violations, fmt.Sprintf("process %d has ended with %v: %s", child.task.Number, child.err, tail(child.errs.String())))
		}
	}
	return violations
}

// history is what all of them have done.
func (c *crew) history() *history {
	h := newHistory()
	for i := range c.started {
		path := filepath.Join(c.dir, fmt.Sprintf("%03d", i))
		events, err := read(path)
		if os.IsNotExist(err) {
			continue // it was killed before it began
		}
		if err != nil {
			c.t.Fatal(err)
		}
		h.add(events)
	}
	return h
}
