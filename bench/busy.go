package main

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
)

// busyProcesses are as many as work beside a comparison that is to be busy.
const busyProcesses = 2

// spinning says in the environment that the process is one of these.
const spinning = "DBLOCKER_BENCH_SPINNING"

// spinIfTold makes the process spin, if it was started for that, until the one that has started it closes the pipe, or ends
// in whatever way.
func spinIfTold() {
	if os.Getenv(spinning) == "" {
		return
	}
	signal.Ignore(os.Interrupt) // which is for the one that has started it
	go func() {
		for sum := sha256.Sum256(nil); ; sum = sha256.Sum256(sum[:]) {
		}
	}()
	fmt.Println("spinning")
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// A busyProcess is a program that takes one processor.
type busyProcess struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser // which nobody else has
}

// spin starts processes, and returns when they spin.
func spin(n int) (stop func() error, err error) {
	var all []busyProcess
	stop = func() error {
		var errs []error
		for _, p := range all {
			errs = append(errs, p.pipe.Close(), p.cmd.Wait())
		}
		return errors.Join(errs...)
	}
	for range n {
		p, err := startBusy()
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		all = append(all, p)
	}
	return stop, nil
}

func startBusy() (p busyProcess, err error) {
	self, err := os.Executable()
	if err != nil {
		return p, err
	}
	p.cmd = exec.Command(self)
	p.cmd.Env = append(os.Environ(), spinning+"=yes")
	p.cmd.Stderr = os.Stderr
	if p.pipe, err = p.cmd.StdinPipe(); err != nil {
		return p, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return p, err
	}
	if err := p.cmd.Start(); err != nil {
		return p, err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		p.pipe.Close()
		return p, errors.Join(fmt.Errorf("a busy process has not begun: %w", err), p.cmd.Wait())
	}
	return p, nil
}
