//go:build linux || darwin

package bytelock

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain runs the tests, or is another process that a test has started.
func TestMain(m *testing.M) {
	if database := os.Getenv("BYTELOCK_TEST_DATABASE"); database != "" {
		os.Exit(serveCommands(database))
	}
	os.Exit(m.Run())
}

// A process is another one, that does what it is told line by line.
type process struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startProcess(t testing.TB, database string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), "BYTELOCK_TEST_DATABASE="+database)
	p.cmd.Stderr = os.Stderr
	p.in, _ = p.cmd.StdinPipe()
	out, _ := p.cmd.StdoutPipe()
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	return p
}

// tell has it do something, and returns when it has.
func (p *process) tell(command ...any) string {
	p.t.Helper()
	p.begin(command...)
	return p.answer()
}

func (p *process) begin(command ...any) { fmt.Fprintln(p.in, command...) }

func (p *process) answer() string {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("the other process has ended: %v", p.out.Err())
	}
	if text, failed := strings.CutPrefix(p.out.Text(), "error "); failed {
		p.t.Fatal("the other process: ", text)
	}
	return p.out.Text()
}

// serveCommands is the other process.
func serveCommands(database string) int {
	f, err := Open(database)
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	c := &commands{file: f, held: make(map[string]*Lock), stop: make(chan struct{})}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		answer, err := c.run(strings.Fields(in.Text()))
		if err != nil {
			answer = "error " + err.Error()
		}
		fmt.Println(answer)
	}
	return 0
}

type commands struct {
	file *File
	held map[string]*Lock
	stop chan struct{}
	load sync.WaitGroup
	done atomic.Int64
}

func (c *commands) run(words []string) (answer string, err error) {
	ctx := context.Background()
	switch words[0] {
	case "lock": // user, mode
		c.held[words[1]], err = c.file.Acquire(ctx, KeyOf("", words[1]), modeNamed(words[2]))
	case "lockall":
		c.held["all"], err = c.file.AcquireAll(ctx)
	case "unlock": // user
		c.held[words[1]].Release()
	case "count": // file, times, user
		err = c.count(words[1], number(words[2]), words[3])
	case "load": // users, workers, mode, microseconds: until stop
		c.begin(number(words[1]), number(words[2]), modeNamed(words[3]), time.Duration(number(words[4]))*time.Microsecond)
	case "hot": // file, which of two, milliseconds, microseconds, cancelled
		return c.hot(words[1], number(words[2]), time.Duration(number(words[3]))*time.Millisecond, time.Duration(number(words[4]))*time.Microsecond, words[5] == "true")
	case "stop":
		close(c.stop)
		c.load.Wait()
	case "done":
		return strconv.FormatInt(c.done.Load(), 10), nil
	}
	return "ok", err
}

// count counts in a file in several goroutines, with the user's lock if there is one.
func (c *commands) count(file string, times int, user string) error {
	const workers = 4
	errs := make(chan error, workers)
	for range workers {
		go func() {
			errs <- countAlone(file, times/workers, func() (func(), error) {
				if user == "nobody" {
					return func() {}, nil
				}
				l, err := c.file.Acquire(context.Background(), KeyOf("", user), Exclusive)
				return l.Release, err
			})
		}()
	}
	var failed error
	for range workers {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	return failed
}

// begin has workers take and release locks of random users until the stop.
func (c *commands) begin(users, workers int, m Mode, work time.Duration) {
	c.load.Add(workers)
	for i := range workers {
		go func() {
			defer c.load.Done()
			loadUntil(c.file, c.stop, users, uint64(i), m, work, &c.done)
		}()
	}
}

func modeNamed(name string) Mode {
	if name == "shared" {
		return Shared
	}
	return Exclusive
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}
