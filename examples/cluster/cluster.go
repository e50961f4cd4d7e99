package main

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/calmdocs/dblocker"
)

// A cluster is three processes at work.
type cluster struct {
	out       io.Writer
	processes []*process
	start     time.Time
}

// A process is one of them.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.Closer // to end it
	read   sync.WaitGroup
	done   map[string]int // updates that the database has confirmed, by user; to be looked at after read
	killed bool
}

func startCluster(ctx context.Context, dsn string, out io.Writer) (*cluster, error) {
	c := &cluster{out: out, start: time.Now()}
	for _, name := range []string{"A", "B", "C"} {
		p, err := startProcess(name, dsn)
		if err != nil {
			c.stop()
			return nil, err
		}
		c.processes = append(c.processes, p)
	}
	return c, nil
}

// startProcess starts this program again, to do the work.
func startProcess(name, dsn string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{name: name, cmd: exec.Command(self), done: make(map[string]int)}
	p.cmd.Env = append(os.Environ(), workerName+"="+name, workerDSN+"="+dsn)
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	confirmed, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.read.Go(func() {
		for lines := bufio.NewScanner(confirmed); lines.Scan(); {
			p.done[lines.Text()]++
		}
	})
	return p, nil
}

// watch says for the given time who has the locks of ann, and kills process B in the middle.
func (c *cluster) watch(ctx context.Context, db *sql.DB, total time.Duration) {
	half, end := time.After(total/2), time.After(total)
	for {
		select {
		case <-time.After(total / 12):
			c.showHolder(ctx, db)
		case <-half:
			c.say("process B is killed, pid %d", c.processes[1].cmd.Process.Pid)
			c.processes[1].killed = true
			c.processes[1].cmd.Process.Kill()
		case <-end:
			return
		case <-ctx.Done():
			return
		}
	}
}

// showHolder waits for ann's lock, and says meanwhile which process has it.
func (c *cluster) showHolder(ctx context.Context, db *sql.DB) {
	ctx, cancel := context.WithTimeout(dblocker.WithUser(ctx, "ann"), time.Second)
	defer cancel()
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		if _, unlock, err := dblocker.Lock(ctx, db); err == nil {
			unlock()
		}
	}()
	for !c.sayHolder(db) {
		select {
		case <-waited: // before it was seen
			return
		default:
		}
	}
	<-waited
}

// sayHolder says who in other processes has a lock that this one waits for, and reports whether anybody has.
func (c *cluster) sayHolder(db *sql.DB) (found bool) {
	holds, err := dblocker.Holds(db)
	if err != nil {
		c.say("Holds: %v", err)
		return true
	}
	for _, h := range holds {
		if h.Process != nil {
			c.say("the lock of %s: %v", h.User, h.Process)
			found = true
		}
	}
	return found
}

func (c *cluster) say(format string, args ...any) {
	fmt.Fprintf(c.out, "%4.1f s  "+format+"\n", append([]any{time.Since(c.start).Seconds()}, args...)...)
}

// stop ends all processes, and waits for them.
func (c *cluster) stop() (failed error) {
	for _, p := range c.processes {
		p.stdin.Close()
	}
	for _, p := range c.processes {
		p.read.Wait()
		if err := p.cmd.Wait(); err != nil && !p.killed {
			failed = fmt.Errorf("process %s: %w", p.name, err)
		}
	}
	return failed
}

// report compares what the processes were told with what is in the database, and returns how many updates are lost.
func (c *cluster) report(db *sql.DB) (lost int, err error) {
	fmt.Fprintf(c.out, "\n%-6s %9s %9s\n", "user", "confirmed", "counted")
	for _, user := range users {
		confirmed, counted := 0, 0
		for _, p := range c.processes {
			confirmed += p.done[user]
		}
		if err := db.QueryRow("SELECT n FROM cluster_counters WHERE name = '" + user + "'").Scan(&counted); err != nil {
			return 0, err
		}
		fmt.Fprintf(c.out, "%-6s %9d %9d\n", user, confirmed, counted)
		lost += max(confirmed-counted, 0) // one more than confirmed may be of the process that was killed
	}
	fmt.Fprintf(c.out, "\nlost updates: %d\n", lost)
	return lost, nil
}
