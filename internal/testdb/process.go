package testdb

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A process is one run of a cluster's server.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process, its children and its pid file are gone
}

// startProcess starts the server. Its log is a file: a pipe that it holds would keep "go test" waiting for its end.
func startProcess(c *cluster, argv []string) (*process, error) {
	log, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	children, inherited, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inherited.Close()
	cmd := c.program(argv...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{inherited}
	if err := cmd.Start(); err != nil {
		children.Close()
		return nil, err
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go p.reap(c, children)
	return p, nil
}

// reaper is reap's name for the leak check.
const reaper = "github.com/calmdocs/dblocker/internal/testdb.(*process).reap"

// reap waits for the end of the process and of its children: those of a killed PostgreSQL still answer for a moment. All of
// them hold the other end of the pipe.
func (p *process) reap(c *cluster, children *os.File) {
	io.Copy(io.Discard, children)
	children.Close()
	p.cmd.Wait()
	c.ended()
	close(p.exited)
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// stopTimeout is how long a server may take to shut down. It is generous, as startTimeout is.
const stopTimeout = 2 * time.Minute

// end signals the process and waits for its end.
func (p *process) end(sig syscall.Signal) error {
	p.cmd.Process.Signal(sig) // fails only if the process has ended
	select {
	case <-p.exited:
		return nil
	case <-time.After(stopTimeout):
		p.cmd.Process.Kill()
		return fmt.Errorf("server or its children did not end within %v of signal %v; killed", stopTimeout, sig)
	}
}
